from pathlib import Path

import pytest

from src.errors import CorruptFileError
from src.lineage.compare import Comparison, Row, compare
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError
from tests.examples import DATA_SHA256
from tests.hostile import KINDS, put
from tests.lineage.damage import EVALUATION, REGISTRY, STATEMENT, edit, read_json, remove, write
from tests.trainers import CONFIG_PATH, write_config, write_module


def values(comparison, **options):
    return {(row.section, row.name): row.values for row in comparison.rows(**options)}


def test_only_differing_properties_are_shown_section_by_section(models):
    found = values(compare("model_v1", "model_v2", artifacts_dir=models.root))
    assert list(found) == [
        ("config", "dataset_version"),
        ("config", "epochs"),
        ("data", "sha256"),
        ("metrics", "cost_per_1k_tokens"),
        ("metrics", "latency_ms"),
        ("metrics", "quality_score"),
    ]
    assert found["config", "epochs"] == (3, 4)
    assert found["data", "sha256"][0] == DATA_SHA256
    assert found["metrics", "quality_score"][0] == 0.9031


def test_with_everything_equal_properties_are_shown_too(models):
    comparison = compare("model_v1", "model_v2", artifacts_dir=models.root)
    found = values(comparison, everything=True)
    assert found["config", "batch_size"] == (16, 16)
    assert found["data", "num_training_samples"] == (3, 3)
    assert ("code", "core sha256") in found
    assert ("environment", "python") in found
    assert ("environment", "filelock") in found


def test_models_are_shown_in_the_order_of_the_arguments(models):
    run_training_pipeline("one.yaml", "model_v3", artifacts_dir=models.root)
    comparison = compare("model_v3", "model_v1", "model_v2", artifacts_dir=models.root)
    assert comparison.models == ("model_v3", "model_v1", "model_v2")
    assert values(comparison)["config", "epochs"] == (3, 3, 4)


def test_a_property_that_one_model_does_not_record_differs(models):
    remove(models, STATEMENT)
    remove(models, EVALUATION)
    found = values(compare("model_v1", "model_v2", artifacts_dir=models.root))
    assert found["data", "sha256"][0] is None
    assert found["metrics", "latency_ms"][0] is None


def test_an_unregistered_model_is_compared_by_its_files(models):
    edit(models, REGISTRY, "models", value=read_json(models, REGISTRY)["models"][1:])
    comparison = compare("model_v1", "model_v2", artifacts_dir=models.root)
    assert values(comparison)["config", "epochs"] == (3, 4)


def test_an_evaluation_without_metrics_has_none(models):
    write(models, EVALUATION, b"{}")
    comparison = compare("model_v1", "model_v2", artifacts_dir=models.root)
    assert values(comparison)["metrics", "latency_ms"][0] is None


def test_fewer_than_two_models_are_refused(models):
    with pytest.raises(ValueError, match=r"^expected two or more model versions, found 1\.$"):
        compare("model_v1", artifacts_dir=models.root)


def test_a_missing_model_raises_an_error_that_names_the_nearest(models):
    with pytest.raises(ModelNotFoundError) as caught:
        compare("model_v1", "model_v9", artifacts_dir=models.root)
    assert str(caught.value) == (
        "artifacts/models: no model 'model_v9'. Nearest: model_v2, model_v1."
    )


def test_a_file_that_cannot_be_parsed_raises_an_error_that_names_it(models):
    write(models, STATEMENT, b"{}")
    with pytest.raises(CorruptFileError) as caught:
        compare("model_v1", "model_v2", artifacts_dir=models.root)
    assert str(caught.value) == (
        "artifacts/models/model_v1/provenance.json: _type: expected text, found nothing. "
        "Left as found."
    )


# --- Its forms -----------------------------------------------------------------------------------


COMPARISON = Comparison(
    models=("a", "b"),
    every_row=(
        Row(section="config", name="epochs", values=(3, 4)),
        Row(section="config", name="base_model", values=("x|y", None)),
        Row(section="metrics", name="quality_score", values=(0.5, 0.5)),
    ),
)


def test_the_markdown_form_is_a_table():
    assert COMPARISON.to_markdown() == (
        "|  |  | a | b |\n"
        "| --- | --- | --- | --- |\n"
        "| config | epochs | 3 | 4 |\n"
        "| config | base_model | x\\|y | - |\n"
    )
    assert COMPARISON.to_markdown(everything=True).endswith(
        "| metrics | quality_score | 0.5 | 0.5 |\n"
    )


def test_the_markdown_form_is_one_sentence_if_nothing_differs():
    assert Comparison(models=("a", "b"), every_row=()).to_markdown() == (
        "No difference between a, b.\n"
    )


def test_the_json_form_has_the_rows():
    assert COMPARISON.to_dict() == {
        "models": ["a", "b"],
        "rows": [
            {"section": "config", "name": "epochs", "values": [3, 4]},
            {"section": "config", "name": "base_model", "values": ["x|y", None]},
        ],
    }
    assert len(COMPARISON.to_dict(everything=True)["rows"]) == 3


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (True, 1), (None, ""), ("1", 1)])
def test_values_of_different_types_differ(one, other):
    assert Row(section="config", name="epochs", values=(one, other)).differs


# --- Trainings -----------------------------------------------------------------------------------


MODULE = """
def train(run):
    for step, loss in enumerate(run.options["losses"], start=1):
        run.log(step, loss=loss)
    (run.output / "w").write_text("1")
"""
HISTORY = Path("artifacts/models/b/training.jsonl")


@pytest.fixture
def trainings(project):
    """Models `a` and `b`, whose losses differ, and `c`, of which nothing was trained."""
    write_module(MODULE)
    for version, losses in [("a", [5.3, 4.0, 2.11]), ("b", [5.3, None, "x", 3.0, 2.5, 2.0])]:
        write_config({"use": "mine:train", "options": {"losses": losses}})
        run_training_pipeline(CONFIG_PATH, version)
    run_training_pipeline(write_config(path="simulated.yaml"), "c")


def test_the_losses_of_trainings_are_sparklines_and_points(trainings):
    comparison = compare("a", "b", "c")
    assert values(comparison)["training", "loss"] == (
        "5.30 █▅▁ 2.11",
        "5.30 █▃▂▁ 2.00",
        None,
    )
    assert comparison.losses == (
        ((1, 5.3), (2, 4.0), (3, 2.11)),
        ((1, 5.3), (4, 3.0), (5, 2.5), (6, 2.0)),
        (),
    )


def test_the_options_of_trainers_are_properties(trainings):
    found = values(compare("a", "b"))
    assert found["trainer", "options.losses"] == (
        [5.3, 4.0, 2.11],
        [5.3, None, "x", 3.0, 2.5, 2.0],
    )


def test_equal_losses_are_shown_with_everything_only(trainings):
    assert ("training", "loss") not in values(compare("a", "a"))
    assert ("training", "loss") in values(compare("a", "a"), everything=True)
    assert ("training", "loss") not in values(compare("c", "c"), everything=True)


@pytest.mark.parametrize("kind", [*KINDS, "nothing", "other losses"])
def test_a_history_that_is_not_as_recorded_is_not_drawn_and_stops_nothing(trainings, kind):
    if kind == "nothing":
        HISTORY.unlink()
    elif kind == "other losses":
        HISTORY.write_bytes(HISTORY.read_bytes().replace(b"2.0", b"0.1"))
    else:
        put(kind, HISTORY)
    comparison = compare("a", "b")
    shown = values(comparison)["training", "loss"]
    assert shown == ("5.30 █▅▁ 2.11", "not as recorded; see llm-train verify")
    assert comparison.losses == (((1, 5.3), (2, 4.0), (3, 2.11)), ())
