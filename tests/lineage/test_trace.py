import pytest

from src.errors import CorruptFileError
from src.lineage.trace import models_of_commit, models_trained_on, trace_model
from src.records.canonical import canonical_json
from src.storage import StorePath
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError
from tests.examples import DATA_SHA256
from tests.lineage.damage import (
    EVALUATION,
    METADATA,
    REGISTRY,
    STATEMENT,
    read,
    read_json,
    remove,
    write,
)
from tests.stores import MemoryStore


def versions(found):
    return [record.model_version for record in found.models]


def set_dependency(models, version, name, digest):
    """Change the digest of a resolved dependency; remove the dependency if `digest` is `None`."""
    key = f"models/{version}/provenance.json"
    statement = read_json(models, key)
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    dependencies[:] = [each for each in dependencies if each["name"] != name]
    if digest:
        dependencies.append({"name": name, "digest": digest})
    write(models, key, canonical_json(statement))


# --- From a model --------------------------------------------------------------------------------


def test_all_inputs_of_a_model_are_found_from_its_version(models):
    record = trace_model("model_v1", models.root)
    assert record.model_version == "model_v1"
    assert record.metadata["base_model"] == "mistral-7b"
    assert record.statement.dependency("config").uri == "one.yaml"
    assert record.statement.digest("dataset") == DATA_SHA256
    assert record.evaluation["metrics"]["latency_ms"] == 92


def test_the_json_form_of_a_record_has_the_three_files(models):
    assert trace_model("model_v1", models.root).to_dict() == {
        "metadata": read_json(models, METADATA),
        "provenance": read_json(models, STATEMENT),
        "evaluation": read_json(models, EVALUATION),
    }


def test_a_model_without_provenance_is_found(models):
    remove(models, STATEMENT)
    assert trace_model("model_v1", models.root).to_dict()["provenance"] is None


def test_a_missing_model_raises_an_error_that_names_the_nearest(models):
    with pytest.raises(ModelNotFoundError) as caught:
        trace_model("model_v9", models.root)
    assert str(caught.value) == (
        "artifacts/models: no model 'model_v9'. Nearest: model_v2, model_v1."
    )


# --- From data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["dataset_v1", DATA_SHA256, DATA_SHA256[:7], "0C1F9C9F"])
def test_the_models_trained_on_some_data_are_found_by_its_name_or_digest(data, models):
    run_training_pipeline("one.yaml", "model_v3", artifacts_dir=models.root)
    found = models_trained_on(data, models.root)
    assert versions(found) == ["model_v1", "model_v3"]
    assert found.source == ("dataset_v1" if data == "dataset_v1" else DATA_SHA256)
    assert found.unknown == ()


def test_an_unregistered_model_is_found(models):
    remove(models, REGISTRY)
    assert versions(models_trained_on("dataset_v1", models.root)) == ["model_v1"]


def test_the_folder_that_a_killed_run_left_is_no_model(models):
    write(models, "models/model_v3/provenance.json", read(models, STATEMENT))
    assert versions(models_trained_on("dataset_v1", models.root)) == ["model_v1"]
    with pytest.raises(ModelNotFoundError) as caught:
        trace_model("model_v3", models.root)
    assert str(caught.value) == (
        "artifacts/models: no model 'model_v3'. Nearest: model_v2, model_v1."
    )


def test_a_damaged_file_stops_the_search_and_is_named(models):
    remove(models, REGISTRY)
    write(models, "models/model_v2/metadata.json", b"{}")
    for work in (
        lambda: models_trained_on("dataset_v1", models.root),
        lambda: trace_model("model_v2", models.root),
    ):
        with pytest.raises(CorruptFileError) as caught:
            work()
        assert str(caught.value) == (
            "artifacts/models/model_v2/metadata.json: model_version: expected text, found "
            "nothing. Left as found."
        )


def test_models_that_record_no_data_are_listed_as_unknown(models):
    remove(models, "models/model_v2/provenance.json")
    set_dependency(models, "model_v1", "dataset", None)
    found = models_trained_on(DATA_SHA256, models.root)
    assert (versions(found), found.unknown) == ([], ("model_v1", "model_v2"))
    assert versions(models_trained_on("dataset_v1", models.root)) == ["model_v1"]


def test_data_that_no_model_was_trained_on_has_no_models(models):
    write(models, "datasets/dataset_v3/data.jsonl", b"{}\n")
    assert models_trained_on("dataset_v3", models.root).to_dict() == {
        "source": "dataset_v3",
        "models": [],
        "unknown": [],
    }
    assert versions(models_trained_on("ffffffff", models.root)) == []


def test_neither_a_dataset_nor_a_digest_is_an_error_that_names_the_nearest(models):
    with pytest.raises(LookupError) as caught:
        models_trained_on("dataset_v9", models.root)
    assert str(caught.value) == (
        "artifacts/datasets: no dataset version 'dataset_v9', and not 7 or more digits of a "
        "SHA-256. Nearest: dataset_v2, dataset_v1."
    )


def test_an_empty_root_has_no_dataset(tmp_path):
    for root in (tmp_path, StorePath(MemoryStore(str(tmp_path)))):
        with pytest.raises(LookupError) as caught:
            models_trained_on("dataset_v1", root)
        assert str(caught.value) == (
            f"{tmp_path}/datasets: no dataset version 'dataset_v1', and not 7 or more digits of "
            "a SHA-256. Nearest: none."
        )


def test_the_start_of_several_digests_is_an_error_that_names_them(models):
    one, other = "ab" * 31 + "00", "ab" * 31 + "11"
    set_dependency(models, "model_v1", "dataset", {"sha256": one})
    set_dependency(models, "model_v2", "dataset", {"sha256": other})
    with pytest.raises(LookupError) as caught:
        models_trained_on("abababab", models.root)
    assert str(caught.value) == (
        f"abababab: the start of 2 digests: {one}, {other}. Add more digits."
    )
    assert versions(models_trained_on(other, models.root)) == ["model_v2"]


# --- From a commit -------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", ["12" * 20, "12121212"])
def test_the_models_of_a_commit_are_found_by_its_first_digits(commit, models):
    set_dependency(models, "model_v1", "code", {"gitCommit": "12" * 20})
    set_dependency(models, "model_v2", "code", None)
    found = models_of_commit(commit, models.root)
    assert (found.source, versions(found), found.unknown) == (
        "12" * 20,
        ["model_v1"],
        ("model_v2",),
    )


@pytest.mark.parametrize("commit", ["121212", "HEAD", ""])
def test_an_invalid_commit_id_is_an_error(commit, models):
    with pytest.raises(LookupError) as caught:
        models_of_commit(commit, models.root)
    assert str(caught.value) == (
        f"commit: expected 7 or more hexadecimal digits, found {commit!r}."
    )
