import pytest

from src.errors import CorruptFileError
from src.lineage.compare import Comparison, Row, compare
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError
from tests.examples import DATA_SHA256
from tests.lineage.damage import EVALUATION, REGISTRY, STATEMENT, edit, read_json, remove, write


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
