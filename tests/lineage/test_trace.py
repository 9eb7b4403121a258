import json
from pathlib import Path

import pytest

from src.lineage.trace import models_of_commit, models_trained_on, trace_model
from src.storage import CorruptFileError, canonical_json
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError

DATA_SHA256 = "0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143"
PROVENANCE = "artifacts/models/{}/provenance.json"


def versions(found):
    return [record.model_version for record in found.models]


def set_material(version, name, digest):
    """Say in a provenance that a material had a digest, as another run might have found it."""
    path = Path(PROVENANCE.format(version))
    statement = json.loads(path.read_bytes())
    materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    materials[:] = [each for each in materials if each["name"] != name]
    if digest:
        materials.append({"name": name, "digest": digest})
    path.write_bytes(canonical_json(statement))


# --- From a model --------------------------------------------------------------------------------


def test_all_that_made_a_model_is_found_from_its_version(models):
    record = trace_model("model_v1")
    assert record.model_version == "model_v1"
    assert record.metadata["base_model"] == "mistral-7b"
    assert record.provenance.material("config").uri == "one.yaml"
    assert record.provenance.digest("dataset") == DATA_SHA256
    assert record.evaluation["metrics"]["latency_ms"] == 92


def test_its_json_form_holds_the_three_files(models):
    folder = Path("artifacts")
    assert trace_model("model_v1").to_dict() == {
        "metadata": json.loads((folder / "models/model_v1/metadata.json").read_bytes()),
        "provenance": json.loads((folder / "models/model_v1/provenance.json").read_bytes()),
        "evaluation": json.loads((folder / "evaluations/model_v1/evaluation.json").read_bytes()),
    }


def test_a_model_without_provenance_is_found_without_it(models):
    Path(PROVENANCE.format("model_v1")).unlink()
    assert trace_model("model_v1").to_dict()["provenance"] is None


def test_a_model_that_nothing_knows_is_an_error(models):
    with pytest.raises(ModelNotFoundError, match="no model 'model_v9'"):
        trace_model("model_v9")


# --- From data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["dataset_v1", DATA_SHA256, DATA_SHA256[:8], "0C1F9C9F"])
def test_the_models_that_have_seen_some_data_are_found_by_its_name_or_digest(data, models):
    run_training_pipeline("one.yaml", "model_v3")
    found = models_trained_on(data)
    assert versions(found) == ["model_v1", "model_v3"]
    assert found.source == ("dataset_v1" if data == "dataset_v1" else DATA_SHA256)
    assert found.unknown == ()


def test_a_model_that_is_in_no_registry_is_found_too(models):
    Path("artifacts/models/registry.json").unlink()
    assert versions(models_trained_on("dataset_v1")) == ["model_v1"]


def test_what_a_killed_run_left_is_no_model_yet(models):
    Path("artifacts/models/model_v3").mkdir()
    assert versions(models_trained_on("dataset_v1")) == ["model_v1"]
    with pytest.raises(ModelNotFoundError, match="no model 'model_v3'"):
        trace_model("model_v3")


def test_a_damaged_file_stops_the_search_and_is_named(models):
    Path("artifacts/models/registry.json").unlink()
    Path("artifacts/models/model_v2/metadata.json").write_bytes(b"{}")
    for work in (lambda: models_trained_on("dataset_v1"), lambda: trace_model("model_v2")):
        with pytest.raises(CorruptFileError, match=r"^artifacts/models/model_v2/metadata\.json: "):
            work()


def test_models_whose_data_is_not_recorded_are_listed_as_such(models):
    Path(PROVENANCE.format("model_v2")).unlink()
    set_material("model_v1", "dataset", None)
    found = models_trained_on(DATA_SHA256)
    assert (versions(found), found.unknown) == ([], ("model_v1", "model_v2"))
    assert versions(models_trained_on("dataset_v1")) == ["model_v1"]


def test_data_that_no_model_has_seen_gives_none(models):
    Path("artifacts/datasets/dataset_v3").mkdir()
    assert models_trained_on("dataset_v3").to_dict() == {
        "source": "dataset_v3",
        "models": [],
        "unknown": [],
    }
    assert versions(models_trained_on("ffffffff")) == []


def test_what_is_neither_a_dataset_nor_a_digest_is_an_error_that_names_the_nearest(models):
    with pytest.raises(LookupError) as caught:
        models_trained_on("dataset_v9")
    assert str(caught.value) == (
        "artifacts/datasets: no dataset version 'dataset_v9', and 8 or more digits of a SHA-256 "
        "it is not. Nearest: dataset_v2, dataset_v1."
    )


def test_a_root_with_nothing_in_it_knows_no_dataset(tmp_path):
    with pytest.raises(LookupError, match=r"Nearest: none\.$"):
        models_trained_on("dataset_v1", tmp_path)


def test_a_digest_that_begins_several_is_an_error_that_names_them(models):
    one, other = "ab" * 31 + "00", "ab" * 31 + "11"
    set_material("model_v1", "dataset", {"sha256": one})
    set_material("model_v2", "dataset", {"sha256": other})
    with pytest.raises(LookupError) as caught:
        models_trained_on("abababab")
    assert str(caught.value) == f"abababab: begins 2 digests: {one}, {other}."
    assert versions(models_trained_on(other)) == ["model_v2"]


# --- From a commit -------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", ["12" * 20, "12121212"])
def test_the_models_of_a_commit_are_found_by_its_first_digits(commit, models):
    set_material("model_v1", "code", {"gitCommit": "12" * 20})
    set_material("model_v2", "code", None)
    found = models_of_commit(commit)
    assert (found.source, versions(found), found.unknown) == (
        "12" * 20,
        ["model_v1"],
        ("model_v2",),
    )


@pytest.mark.parametrize("commit", ["1212121", "HEAD", ""])
def test_what_is_no_commit_is_an_error(commit, models):
    with pytest.raises(LookupError) as caught:
        models_of_commit(commit)
    assert str(caught.value) == (
        f"commit: expected 8 or more hexadecimal digits, found {commit!r}."
    )
