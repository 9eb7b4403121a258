import json
from pathlib import Path

import pytest

from src.lineage.compare import Comparison, Row, as_text, compare
from src.storage import CorruptFileError
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError

DATA_SHA256 = "0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143"


def values(comparison, **options):
    return {(row.section, row.name): row.values for row in comparison.rows(**options)}


def test_only_what_differs_is_shown_section_by_section(models):
    found = values(compare("model_v1", "model_v2"))
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


def test_with_everything_what_is_the_same_is_shown_too(models):
    found = values(compare("model_v1", "model_v2"), everything=True)
    assert found["config", "batch_size"] == (16, 16)
    assert found["data", "num_samples"] == (3, 3)
    assert ("code", "core sha256") in found
    assert ("environment", "python") in found
    assert ("environment", "filelock") in found


def test_models_are_shown_in_the_order_asked_for(models):
    run_training_pipeline("one.yaml", "model_v3")
    comparison = compare("model_v3", "model_v1", "model_v2")
    assert comparison.models == ("model_v3", "model_v1", "model_v2")
    assert values(comparison)["config", "epochs"] == (3, 3, 4)


def test_what_is_not_recorded_of_one_model_differs_from_what_is(models):
    Path("artifacts/models/model_v1/provenance.json").unlink()
    Path("artifacts/evaluations/model_v1/evaluation.json").unlink()
    found = values(compare("model_v1", "model_v2"))
    assert found["data", "sha256"][0] is None
    assert found["metrics", "latency_ms"][0] is None


def test_a_model_that_is_not_registered_is_compared_by_its_files(models):
    path = Path("artifacts/models/registry.json")
    path.write_text(json.dumps({"models": json.loads(path.read_bytes())["models"][1:]}))
    assert values(compare("model_v1", "model_v2"))["config", "epochs"] == (3, 4)


def test_an_evaluation_without_metrics_gives_none(models):
    Path("artifacts/evaluations/model_v1/evaluation.json").write_text("{}")
    assert values(compare("model_v1", "model_v2"))["metrics", "latency_ms"][0] is None


def test_fewer_than_two_models_are_refused(models):
    with pytest.raises(ValueError, match=r"^expected two or more model versions, found 1\.$"):
        compare("model_v1")


def test_a_model_that_nothing_knows_is_named(models):
    with pytest.raises(ModelNotFoundError) as caught:
        compare("model_v1", "model_v9")
    assert str(caught.value) == (
        "artifacts/models: no model 'model_v9'. Nearest: model_v2, model_v1."
    )


def test_a_file_that_cannot_be_read_is_named(models):
    Path("artifacts/models/model_v2/provenance.json").write_bytes(b"{}")
    with pytest.raises(CorruptFileError, match=r"^artifacts/models/model_v2/provenance\.json: "):
        compare("model_v1", "model_v2")


# --- Its forms -----------------------------------------------------------------------------------


COMPARISON = Comparison(
    models=("a", "b"),
    every_row=(
        Row(section="config", name="epochs", values=(3, 4)),
        Row(section="config", name="base_model", values=("x|y", None)),
        Row(section="metrics", name="quality_score", values=(0.5, 0.5)),
    ),
)


def test_its_markdown_is_a_table():
    assert COMPARISON.to_markdown() == (
        "|  |  | a | b |\n"
        "| --- | --- | --- | --- |\n"
        "| config | epochs | 3 | 4 |\n"
        "| config | base_model | x\\|y | - |\n"
    )
    assert COMPARISON.to_markdown(everything=True).endswith(
        "| metrics | quality_score | 0.5 | 0.5 |\n"
    )


def test_its_markdown_says_so_where_nothing_differs():
    assert Comparison(models=("a", "b"), every_row=()).to_markdown() == (
        "No difference between a, b.\n"
    )


def test_its_json_form_holds_the_rows():
    assert COMPARISON.to_dict() == {
        "models": ["a", "b"],
        "rows": [
            {"section": "config", "name": "epochs", "values": [3, 4]},
            {"section": "config", "name": "base_model", "values": ["x|y", None]},
        ],
    }
    assert len(COMPARISON.to_dict(everything=True)["rows"]) == 3


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (True, 1), (None, ""), ("1", 1)])
def test_values_of_another_type_differ(one, other):
    assert Row(section="config", name="epochs", values=(one, other)).differs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (2e-05, "2e-05"),
        (False, "false"),
        ("naïve", "naïve"),
        ("two\nlines \x1b[31m", '"two\\nlines \\u001b[31m"'),
        ({"b": 1, "a": [2]}, '{"a": [2], "b": 1}'),
    ],
)
def test_a_value_is_read_on_one_line_and_holds_no_command_to_a_terminal(value, text):
    assert as_text(value) == text
