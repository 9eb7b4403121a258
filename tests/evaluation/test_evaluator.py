import json
from pathlib import Path

import pytest
from hypothesis import given

from src.errors import CorruptFileError
from src.evaluation.evaluator import (
    evaluate_model,
    load_evaluation,
    serialize_evaluation,
    simulated_metrics,
)
from src.records.canonical import canonical_json
from tests.strategies import names

FILE = Path("artifacts/evaluations/model_v1/evaluation.json")
WRITTEN = b"""\
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


@pytest.fixture
def artifacts(artifacts, metadata):
    """An artifacts root with `model_v1`, which has no provenance.json, on each back end in turn."""
    (artifacts.models / "model_v1/metadata.json").create(canonical_json(metadata))
    return artifacts


@pytest.fixture
def file(artifacts):
    """The evaluation.json of `model_v1`; not written yet."""
    return artifacts.evaluations / "model_v1/evaluation.json"


@pytest.fixture
def model(project, metadata):
    """The project, as a working directory with `model_v1`, which has no provenance.json."""
    path = project / "artifacts/models/model_v1/metadata.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(canonical_json(metadata))
    return project


def evaluate(artifacts, model_version="model_v1", **options):
    return evaluate_model(model_version, artifacts.models, artifacts.evaluations, **options)


def load(artifacts, model_version="model_v1"):
    return load_evaluation(model_version, artifacts.evaluations)


def contents(path):
    return path.read(1 << 20)


# --- Metrics -------------------------------------------------------------------------------------


def test_the_simulated_metrics_of_the_example_versions_are_fixed():
    versions = {"model_version": "model_v1", "dataset_version": "dataset_v1"}
    assert simulated_metrics(versions) == {
        "quality_score": 0.9031,
        "latency_ms": 92,
        "cost_per_1k_tokens": 0.015,
    }


@given(names, names)
def test_simulated_metrics_have_their_types_and_ranges(model_version, dataset_version):
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


def test_simulated_metrics_depend_on_where_one_version_ends():
    one = simulated_metrics({"model_version": "a-b", "dataset_version": "c"})
    other = simulated_metrics({"model_version": "a", "dataset_version": "b-c"})
    assert one != other


# --- Files that are written ----------------------------------------------------------------------


def test_an_evaluation_has_exactly_the_three_specified_fields(artifacts, file):
    assert evaluate(artifacts) == Path("artifacts/evaluations/model_v1")
    assert contents(file) == WRITTEN


def test_the_default_folders_are_below_the_working_directory(model):
    assert evaluate_model("model_v1") == Path("artifacts/evaluations/model_v1")
    assert FILE.read_bytes() == WRITTEN
    assert load_evaluation("model_v1") == json.loads(WRITTEN)


def test_an_evaluation_is_the_only_file_that_is_written(artifacts, files):
    before = files(artifacts)
    evaluate(artifacts)
    assert files(artifacts) == {**before, "evaluations/model_v1/evaluation.json": WRITTEN}


def test_an_evaluation_leaves_no_temporary_or_lock_file(model, tree):
    before = tree(model)
    evaluate_model("model_v1")
    assert tree(model) == {**before, str(FILE): WRITTEN}


def test_a_second_evaluation_changes_no_byte_and_logs_nothing(artifacts, files, warnings):
    evaluate(artifacts)
    before = files(artifacts)
    evaluate(artifacts)
    assert files(artifacts) == before
    assert warnings == []


def test_a_second_evaluation_does_not_write_the_file(model):
    evaluate_model("model_v1")
    before = FILE.read_bytes(), FILE.stat()
    evaluate_model("model_v1")
    assert (FILE.read_bytes(), FILE.stat()) == before


def test_models_and_evaluations_may_be_in_any_folder(model):
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
def test_an_edited_evaluation_is_restored_with_a_warning_that_has_both_digests(
    found, digest, artifacts, file, warnings
):
    file.replace(found)
    evaluate(artifacts)
    assert contents(file) == WRITTEN
    assert warnings == [
        (
            "WARNING",
            "artifacts/evaluations/model_v1/evaluation.json: expected sha256 "
            f"a809825432d24bc91db6339de1f87432a0588af97636da123c3ea835d5d5c0b2, "
            f"found {digest}. Replaced.",
        )
    ]


def test_the_metrics_argument_receives_the_metadata_and_returns_the_metrics(artifacts, metadata):
    seen = []

    def metrics(given):
        seen.append(dict(given))
        return {"accuracy": 0.75, "samples": 10}

    evaluate(artifacts, metrics=metrics)
    assert seen == [metadata]
    assert load(artifacts)["metrics"] == {"accuracy": 0.75, "samples": 10}


def test_a_metrics_function_that_changes_its_argument_changes_nothing_else(artifacts):
    def metrics(given):
        given.clear()
        return {}

    evaluate(artifacts, metrics=metrics)
    assert load(artifacts) == {
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
def test_a_metric_that_is_not_a_finite_number_is_refused_and_nothing_is_written(
    value, found, artifacts, files
):
    before = files(artifacts)
    with pytest.raises(ValueError) as caught:
        evaluate(artifacts, metrics=lambda _: {"latency_ms": 9, "quality_score": value})
    assert str(caught.value) == (
        "metrics of 'model_v1': quality_score: expected a finite number, "
        f"found {found}. No evaluation was written."
    )
    assert files(artifacts) == before
    assert not FILE.parent.parent.exists()


def test_a_metric_larger_than_any_float_is_refused_and_nothing_is_written(artifacts, files):
    before = files(artifacts)
    with pytest.raises(ValueError, match="quality_score: expected a finite number"):
        evaluate(artifacts, metrics=lambda _: {"quality_score": 10**400})
    assert files(artifacts) == before
    assert not FILE.parent.parent.exists()


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"a\x1b[2J": 1}, r"expected names of 1 to 128 printable characters, found 'a\x1b[2J'"),
        ({"": 1}, "expected names of 1 to 128 printable characters, found ''"),
        ({7: 1}, "expected names of 1 to 128 printable characters, found 7"),
        ({"n" * 129: 1}, "expected names of 1 to 128 printable characters, found 'nnnn"),
        ({str(n): n for n in range(1001)}, "expected at most 1,000 metrics, found 1,001"),
        ([1, 2], "expected numbers by name, found [1, 2]"),
        (None, "expected numbers by name, found None"),
        ("loss", "expected numbers by name, found 'loss'"),
    ],
    ids=["a control character", "empty", "a number", "long", "many", "a list", "None", "text"],
)
def test_metrics_of_another_form_are_refused_and_nothing_is_written(
    metrics, reason, artifacts, files
):
    before = files(artifacts)
    with pytest.raises(ValueError) as caught:
        evaluate(artifacts, metrics=lambda _: metrics)
    assert str(caught.value).startswith(f"metrics of 'model_v1': {reason}")
    assert str(caught.value).endswith(" No evaluation was written.")
    assert files(artifacts) == before


def test_names_of_128_characters_and_1000_metrics_are_accepted(artifacts, file):
    metrics = {f"{n:0128}": n for n in range(1000)}
    evaluate(artifacts, metrics=lambda _: metrics)
    assert json.loads(contents(file))["metrics"] == metrics


def test_metrics_may_be_given_as_pairs(artifacts, file):
    evaluate(artifacts, metrics=lambda _: [("latency_ms", 9)])
    assert json.loads(contents(file))["metrics"] == {"latency_ms": 9}


def test_a_metrics_function_that_fails_leaves_the_old_evaluation(artifacts, file):
    evaluate(artifacts)

    def metrics(_):
        raise RuntimeError("no accelerator")

    with pytest.raises(RuntimeError, match="no accelerator"):
        evaluate(artifacts, metrics=metrics)
    assert contents(file) == WRITTEN


def test_serialize_evaluation_returns_the_bytes_of_the_file(metadata):
    assert serialize_evaluation(metadata) == WRITTEN
    assert json.loads(serialize_evaluation(metadata, lambda _: {"accuracy": 0.75})) == {
        "model_version": "model_v1",
        "dataset_version": "dataset_v1",
        "metrics": {"accuracy": 0.75},
    }


# --- Refused evaluations -------------------------------------------------------------------------


def test_a_missing_model_is_refused_and_nothing_is_written(artifacts, files):
    before = files(artifacts)
    with pytest.raises(FileNotFoundError) as caught:
        evaluate(artifacts, "model_v2")
    assert str(caught.value) == (
        "artifacts/models/model_v2/metadata.json: no such file, so model version 'model_v2' does "
        "not exist. Train it first."
    )
    assert files(artifacts) == before
    assert not FILE.parent.parent.exists()


def test_a_model_with_damaged_metadata_is_not_evaluated(artifacts, files):
    (artifacts.models / "model_v1/metadata.json").replace(b"{}")
    before = files(artifacts)
    with pytest.raises(CorruptFileError) as caught:
        evaluate(artifacts)
    assert str(caught.value) == (
        "artifacts/models/model_v1/metadata.json: model_version: expected text, found nothing. "
        "Left as found."
    )
    assert files(artifacts) == before
    assert not FILE.parent.parent.exists()


@pytest.mark.parametrize("work", [evaluate, load])
@pytest.mark.parametrize("name", ["", "..", "../models/model_v1", "a/b", "registry.json", None])
def test_an_invalid_model_version_is_refused(work, name, artifacts, files):
    before = files(artifacts)
    with pytest.raises(ValueError, match=r"^model_version: expected a name of at most"):
        work(artifacts, name)
    assert files(artifacts) == before


def test_an_evaluation_folder_that_leads_out_of_the_root_is_refused(model):
    (model / "artifacts/evaluations").mkdir()
    (model / "outside").mkdir()
    (model / "artifacts/evaluations/model_v1").symlink_to(model / "outside")
    with pytest.raises(CorruptFileError, match=r"artifacts/evaluations/model_v1: .* found a link"):
        evaluate_model("model_v1")
    assert list((model / "outside").iterdir()) == []


# --- Loading -------------------------------------------------------------------------------------


def test_an_evaluation_is_loaded_with_the_values_that_were_written(artifacts):
    evaluate(artifacts)
    assert load(artifacts) == json.loads(WRITTEN)


def test_the_error_for_a_missing_evaluation_names_the_file(artifacts):
    with pytest.raises(FileNotFoundError) as caught:
        load(artifacts)
    assert str(caught.value) == f"{FILE}: no such file. Evaluate 'model_v1' first."


def test_a_damaged_evaluation_is_a_corrupt_file(artifacts, file):
    file.replace(b"[]")
    with pytest.raises(CorruptFileError) as caught:
        load(artifacts)
    assert str(caught.value) == f"{FILE}: expected a JSON object, found a list. Left as found."
