import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given

from src.environment import Invocation
from src.errors import CorruptFileError
from src.names import check_version
from src.records.canonical import canonical_json
from src.records.metadata import ModelVersionConflict
from src.records.statement import ResolvedDependency
from src.storage import StorePath
from src.training.config import ConfigError, TrainingConfig, load_training_config
from src.training.dataset import DatasetMismatchError, DatasetVersion, resolve_dataset
from src.training.registry import register_model
from src.training.trainer import (
    derive_model_version,
    model_metadata,
    train_model,
    write_metadata,
)
from tests.examples import DATA, DATA_SHA256
from tests.stores import delete
from tests.strategies import config_values

CONFIG = "configs/training/mistral_finetune.yaml"
FILE = Path("artifacts/models/model_v1/metadata.json")
DERIVED = "mistral-7b-dataset_v1-381570cb7ffa"
DEPENDENCIES = [ResolvedDependency(name="dataset", digest={"sha256": DATA_SHA256})]
WRITTEN = b"""\
{
  "base_model": "mistral-7b",
  "dataset_version": "dataset_v1",
  "model_version": "model_v1",
  "num_training_samples": 3,
  "training_config": {
    "base_model": "mistral-7b",
    "batch_size": 16,
    "dataset_version": "dataset_v1",
    "epochs": 3,
    "learning_rate": 2e-05
  }
}
"""
NEW_VERSION = "Nothing was changed. A version never changes: choose another model_version."
RESTORE = (
    "Nothing was changed. The file was edited after it was written: restore it, or delete it to "
    "have it written again."
)


@pytest.fixture(autouse=True)
def _in_project(project):
    """The project as the working directory of every test."""


@pytest.fixture
def file(artifacts):
    """The metadata.json of `model_v1`, on each back end in turn; not written yet."""
    return artifacts.models / "model_v1/metadata.json"


def train(artifacts, model_version="model_v1", config=CONFIG):
    return train_model(config, model_version, artifacts.models, datasets_dir=artifacts.datasets)


def contents(path):
    return path.read(1 << 20)


# --- Files that are written ----------------------------------------------------------------------


def test_training_writes_exactly_the_five_specified_fields(artifacts, file, metadata):
    assert train(artifacts) == Path("artifacts/models/model_v1")
    assert contents(file) == WRITTEN
    assert json.loads(WRITTEN) == metadata


def test_the_default_folders_are_below_the_working_directory(metadata):
    assert train_model(CONFIG, "model_v1") == Path("artifacts/models/model_v1")
    assert FILE.read_bytes() == WRITTEN


def test_training_writes_only_the_metadata_and_its_statement(artifacts, files):
    before = files(artifacts)
    train(artifacts)
    written = files(artifacts)
    del written["models/model_v1/provenance.json"]
    assert written == {**before, "models/model_v1/metadata.json": WRITTEN}


def test_training_leaves_no_temporary_or_lock_file(project, tree):
    before = tree(project)
    train_model(CONFIG, "model_v1")
    assert tree(project).keys() - before.keys() == {
        "artifacts/models/model_v1/metadata.json",
        "artifacts/models/model_v1/provenance.json",
    }


def test_training_again_changes_no_byte(artifacts, files):
    train(artifacts)
    before = files(artifacts)
    assert train(artifacts) == Path("artifacts/models/model_v1")
    assert files(artifacts) == before


def test_training_again_does_not_write_the_file():
    train_model(CONFIG, "model_v1")
    before = FILE.read_bytes(), FILE.stat()
    assert train_model(CONFIG, "model_v1") == Path("artifacts/models/model_v1")
    assert (FILE.read_bytes(), FILE.stat()) == before


def test_models_and_datasets_may_be_in_any_folder(tmp_path, project):
    (project / "artifacts/datasets").rename(tmp_path / "data")
    folder = train_model(CONFIG, "model_v1", tmp_path / "out", datasets_dir=tmp_path / "data")
    assert folder == tmp_path / "out/model_v1"
    assert (folder / "metadata.json").read_bytes() == WRITTEN
    assert not (project / "artifacts/models").exists()


def test_deleted_metadata_is_written_again_byte_for_byte(artifacts, file, files, metadata):
    train(artifacts)
    register_model(metadata, artifacts.registry)
    before = files(artifacts)
    delete(file)
    assert contents(file) is None
    train(artifacts)
    assert contents(file) == WRITTEN
    assert files(artifacts) == before


# --- Conflicts -----------------------------------------------------------------------------------


def change_epochs(epochs=4):
    path = Path(CONFIG)
    path.write_bytes(path.read_bytes().replace(b"epochs: 3", b"epochs: %d" % epochs))


def conflict_of(artifacts, model_version="model_v1"):
    with pytest.raises(ModelVersionConflict) as caught:
        train(artifacts, model_version)
    return str(caught.value)


def test_other_content_of_a_version_is_a_conflict_and_changes_nothing(artifacts, files):
    train(artifacts)
    change_epochs()
    before = files(artifacts)
    assert conflict_of(artifacts) == (
        "artifacts/models/model_v1/metadata.json: model version 'model_v1' already exists with "
        "other content:\n"
        "  training_config.epochs: recorded 3, now 4\n"
        f"{NEW_VERSION}"
    )
    assert files(artifacts) == before


def test_more_data_of_a_version_is_a_conflict(artifacts):
    train(artifacts)
    dataset = artifacts.datasets / "dataset_v1"
    delete(dataset / "metadata.json")
    (dataset / "data.jsonl").replace(DATA + b"{}\n")
    assert conflict_of(artifacts) == (
        "artifacts/models/model_v1/metadata.json: model version 'model_v1' already exists with "
        "other content:\n"
        "  num_training_samples: recorded 3, now 4\n"
        f"{NEW_VERSION}"
    )


def test_a_conflict_names_the_metadata_if_the_registry_entry_differs_too(artifacts, metadata):
    train(artifacts)
    register_model(metadata, artifacts.registry)
    change_epochs()
    assert conflict_of(artifacts).startswith(
        "artifacts/models/model_v1/metadata.json: model version"
    )


def test_a_registered_version_without_files_is_a_conflict_with_its_entry(
    artifacts, files, metadata
):
    register_model(metadata, artifacts.registry)
    change_epochs()
    before = files(artifacts)
    assert conflict_of(artifacts) == (
        "artifacts/models/registry.json: model version 'model_v1' already exists with other "
        "content:\n"
        "  training_config.epochs: recorded 3, now 4\n"
        f"{NEW_VERSION.removesuffix('.')}, or restore the entry if it was edited."
    )
    assert files(artifacts) == before
    assert not FILE.parent.exists()


def test_a_registered_version_whose_folder_was_deleted_is_a_conflict(project, metadata, tree):
    train_model(CONFIG, "model_v1")
    register_model(metadata)
    shutil.rmtree(FILE.parent)
    change_epochs()
    before = tree(project)
    with pytest.raises(ModelVersionConflict, match=r"^artifacts/models/registry\.json: model"):
        train_model(CONFIG, "model_v1")
    assert tree(project) == before
    assert not FILE.parent.exists()


def test_an_unreadable_registry_stops_a_new_version_before_any_file_is_written(artifacts, files):
    artifacts.registry.replace(b"{")
    before = files(artifacts)
    with pytest.raises(CorruptFileError, match=r"^artifacts/models/registry\.json: line 1"):
        train(artifacts)
    assert files(artifacts) == before


# --- Metadata that was edited --------------------------------------------------------------------


def edited(metadata, model_version="model_v1", **changes):
    config = {**metadata["training_config"], "epochs": 4}
    return {**metadata, "model_version": model_version, "training_config": config, **changes}


@pytest.mark.parametrize(
    "form",
    [canonical_json, lambda value: json.dumps(value).encode()],
    ids=["canonical", "reformatted"],
)
def test_the_conflict_of_edited_metadata_with_a_statement_advises_to_restore_the_file(
    form, artifacts, file, files, metadata
):
    train(artifacts)
    file.replace(form(edited(metadata, num_training_samples=30)))
    before = files(artifacts)
    assert conflict_of(artifacts) == (
        "artifacts/models/model_v1/metadata.json: model version 'model_v1' already exists with "
        "other content:\n"
        "  training_config.epochs: recorded 4, now 3\n"
        "  num_training_samples: recorded 30, now 3\n"
        f"{RESTORE}"
    )
    assert files(artifacts) == before


@pytest.mark.parametrize("statement", [None, b"{}"], ids=["no statement", "damaged statement"])
def test_the_conflict_of_edited_metadata_of_a_derived_version_advises_to_restore_the_file(
    statement, artifacts, files, metadata
):
    path = artifacts.models / DERIVED / "metadata.json"
    path.replace(canonical_json(edited(metadata, DERIVED)))
    if statement:
        (path.parent / "provenance.json").replace(statement)
    before = files(artifacts)
    for model_version in (None, DERIVED):
        assert conflict_of(artifacts, model_version) == (
            f"artifacts/models/{DERIVED}/metadata.json: model version '{DERIVED}' already exists "
            "with other content:\n"
            "  training_config.epochs: recorded 4, now 3\n"
            f"{RESTORE}"
        )
    assert files(artifacts) == before


def test_the_conflict_of_edited_metadata_is_found_although_the_statement_cannot_be_parsed(
    artifacts, file, metadata
):
    train(artifacts)
    file.replace(canonical_json(edited(metadata)))
    (file.parent / "provenance.json").replace(b"{")
    assert conflict_of(artifacts).startswith(
        "artifacts/models/model_v1/metadata.json: model version 'model_v1' already exists with "
        "other content:"
    )


def test_edited_metadata_is_written_again_after_it_was_deleted(artifacts, file, metadata):
    train(artifacts)
    file.replace(canonical_json(edited(metadata)))
    delete(file)
    train(artifacts)
    assert contents(file) == WRITTEN


def test_the_conflict_of_metadata_without_a_statement_advises_another_version(
    artifacts, file, files, metadata
):
    file.replace(canonical_json(edited(metadata)))
    before = files(artifacts)
    assert conflict_of(artifacts) == (
        "artifacts/models/model_v1/metadata.json: model version 'model_v1' already exists with "
        "other content:\n"
        "  training_config.epochs: recorded 4, now 3\n"
        f"{NEW_VERSION}"
    )
    assert files(artifacts) == before


def test_the_conflict_of_metadata_whose_statement_binds_other_content_advises_another_version(
    artifacts, file, metadata
):
    train(artifacts)
    file.replace(canonical_json(edited(metadata)))
    change_epochs(5)
    message = conflict_of(artifacts)
    assert "\n  training_config.epochs: recorded 4, now 5\n" in message
    assert message.endswith(f"\n{NEW_VERSION}")


def test_the_conflict_of_metadata_whose_statement_binds_other_data_advises_another_version(
    artifacts, file, metadata
):
    train(artifacts)
    file.replace(canonical_json(edited(metadata)))
    dataset = artifacts.datasets / "dataset_v1"
    delete(dataset / "metadata.json")
    (dataset / "data.jsonl").replace(DATA.replace(b"one", b"One"))
    message = conflict_of(artifacts)
    assert "\n  training_config.epochs: recorded 4, now 3\n" in message
    assert message.endswith(f"\n{NEW_VERSION}")


def test_the_conflict_of_a_version_that_is_named_as_a_derived_one_advises_another_version(
    artifacts, metadata
):
    (artifacts.models / DERIVED / "metadata.json").replace(
        canonical_json({**metadata, "model_version": DERIVED})
    )
    change_epochs()
    assert conflict_of(artifacts, DERIVED).endswith(f"\n{NEW_VERSION}")


def test_the_conflict_of_metadata_with_a_config_of_other_settings_advises_another_version(
    artifacts, file, metadata
):
    file.replace(canonical_json(metadata))
    other = {**metadata, "training_config": {"layers": 2}}
    dependencies = [ResolvedDependency(name="dataset", digest={"sha256": DATA_SHA256})]
    with pytest.raises(ModelVersionConflict) as caught:
        write_metadata(other, artifacts.models, dependencies=dependencies)
    assert caught.value.details == ["training_config.layers: recorded None, now 2"]
    assert str(caught.value).endswith(NEW_VERSION)


def test_reformatted_metadata_is_an_error_with_both_digests_and_left_as_found(
    artifacts, file, metadata
):
    train(artifacts)
    found = json.dumps(metadata).encode()
    file.replace(found)
    with pytest.raises(CorruptFileError) as caught:
        train(artifacts)
    assert str(caught.value) == (
        "artifacts/models/model_v1/metadata.json: expected sha256 "
        "e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7, found "
        "62803e38fec2bb456f52935d43393545533793eb6a4fbae62cdc15bab0527f82. "
        "The five fields are equal. Left as found. The file was edited after it was written: "
        "restore it, or delete it to have it written again."
    )
    assert contents(file) == found


def test_metadata_with_a_field_added_is_left_as_found(artifacts, file, metadata):
    found = canonical_json({**metadata, "note": "added by hand"})
    file.replace(found)
    with pytest.raises(
        CorruptFileError, match=r"The five fields are equal\. Left as found\. The file was edited"
    ):
        train(artifacts)
    assert contents(file) == found


@pytest.mark.parametrize(
    ("found", "message", "digest"),
    [
        (
            b"",
            "line 1, column 1: the file is empty.",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            b"{",
            "line 1, column 2: not valid JSON (Expecting property name enclosed in double quotes).",
            "021fb596db81e6d02bf3d2586ee3981fe519f275c0ac9ca76bbcf2ebb4097d96",
        ),
    ],
)
def test_metadata_that_is_not_json_is_an_error_with_both_digests_and_left_as_found(
    found, message, digest, artifacts, file
):
    file.replace(found)
    with pytest.raises(CorruptFileError) as caught:
        train(artifacts)
    assert str(caught.value) == (
        f"artifacts/models/model_v1/metadata.json: {message} Left as found.\n"
        "artifacts/models/model_v1/metadata.json: expected sha256 "
        f"e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7, found {digest}."
    )
    assert contents(file) == found


# --- Runs that stop before any file is written ---------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/abs", "a/b", "a\n", "a" * 129, "registry.json", 3, "é"],
)
def test_an_invalid_model_version_is_refused_before_any_file_is_read(name, artifacts, files):
    before = files(artifacts)
    with pytest.raises(ValueError, match=r"^model_version: expected a name of at most"):
        train(artifacts, name, "no/such/config.yaml")
    assert files(artifacts) == before


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda _: Path(CONFIG).unlink(), FileNotFoundError),
        (lambda _: change_epochs(0), ConfigError),
        (lambda dataset: delete(dataset / "data.jsonl"), FileNotFoundError),
        (lambda dataset: (dataset / "data.jsonl").replace(b"{}"), DatasetMismatchError),
    ],
    ids=["no config", "bad config", "no data", "other data"],
)
def test_a_run_that_cannot_start_writes_no_file(damage, error, artifacts, files):
    damage(artifacts.datasets / "dataset_v1")
    before = files(artifacts)
    with pytest.raises(error):
        train(artifacts)
    assert files(artifacts) == before
    assert not FILE.parent.parent.exists()


def test_a_version_folder_that_leads_out_of_the_root_is_refused(project, tmp_path):
    (project / "artifacts/models").mkdir()
    (tmp_path / "outside").mkdir()
    FILE.parent.symlink_to(tmp_path / "outside")
    with pytest.raises(CorruptFileError, match=r"artifacts/models/model_v1: .* found a link"):
        train_model(CONFIG, "model_v1")
    assert list((tmp_path / "outside").iterdir()) == []


# --- Derived versions ----------------------------------------------------------------------------


def dataset_of(name="dataset_v1", sha256="0" * 64):
    return DatasetVersion(name=name, path="data.jsonl", num_samples=3, sha256=sha256)


def test_a_version_is_derived_from_config_and_data_if_none_is_given(artifacts):
    dataset = resolve_dataset("dataset_v1", artifacts.datasets)
    assert derive_model_version(load_training_config(CONFIG), dataset) == DERIVED
    assert train(artifacts, None) == Path("artifacts/models", DERIVED)
    written = contents(artifacts.models / DERIVED / "metadata.json")
    assert json.loads(written)["model_version"] == DERIVED


@pytest.mark.parametrize(
    ("base_model", "start"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama-Llama-3.1-8B-d-"),
        ("../../etc/passwd", "etc-passwd-d-"),
        ("模型", "model-d-"),
        ("m" * 256, "m" * 50 + "-d-"),
    ],
)
def test_a_derived_version_starts_with_the_valid_characters_of_the_base_model(base_model, start):
    config = TrainingConfig(
        base_model=base_model, dataset_version="d", learning_rate=1, epochs=1, batch_size=1
    )
    assert derive_model_version(config, dataset_of("d")).startswith(start)


@given(config_values)
def test_a_derived_version_is_always_a_valid_name(values):
    version = derive_model_version(TrainingConfig(**values), dataset_of(values["dataset_version"]))
    assert check_version("model_version", version) == version


@given(config_values, config_values)
def test_another_config_gives_another_version(one, other):
    versions = {
        derive_model_version(TrainingConfig(**values), dataset_of()) for values in (one, other)
    }
    assert len(versions) == 1 + (one != other)


def test_a_version_derived_from_the_longest_names_is_a_valid_name():
    config = TrainingConfig(
        base_model="m" * 256, dataset_version="d" * 128, learning_rate=1, epochs=1, batch_size=1
    )
    version = derive_model_version(config, dataset_of("d" * 128))
    assert check_version("model_version", version)[:-12] == f"{'m' * 50}-{'d' * 50}-"


def test_other_data_gives_another_version():
    config = load_training_config(CONFIG)
    one, other = (derive_model_version(config, dataset_of(sha256=d * 64)) for d in "01")
    assert one[:-12] == other[:-12]
    assert one != other


# --- Metadata ------------------------------------------------------------------------------------


def test_metadata_has_the_values_of_config_dataset_and_version(metadata):
    config, dataset = load_training_config(CONFIG), resolve_dataset("dataset_v1")
    assert model_metadata(config, dataset, "model_v1") == metadata


def test_metadata_of_an_invalid_version_is_refused():
    config, dataset = load_training_config(CONFIG), resolve_dataset("dataset_v1")
    with pytest.raises(ValueError, match=r"^model_version: expected a name"):
        model_metadata(config, dataset, "../x")


def test_write_metadata_returns_the_path_of_the_file(artifacts, file, metadata):
    assert write_metadata(metadata, artifacts.models, dependencies=DEPENDENCIES) == file
    assert contents(file) == WRITTEN


def test_write_metadata_writes_below_the_default_folder(metadata):
    path = write_metadata(metadata, dependencies=DEPENDENCIES)
    assert (str(path), FILE.read_bytes()) == (str(FILE), WRITTEN)


def test_write_metadata_refuses_an_invalid_version(artifacts, files, metadata):
    before = files(artifacts)
    with pytest.raises(ValueError, match=r"^model_version: expected a name"):
        write_metadata(
            {**metadata, "model_version": "../x"}, artifacts.models, dependencies=DEPENDENCIES
        )
    assert files(artifacts) == before


def test_a_deleted_statement_is_written_again_with_a_warning(artifacts, file, metadata, warnings):
    file.replace(canonical_json(metadata))
    train(artifacts)
    assert contents(file.parent / "provenance.json") is not None
    assert warnings == [
        (
            "WARNING",
            "artifacts/models/model_v1/provenance.json: not found next to metadata.json: an older "
            "release wrote none, or the file was deleted. Written; it describes this run, not the "
            "run that wrote metadata.json.",
        )
    ]
    train(artifacts)
    assert len(warnings) == 1


class Overtaken:
    """A store in which another writer creates each metadata.json first, with other bytes."""

    def __init__(self, store, data):
        self.store, self.data = store, data

    def __getattr__(self, name):
        return getattr(self.store, name)

    def create(self, key, data):
        if key.endswith("/metadata.json"):
            self.store.create(key, self.data)
        return self.store.create(key, data)


def overtaken(metadata, artifacts, data):
    models = StorePath(Overtaken(artifacts.models.store, data), artifacts.models.key)
    return write_metadata(
        metadata, models, dependencies=DEPENDENCIES, invocation=Invocation(id="slower")
    )


@pytest.mark.parametrize("change", [{"num_training_samples": 4}, {"base_model": "other"}])
def test_metadata_that_another_writer_created_first_is_a_conflict(
    change, artifacts, file, metadata
):
    first = {**metadata, **change}
    with pytest.raises(ModelVersionConflict) as caught:
        overtaken(metadata, artifacts, canonical_json(first))
    [(field, value)] = change.items()
    assert caught.value.details == [f"{field}: recorded {value!r}, now {metadata[field]!r}"]
    assert contents(file) == canonical_json(first)


def test_the_same_metadata_that_another_writer_created_first_is_no_conflict(
    artifacts, file, metadata
):
    assert overtaken(metadata, artifacts, WRITTEN).key == file.key
    assert contents(file) == WRITTEN


# --- Concurrent processes ------------------------------------------------------------------------


TRAIN = """
from src.records.metadata import ModelVersionConflict
from src.training.trainer import train_model
---
won = 0
for n in range(20):
    try:
        train_model(sys.argv[1], f"model_v{n}")
        won += 1
    except ModelVersionConflict:
        pass
print(won)
"""


def test_concurrent_runs_of_one_version_with_one_config_all_succeed(concurrently, project):
    assert concurrently(TRAIN, *[(CONFIG,)] * 3) == ["20"] * 3
    models = project / "artifacts/models"
    assert sorted(path.name for path in models.rglob("*.*")) == [
        *["metadata.json"] * 20,
        *["provenance.json"] * 20,
    ]
    assert (models / "model_v1/metadata.json").read_bytes() == WRITTEN


def test_of_concurrent_runs_of_one_version_with_two_configs_one_succeeds(concurrently):
    Path("other.yaml").write_bytes(Path(CONFIG).read_bytes().replace(b"epochs: 3", b"epochs: 4"))
    won = concurrently(TRAIN, (CONFIG,), ("other.yaml",))
    assert sum(map(int, won)) == 20
    for n in range(20):
        data = Path(f"artifacts/models/model_v{n}/metadata.json").read_bytes()
        data = data.replace(b"model_v%d" % n, b"model_v1")
        assert data in (WRITTEN, WRITTEN.replace(b'"epochs": 3', b'"epochs": 4'))
