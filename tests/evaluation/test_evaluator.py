import json
from pathlib import Path

import pytest
from hypothesis import given

from src.evaluation.evaluator import evaluate_model, load_evaluation, simulated_metrics
from src.storage import CorruptFileError
from src.training.trainer import write_metadata
from tests.strategies import names

FILE = Path("artifacts/evaluations/model_v1/evaluation.json")
WRITTEN = """\
{
  "dataset_version": "dataset_v1",
  "metrics": {
    "cost_per_1k_tokens": 0.015,
    "latency_ms": 92,
    "quality_score": 0.9031
  },
  "model_version": "model_v1"
}
"""


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch, metadata):
    """A folder, the working directory, that holds `model_v1` and nothing else."""
    monkeypatch.chdir(tmp_path)
    write_metadata(metadata)
    return tmp_path


# --- Metrics -------------------------------------------------------------------------------------


def test_the_simulated_metrics_of_known_versions_are_known():
    versions = {"model_version": "model_v1", "dataset_version": "dataset_v1"}
    assert simulated_metrics(versions) == {
        "quality_score": 0.9031,
        "latency_ms": 92,
        "cost_per_1k_tokens": 0.015,
    }


@given(names, names)
def test_simulated_metrics_are_of_their_type_and_in_their_range(model_version, dataset_version):
    versions = {"model_version": model_version, "dataset_version": dataset_version}
    metrics = simulated_metrics(versions)
    assert {name: type(value) for name, value in metrics.items()} == {
        "quality_score": float,
        "latency_ms": int,
        "cost_per_1k_tokens": float,
    }
    assert 0.5 <= metrics["quality_score"] <= 0.9999
    assert 20 <= metrics["latency_ms"] <= 99
    assert 0.01 <= metrics["cost_per_1k_tokens"] <= 0.019


def test_simulated_metrics_depend_on_both_versions_and_nothing_else(metadata):
    metrics = simulated_metrics(metadata)
    assert simulated_metrics({**metadata, "base_model": "other", "extra": 1}) == metrics
    assert simulated_metrics({**metadata, "model_version": "model_v2"}) != metrics
    assert simulated_metrics({**metadata, "dataset_version": "dataset_v2"}) != metrics


def test_the_two_versions_are_not_simply_joined():
    one = simulated_metrics({"model_version": "a-b", "dataset_version": "c"})
    other = simulated_metrics({"model_version": "a", "dataset_version": "b-c"})
    assert one != other


# --- What is written -----------------------------------------------------------------------------


def test_an_evaluation_holds_exactly_the_three_specified_fields():
    assert evaluate_model("model_v1") == Path("artifacts/evaluations/model_v1")
    assert FILE.read_text() == WRITTEN


def test_only_the_evaluation_is_written(model, tree):
    before = tree(model)
    evaluate_model("model_v1")
    assert tree(model) == {**before, str(FILE): WRITTEN.encode()}


def test_evaluating_again_does_not_write_and_logs_nothing(warnings):
    evaluate_model("model_v1")
    before = FILE.read_bytes(), FILE.stat()
    evaluate_model("model_v1")
    assert (FILE.read_bytes(), FILE.stat()) == before
    assert warnings == []


def test_the_folders_of_models_and_evaluations_may_lie_elsewhere(model):
    (model / "artifacts/models").rename(model / "in")
    folder = evaluate_model("model_v1", model / "in", model / "out")
    assert folder == model / "out/model_v1"
    assert load_evaluation("model_v1", model / "out") == json.loads(WRITTEN)


@pytest.mark.parametrize(
    ("found", "digest"),
    [
        (b"x", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
)
def test_an_edited_evaluation_is_restored_with_a_warning_that_names_both(found, digest, warnings):
    FILE.parent.mkdir(parents=True)
    FILE.write_bytes(found)
    evaluate_model("model_v1")
    assert FILE.read_text() == WRITTEN
    assert warnings == [
        (
            "WARNING",
            "artifacts/evaluations/model_v1/evaluation.json: expected sha256 "
            f"a809825432d24bc91db6339de1f87432a0588af97636da123c3ea835d5d5c0b2, "
            f"found {digest}: restored.",
        )
    ]


def test_the_metrics_argument_gets_the_metadata_and_gives_the_metrics(metadata):
    seen = []

    def metrics(given):
        seen.append(dict(given))
        return {"accuracy": 0.75, "samples": 10}

    evaluate_model("model_v1", metrics=metrics)
    assert seen == [metadata]
    assert load_evaluation("model_v1")["metrics"] == {"accuracy": 0.75, "samples": 10}


def test_a_metrics_function_that_changes_what_it_gets_changes_nothing_else():
    def metrics(given):
        given.clear()
        return {}

    evaluate_model("model_v1", metrics=metrics)
    assert load_evaluation("model_v1") == {
        "model_version": "model_v1",
        "dataset_version": "dataset_v1",
        "metrics": {},
    }


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (float("nan"), "nan"),
        (-float("inf"), "-inf"),
        ("high", "'high'"),
        (None, "None"),
        (True, "True"),
        ([1], "[1]"),
    ],
)
def test_a_metric_that_is_no_finite_number_is_named_and_nothing_is_written(value, found, model):
    with pytest.raises(ValueError) as caught:
        evaluate_model("model_v1", metrics=lambda _: {"latency_ms": 9, "quality_score": value})
    assert str(caught.value) == (
        "metrics of 'model_v1': quality_score: expected a finite number, "
        f"found {found}. Nothing was written."
    )
    assert not (model / "artifacts/evaluations").exists()


def test_a_metric_too_great_for_a_float_is_refused_and_nothing_is_written(model):
    with pytest.raises(ValueError, match="quality_score: expected a finite number"):
        evaluate_model("model_v1", metrics=lambda _: {"quality_score": 10**400})
    assert not (model / "artifacts/evaluations").exists()


def test_metrics_that_fail_leave_the_old_evaluation():
    evaluate_model("model_v1")

    def metrics(_):
        raise RuntimeError("no accelerator")

    with pytest.raises(RuntimeError, match="no accelerator"):
        evaluate_model("model_v1", metrics=metrics)
    assert FILE.read_text() == WRITTEN


# --- What stops it -------------------------------------------------------------------------------


def test_a_model_that_is_not_there_is_named_and_nothing_is_written(model):
    with pytest.raises(FileNotFoundError) as caught:
        evaluate_model("model_v2")
    assert str(caught.value) == (
        "artifacts/models/model_v2/metadata.json: no such file, so there is no model version "
        "'model_v2' here. Train it first."
    )
    assert not (model / "artifacts/evaluations").exists()


def test_a_model_with_damaged_metadata_is_not_evaluated(model):
    (model / "artifacts/models/model_v1/metadata.json").write_bytes(b"{}")
    with pytest.raises(CorruptFileError, match="model_version: expected text, found nothing"):
        evaluate_model("model_v1")
    assert not (model / "artifacts/evaluations").exists()


@pytest.mark.parametrize("work", [evaluate_model, load_evaluation])
@pytest.mark.parametrize("name", ["", "..", "../models/model_v1", "a/b", "registry.json", None])
def test_a_bad_model_version_is_refused(work, name, model, tree):
    before = tree(model)
    with pytest.raises(ValueError, match=r"^model_version: expected a name of at most"):
        work(name)
    assert tree(model) == before


def test_an_evaluation_folder_that_leads_elsewhere_is_refused(model):
    (model / "artifacts/evaluations").mkdir()
    (model / "outside").mkdir()
    (model / "artifacts/evaluations/model_v1").symlink_to(model / "outside")
    with pytest.raises(ValueError, match="leads out of artifacts/evaluations"):
        evaluate_model("model_v1")
    assert list((model / "outside").iterdir()) == []


# --- Reading it back -----------------------------------------------------------------------------


def test_an_evaluation_is_read_back_as_it_was_written():
    evaluate_model("model_v1")
    assert load_evaluation("model_v1") == json.loads(WRITTEN)


def test_an_evaluation_that_is_not_there_is_named_as_other_missing_files_are():
    with pytest.raises(FileNotFoundError, match=f"^{FILE}: "):
        load_evaluation("model_v1")


def test_a_damaged_evaluation_is_a_corrupt_file():
    FILE.parent.mkdir(parents=True)
    FILE.write_bytes(b"[]")
    with pytest.raises(CorruptFileError) as caught:
        load_evaluation("model_v1")
    assert str(caught.value) == f"{FILE}: expected a JSON object, found a list. Left as found."
