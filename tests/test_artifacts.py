from pathlib import Path

import pytest

from src.artifacts import Artifacts, read_metadata, read_statement
from src.errors import CorruptFileError
from src.records.canonical import canonical_json
from src.storage import StorePath
from src.training.pipeline import run_training_pipeline
from tests.stores import MemoryStore

CONFIG = "configs/training/mistral_finetune.yaml"
EXPECTED_NAME = (
    "model_version: expected a name of at most 128 letters, digits, '.', '_' and '-' that "
    "starts with a letter or digit and is not 'registry.json', found "
)


# --- The layout ----------------------------------------------------------------------------------


def layout(artifacts):
    names = ("root", "datasets", "models", "registry", "evaluations", "sweeps", "cache")
    return {name: str(getattr(artifacts, name)) for name in names}


@pytest.mark.parametrize("location", ["some/root", Path("some/root")])
def test_the_layout_below_the_root_is_fixed(location):
    assert layout(Artifacts.open(location)) == {
        "root": "some/root",
        "datasets": "some/root/datasets",
        "models": "some/root/models",
        "registry": "some/root/models/registry.json",
        "evaluations": "some/root/evaluations",
        "sweeps": "some/root/sweeps",
        "cache": "some/root/.cache",
    }


def test_the_layout_in_any_store_is_the_same():
    path = StorePath(MemoryStore("s3://bucket"), "some/root")
    artifacts = Artifacts.open(path)
    assert artifacts.root is path
    assert str(artifacts.registry) == "s3://bucket/some/root/models/registry.json"


def test_the_default_root_is_artifacts_in_the_working_directory():
    assert str(Artifacts.open().registry) == "artifacts/models/registry.json"


def test_an_address_with_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError) as caught:
        Artifacts.open("ftp://host/artifacts")
    assert str(caught.value) == (
        "ftp://host/artifacts: expected a folder, or an address such as s3://bucket/prefix, "
        "gs://bucket/prefix or az://container/prefix; found the scheme 'ftp'."
    )


def test_opening_a_root_creates_nothing(tmp_path):
    Artifacts.open(tmp_path / "root")
    assert list(tmp_path.iterdir()) == []


# --- Links out of the root -----------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path):
    """A folder outside of the root `<tmp_path>/root`."""
    (tmp_path / "root").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    return outside


@pytest.mark.parametrize("folder", ["models", "evaluations", "sweeps", ".cache"])
def test_a_write_through_a_link_out_of_the_root_is_refused(folder, outside, tmp_path):
    root = tmp_path / "root"
    (root / folder).symlink_to(outside)
    path = Artifacts.open(root).root / folder / "f"
    with pytest.raises(CorruptFileError) as caught:
        path.replace(b"data")
    assert str(caught.value) == (
        f"{root}/{folder}: expected a folder, found a link, which is not followed. Nothing was "
        "written; remove the link."
    )
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("folder", ["models", "evaluations"])
def test_a_run_writes_nothing_through_a_link_out_of_the_root(folder, project, outside):
    (project / "artifacts" / folder).symlink_to(outside)
    with pytest.raises(CorruptFileError) as caught:
        run_training_pipeline(CONFIG, "model_v1")
    assert str(caught.value).startswith(f"artifacts/{folder}: expected a folder, found a link")
    assert str(caught.value).endswith("Nothing was written; remove the link.")
    assert list(outside.iterdir()) == []


def test_a_link_out_of_the_root_may_be_read_through(outside, tmp_path):
    (tmp_path / "root/datasets").symlink_to(outside)
    (outside / "dataset_v1").mkdir()
    (outside / "dataset_v1/data.jsonl").write_bytes(b"{}\n")
    datasets = Artifacts.open(tmp_path / "root").datasets
    assert datasets.folders(follow_links=True) == ["dataset_v1"]
    assert (datasets / "dataset_v1/data.jsonl").read_linked(100) == b"{}\n"


def test_a_run_reads_a_dataset_that_is_a_link_out_of_the_root(project, outside):
    dataset = project / "artifacts/datasets/dataset_v1"
    dataset.rename(outside / "dataset_v1")
    dataset.symlink_to(outside / "dataset_v1")
    assert run_training_pipeline(CONFIG, "model_v1")["dataset_version"] == "dataset_v1"
    assert dataset.is_symlink()


# --- metadata.json -------------------------------------------------------------------------------


def test_metadata_is_read_from_the_folder_of_its_version(metadata, artifacts):
    (artifacts.models / "model_v1/metadata.json").replace(canonical_json(metadata))
    assert read_metadata("model_v1", artifacts.models) == metadata


def test_the_error_for_a_missing_version_names_the_next_step(artifacts):
    with pytest.raises(FileNotFoundError) as caught:
        read_metadata("model_v1", artifacts.models)
    assert str(caught.value) == (
        "artifacts/models/model_v1/metadata.json: no such file, so model version 'model_v1' does "
        "not exist. Train it first."
    )


def test_the_name_of_a_version_is_checked_before_it_is_read(artifacts):
    (artifacts.models / "metadata.json").replace(b"{}")
    with pytest.raises(ValueError) as caught:
        read_metadata(".", artifacts.models)
    assert str(caught.value) == f"{EXPECTED_NAME}'.'."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1, column 1: the file is empty. Left as found."),
        (b"{}", "model_version: expected text, found nothing. Left as found."),
        (b" " * ((1 << 24) + 1), "larger than 16,777,216 bytes. Left as found."),
    ],
    ids=["empty", "no fields", "too large"],
)
def test_damaged_metadata_is_a_corrupt_file(data, message, artifacts):
    (artifacts.models / "model_v1/metadata.json").replace(data)
    with pytest.raises(CorruptFileError) as caught:
        read_metadata("model_v1", artifacts.models)
    assert str(caught.value) == f"artifacts/models/model_v1/metadata.json: {message}"


def test_metadata_in_the_folder_of_another_version_is_a_corrupt_file(metadata, artifacts):
    (artifacts.models / "model_v2/metadata.json").replace(canonical_json(metadata))
    with pytest.raises(CorruptFileError) as caught:
        read_metadata("model_v2", artifacts.models)
    assert str(caught.value) == (
        "artifacts/models/model_v2/metadata.json: model_version: expected 'model_v2', found "
        "'model_v1'. Left as found."
    )


# --- provenance.json -----------------------------------------------------------------------------


def test_an_absent_statement_reads_as_none(artifacts):
    assert read_statement(artifacts.models / "model_v1") is None


def test_a_statement_is_read_from_its_folder(artifacts):
    run_training_pipeline(CONFIG, "model_v1", artifacts_dir=artifacts.root)
    model = read_statement(artifacts.models / "model_v1")
    evaluation = read_statement(artifacts.evaluations / "model_v1")
    assert (model.subject, evaluation.subject) == ("metadata.json", "evaluation.json")


def test_a_damaged_statement_is_a_corrupt_file(artifacts):
    (artifacts.models / "model_v1/provenance.json").replace(b"{}")
    with pytest.raises(CorruptFileError) as caught:
        read_statement(artifacts.models / "model_v1")
    assert str(caught.value) == (
        "artifacts/models/model_v1/provenance.json: _type: expected text, found nothing. "
        "Left as found."
    )
