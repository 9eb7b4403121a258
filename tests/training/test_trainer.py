import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given

from src.storage import CorruptFileError, canonical_json, create
from src.training.config import ConfigError, TrainingConfig, load_training_config
from src.training.dataset import DatasetMismatchError, DatasetVersion, resolve_dataset
from src.training.registry import register_model
from src.training.trainer import (
    derive_model_version,
    model_metadata,
    train_model,
    write_metadata,
)
from src.versions import ModelVersionConflict, check_version
from tests.strategies import config_values

CONFIG = "configs/training/mistral_finetune.yaml"
FILE = Path("artifacts/models/model_v1/metadata.json")
WRITTEN = """\
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


@pytest.fixture(autouse=True)
def _in_project(project):
    """Every test works in a project of its own."""


# --- What is written -----------------------------------------------------------------------------


def test_training_writes_exactly_the_five_specified_fields(metadata):
    assert train_model(CONFIG, "model_v1") == Path("artifacts/models/model_v1")
    assert FILE.read_text() == WRITTEN
    assert json.loads(WRITTEN) == metadata


def test_training_writes_nothing_but_the_metadata_and_its_provenance(project, tree):
    before = tree(project)
    train_model(CONFIG, "model_v1")
    files = tree(project)
    del files["artifacts/models/model_v1/provenance.json"]
    assert files == {**before, str(FILE): WRITTEN.encode()}


def test_training_again_changes_no_byte_and_does_not_write():
    train_model(CONFIG, "model_v1")
    before = FILE.read_bytes(), FILE.stat()
    assert train_model(CONFIG, "model_v1") == Path("artifacts/models/model_v1")
    assert (FILE.read_bytes(), FILE.stat()) == before


def test_the_folders_of_models_and_datasets_may_lie_elsewhere(tmp_path, project):
    (project / "artifacts/datasets").rename(tmp_path / "data")
    folder = train_model(CONFIG, "model_v1", tmp_path / "out", datasets_dir=tmp_path / "data")
    assert folder == tmp_path / "out/model_v1"
    assert (folder / "metadata.json").read_text() == WRITTEN
    assert not (project / "artifacts/models").exists()


def test_deleted_metadata_is_made_anew_byte_for_byte(metadata):
    train_model(CONFIG, "model_v1")
    register_model(metadata)
    FILE.unlink()
    train_model(CONFIG, "model_v1")
    assert FILE.read_text() == WRITTEN


# --- A version is bound for ever -----------------------------------------------------------------


def change_epochs(epochs=4):
    path = Path(CONFIG)
    path.write_bytes(path.read_bytes().replace(b"epochs: 3", b"epochs: %d" % epochs))


def conflict_of(model_version="model_v1"):
    with pytest.raises(ModelVersionConflict) as caught:
        train_model(CONFIG, model_version)
    return str(caught.value)


def test_other_content_under_the_same_version_is_a_conflict_and_changes_nothing(project, tree):
    train_model(CONFIG, "model_v1")
    change_epochs()
    before = tree(project)
    assert conflict_of() == (
        "artifacts/models/model_v1/metadata.json: model version 'model_v1' is already bound to "
        "other content:\n"
        "  training_config.epochs: recorded 3, now 4\n"
        "Nothing was changed. A version never changes: choose another model_version."
    )
    assert tree(project) == before


def test_more_data_under_the_same_version_is_a_conflict(project):
    train_model(CONFIG, "model_v1")
    dataset = project / "artifacts/datasets/dataset_v1"
    (dataset / "metadata.json").unlink()
    with (dataset / "data.jsonl").open("ab") as file:
        file.write(b"{}\n")
    assert "\n  num_training_samples: recorded 3, now 4\n" in conflict_of()


def test_a_conflict_names_the_metadata_where_the_entry_is_at_odds_too(metadata):
    train_model(CONFIG, "model_v1")
    register_model(metadata)
    change_epochs()
    assert conflict_of().startswith("artifacts/models/model_v1/metadata.json: model version")


def test_a_version_stays_bound_by_its_entry_when_its_file_is_gone(metadata, project, tree):
    train_model(CONFIG, "model_v1")
    register_model(metadata)
    shutil.rmtree(FILE.parent)
    change_epochs()
    before = tree(project)
    assert conflict_of() == (
        "artifacts/models/registry.json: model version 'model_v1' is already bound to other "
        "content:\n"
        "  training_config.epochs: recorded 3, now 4\n"
        "Nothing was changed. A version never changes: choose another model_version."
    )
    assert tree(project) == before
    assert not FILE.parent.exists()


def test_an_unreadable_registry_stops_a_new_version_before_anything_is_written(project, tree):
    (project / "artifacts/models").mkdir()
    (project / "artifacts/models/registry.json").write_bytes(b"{")
    before = tree(project)
    with pytest.raises(CorruptFileError, match=r"^artifacts/models/registry\.json: line 1"):
        train_model(CONFIG, "model_v1")
    assert tree(project) == before


# --- Metadata that is not what it must be --------------------------------------------------------


def test_reformatted_metadata_is_named_with_both_digests_and_left_as_found(metadata):
    train_model(CONFIG, "model_v1")
    found = json.dumps(metadata).encode()
    FILE.write_bytes(found)
    with pytest.raises(CorruptFileError) as caught:
        train_model(CONFIG, "model_v1")
    assert str(caught.value) == (
        "artifacts/models/model_v1/metadata.json: expected sha256 "
        "e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7, found "
        "62803e38fec2bb456f52935d43393545533793eb6a4fbae62cdc15bab0527f82, "
        "with the same five fields: it was edited since it was written. "
        "Left as found; restore it, or delete it to have it written again."
    )
    assert FILE.read_bytes() == found


def test_metadata_with_a_field_added_is_left_as_found(metadata):
    FILE.parent.mkdir(parents=True)
    found = canonical_json({**metadata, "note": "added by hand"})
    FILE.write_bytes(found)
    with pytest.raises(CorruptFileError, match="with the same five fields: it was edited"):
        train_model(CONFIG, "model_v1")
    assert FILE.read_bytes() == found


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
def test_torn_metadata_is_named_with_both_digests_and_left_as_found(found, message, digest):
    FILE.parent.mkdir(parents=True)
    FILE.write_bytes(found)
    with pytest.raises(CorruptFileError) as caught:
        train_model(CONFIG, "model_v1")
    assert str(caught.value) == (
        f"artifacts/models/model_v1/metadata.json: {message} Left as found.\n"
        "artifacts/models/model_v1/metadata.json: expected sha256 "
        f"e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7, found {digest}."
    )
    assert FILE.read_bytes() == found


# --- What stops a run before anything is written -------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/abs", "a/b", "a\n", "a" * 129, "registry.json", 3, "é"],
)
def test_a_bad_model_version_is_refused_before_any_file_is_read(name, project, tree):
    before = tree(project)
    with pytest.raises(ValueError, match=r"^model_version: expected a name of at most"):
        train_model("no/such/config.yaml", name)
    assert tree(project) == before


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda: Path(CONFIG).unlink(), FileNotFoundError),
        (lambda: change_epochs(0), ConfigError),
        (lambda: Path("artifacts/datasets/dataset_v1/data.jsonl").unlink(), FileNotFoundError),
        (
            lambda: Path("artifacts/datasets/dataset_v1/data.jsonl").write_bytes(b"{}"),
            DatasetMismatchError,
        ),
    ],
    ids=["no config", "bad config", "no data", "other data"],
)
def test_a_run_that_cannot_start_leaves_no_trace(damage, error, project):
    damage()
    with pytest.raises(error):
        train_model(CONFIG, "model_v1")
    assert not (project / "artifacts/models").exists()


def test_a_version_folder_that_leads_elsewhere_is_refused(project, tmp_path):
    (project / "artifacts/models").mkdir()
    (tmp_path / "outside").mkdir()
    FILE.parent.symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="leads out of artifacts/models"):
        train_model(CONFIG, "model_v1")
    assert list((tmp_path / "outside").iterdir()) == []


# --- A derived version ---------------------------------------------------------------------------


def dataset_of(name="dataset_v1", sha256="0" * 64):
    return DatasetVersion(name=name, path=Path("data.jsonl"), num_samples=3, sha256=sha256)


def test_without_a_version_it_is_derived_from_config_and_data():
    derived = "mistral-7b-dataset_v1-381570cb7ffa"
    assert (
        derive_model_version(load_training_config(CONFIG), resolve_dataset("dataset_v1")) == derived
    )
    assert train_model(CONFIG) == Path("artifacts/models") / derived
    assert (
        json.loads((Path("artifacts/models") / derived / "metadata.json").read_bytes())[
            "model_version"
        ]
        == derived
    )


@pytest.mark.parametrize(
    ("base_model", "start"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama-Llama-3.1-8B-d-"),
        ("../../etc/passwd", "etc-passwd-d-"),
        ("模型", "model-d-"),
        ("m" * 256, "m" * 50 + "-d-"),
    ],
)
def test_a_derived_version_starts_with_what_of_the_base_model_may_stand_in_a_name(
    base_model, start
):
    config = TrainingConfig(
        base_model=base_model, dataset_version="d", learning_rate=1, epochs=1, batch_size=1
    )
    assert derive_model_version(config, dataset_of("d")).startswith(start)


@given(config_values)
def test_a_derived_version_is_always_a_name(values):
    version = derive_model_version(TrainingConfig(**values), dataset_of(values["dataset_version"]))
    assert check_version("model_version", version) == version


@given(config_values, config_values)
def test_another_config_gives_another_version(one, other):
    versions = {
        derive_model_version(TrainingConfig(**values), dataset_of()) for values in (one, other)
    }
    assert len(versions) == 1 + (one != other)


def test_a_version_derived_from_the_longest_names_is_a_name():
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


# --- Its parts -----------------------------------------------------------------------------------


def test_metadata_is_made_of_config_data_and_version(metadata):
    config, dataset = load_training_config(CONFIG), resolve_dataset("dataset_v1")
    assert model_metadata(config, dataset, "model_v1") == metadata


def test_metadata_is_not_made_for_a_bad_version():
    config, dataset = load_training_config(CONFIG), resolve_dataset("dataset_v1")
    with pytest.raises(ValueError, match=r"^model_version: expected a name"):
        model_metadata(config, dataset, "../x")


def test_writing_metadata_gives_the_path_of_its_file(metadata):
    assert write_metadata(metadata) == FILE
    assert FILE.read_text() == WRITTEN


def test_metadata_of_a_bad_version_is_not_written(metadata, project, tree):
    before = tree(project)
    with pytest.raises(ValueError, match=r"^model_version: expected a name"):
        write_metadata({**metadata, "model_version": "../x"})
    assert tree(project) == before


def test_of_two_that_write_one_version_at_once_the_later_is_a_conflict(metadata, monkeypatch):
    def late(path, data, *, root):
        create(path, canonical_json({**metadata, "num_training_samples": 4}), root=root)
        return create(path, data, root=root)

    monkeypatch.setattr("src.training.trainer.create", late)
    with pytest.raises(ModelVersionConflict) as caught:
        write_metadata(metadata)
    assert caught.value.details == ["num_training_samples: recorded 4, now 3"]


# --- Several processes ---------------------------------------------------------------------------


TRAIN = """
from src.training.trainer import train_model
from src.versions import ModelVersionConflict
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


def test_processes_that_train_one_version_at_once_all_succeed(at_once, project):
    assert at_once(TRAIN, *[(CONFIG,)] * 3) == ["20"] * 3
    models = project / "artifacts/models"
    assert sorted(path.name for path in models.rglob("*.*")) == [
        *["metadata.json"] * 20,
        *["provenance.json"] * 20,
    ]
    assert (models / "model_v1/metadata.json").read_text() == WRITTEN


def test_of_processes_that_train_one_version_on_other_configs_one_wins(at_once):
    Path("other.yaml").write_bytes(Path(CONFIG).read_bytes().replace(b"epochs: 3", b"epochs: 4"))
    won = at_once(TRAIN, (CONFIG,), ("other.yaml",))
    assert sum(map(int, won)) == 20
    for n in range(20):
        text = Path(f"artifacts/models/model_v{n}/metadata.json").read_text()
        text = text.replace(f"model_v{n}", "model_v1")
        assert text in (WRITTEN, WRITTEN.replace('"epochs": 3', '"epochs": 4'))
