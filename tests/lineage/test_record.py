import pytest

from src.errors import CorruptFileError
from src.lineage.record import Record, model_not_found, read_record, read_records, version_folders
from src.storage import StorePath
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError
from tests.examples import METADATA
from tests.lineage.damage import (
    EVALUATION,
    REGISTRY,
    STATEMENT,
    edit,
    read_json,
    remove,
    write,
)
from tests.lineage.damage import (
    METADATA as METADATA_FILE,
)


def versions(models):
    return [record.model_version for record in read_records(models)]


def test_the_metadata_of_a_registered_model_is_its_entry(models):
    edit(models, METADATA_FILE, "base_model", value="other")
    assert read_record("model_v1", models).metadata == METADATA
    assert next(read_records(models)).metadata == METADATA


def test_the_metadata_of_an_unregistered_model_is_its_file(models):
    remove(models, REGISTRY)
    edit(models, METADATA_FILE, "base_model", value="other")
    assert read_record("model_v1", models).metadata == {**METADATA, "base_model": "other"}


def test_only_the_wanted_records_are_read(models):
    write(models, "models/model_v1/provenance.json", b"not a statement")
    assert [each.model_version for each in read_records(models, ["model_v2"])] == ["model_v2"]
    assert list(read_records(models, ["model_v3"])) == []


def test_a_missing_version_is_reported_although_the_folder_cannot_be_listed(models, monkeypatch):
    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(StorePath, "folders", refused)
    with pytest.raises(ModelNotFoundError) as caught:
        read_record("model_v3", models)
    assert str(caught.value) == "artifacts/models: no model 'model_v3'. Nearest: none."


def test_a_record_without_provenance_and_evaluation_has_none(models):
    remove(models, STATEMENT)
    remove(models, EVALUATION)
    for record in (read_record("model_v1", models), next(read_records(models))):
        assert record == Record(metadata=METADATA, statement=None, evaluation=None)
        assert record.to_dict() == {"metadata": METADATA, "provenance": None, "evaluation": None}


def test_records_are_in_the_order_of_registration_and_then_by_name(models):
    for version in ("zeta", "alpha", "beta"):
        run_training_pipeline("one.yaml", version, artifacts_dir=models.root)
    assert versions(models) == ["model_v1", "model_v2", "zeta", "alpha", "beta"]
    entries = read_json(models, REGISTRY)["models"]
    edit(models, REGISTRY, "models", value=[entries[2], entries[0]])
    assert versions(models) == ["zeta", "model_v1", "alpha", "beta", "model_v2"]


def test_a_folder_without_metadata_or_with_an_invalid_name_has_no_record(models):
    write(models, "models/model_v3/provenance.json", b"{}")
    write(models, "models/.hidden/metadata.json", b"{}")
    write(models, "models/not a version/metadata.json", b"{}")
    assert version_folders(models.models) == ["model_v1", "model_v2", "model_v3"]
    assert versions(models) == ["model_v1", "model_v2"]


@pytest.mark.parametrize(
    ("version", "nearest"),
    [
        ("model_v9", "model_v2, model_v1"),
        ("../models", "none; `llm-train models` lists all"),
        ("nope", "none; `llm-train models` lists all"),
        ("", "none; `llm-train models` lists all"),
        (None, "none; `llm-train models` lists all"),
    ],
)
def test_a_missing_version_raises_an_error_that_names_the_nearest(version, nearest, models):
    with pytest.raises(ModelNotFoundError) as caught:
        read_record(version, models)
    assert str(caught.value) == f"artifacts/models: no model {version!r}. Nearest: {nearest}."


def test_the_folder_of_a_missing_version_is_not_named_as_the_nearest(models):
    write(models, "models/model_v3/provenance.json", b"{}")
    assert str(model_not_found("model_v3", models)) == (
        "artifacts/models: no model 'model_v3'. Nearest: model_v2, model_v1."
    )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (REGISTRY, "models: expected a list, found nothing. Left as found."),
        (STATEMENT, "_type: expected text, found nothing. Left as found."),
    ],
)
def test_a_file_that_cannot_be_parsed_raises_an_error_that_names_it(key, message, models):
    write(models, key, b"{}")
    for work in (lambda: read_record("model_v1", models), lambda: list(read_records(models))):
        with pytest.raises(CorruptFileError) as caught:
            work()
        assert str(caught.value) == f"artifacts/{key}: {message}"


def test_an_evaluation_that_cannot_be_parsed_raises_an_error_that_names_it(models):
    write(models, EVALUATION, b"")
    with pytest.raises(CorruptFileError) as caught:
        read_record("model_v1", models)
    assert str(caught.value) == (
        f"artifacts/{EVALUATION}: line 1, column 1: the file is empty. Left as found."
    )
