import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from src.artifacts import read_statement
from src.environment import Invocation
from src.errors import CorruptFileError
from src.evaluation import attestation
from src.records.canonical import canonical_json
from src.records.metadata import ModelVersionConflict
from src.records.statement import ResolvedDependency
from src.training import binding
from src.training.binding import bind_model, check_binding
from src.training.config import load_training_config
from src.training.dataset import resolve_dataset
from src.training.pipeline import run_training_pipeline
from src.training.trainer import model_metadata, train_model
from tests.examples import CONFIG as CONFIG_TEXT
from tests.examples import DATA_SHA256
from tests.stores import delete

CONFIG = "configs/training/mistral_finetune.yaml"
METADATA_SHA256 = "e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7"
OTHER_DATA = b'{"text": "one"}\n{"text": "TWO"}\n{"text": "three"}\n'
OTHER_SHA256 = sha256(OTHER_DATA).hexdigest()
DATASET = [ResolvedDependency(name="dataset", digest={"sha256": DATA_SHA256})]
OTHER_DATASET = [ResolvedDependency(name="dataset", digest={"sha256": "1" * 64})]
RUN = Invocation(id="run-1")


@pytest.fixture
def folder(artifacts):
    """The folder of `model_v1` on each back end in turn; it has no file yet."""
    return artifacts.models / "model_v1"


@pytest.fixture
def file(folder):
    """The provenance.json of `model_v1`."""
    return folder / "provenance.json"


def run(artifacts, config=CONFIG, **arguments):
    return run_training_pipeline(config, "model_v1", artifacts_dir=artifacts.root, **arguments)


def train(artifacts):
    train_model(CONFIG, "model_v1", artifacts.models, datasets_dir=artifacts.datasets)


def change_data(artifacts):
    dataset = artifacts.datasets / "dataset_v1"
    (dataset / "data.jsonl").replace(OTHER_DATA)
    delete(dataset / "metadata.json")


def edit(path, *place, value):
    statement = json.loads(path.read(1 << 20))
    at = statement
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    path.replace(canonical_json(statement))


# --- Written once --------------------------------------------------------------------------------


def test_a_run_without_an_invocation_is_recorded_with_a_new_id_and_the_time(artifacts, folder):
    run(artifacts)
    statement = read_statement(folder)
    assert re.fullmatch("[0-9a-f]{32}", statement.invocation_id)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", statement.started_on)
    assert statement.started_on <= statement.finished_on
    assert statement.url is None
    evaluation = read_statement(artifacts.evaluations / "model_v1")
    assert evaluation.invocation_id == statement.invocation_id


def test_a_later_run_does_not_replace_the_first(artifacts, files):
    run(artifacts, invocation=RUN)
    before = files(artifacts)
    run(artifacts)
    assert files(artifacts) == before


def test_a_later_run_does_not_inspect_the_environment(artifacts, monkeypatch):
    run(artifacts)
    monkeypatch.setattr(binding, "environment_dependencies", None)
    monkeypatch.setattr(attestation, "core_dependency", None)
    run(artifacts)


def test_binding_returns_whether_it_wrote_the_statement(metadata, folder):
    assert bind_model(metadata, folder, DATASET, RUN)
    assert read_statement(folder).invocation_id == "run-1"
    assert not bind_model(metadata, folder, DATASET, Invocation())
    assert read_statement(folder).invocation_id == "run-1"


def test_a_version_without_a_statement_gets_one_from_the_next_run_with_a_warning(
    artifacts, folder, file, warnings
):
    run(artifacts)
    delete(file)
    run(artifacts, invocation=RUN)
    assert read_statement(folder).invocation_id == "run-1"
    assert warnings == [
        (
            "WARNING",
            "artifacts/models/model_v1/provenance.json: not found next to metadata.json: an older "
            "release wrote none, or the file was deleted. Written; it describes this run, not the "
            "run that wrote metadata.json.",
        )
    ]


def test_a_new_version_logs_no_warning(artifacts, warnings):
    run(artifacts)
    run(artifacts)
    assert warnings == []


def test_the_path_of_a_config_that_is_not_text_is_escaped(artifacts, folder):
    path = Path(b"c\xff.yaml".decode(errors="surrogateescape"))
    path.write_text(CONFIG_TEXT)
    run(artifacts, path)
    assert read_statement(folder).dependency("config").uri == "c\\udcff.yaml"


def test_a_config_that_changes_during_the_run_is_recorded_as_it_was_read(
    artifacts, folder, monkeypatch
):
    def slow(*arguments):
        Path(CONFIG).write_text("epochs: 9\n")
        return resolve_dataset(*arguments)

    monkeypatch.setattr("src.training.trainer.resolve_dataset", slow)
    train(artifacts)
    expected = sha256(CONFIG_TEXT.encode()).hexdigest()
    assert read_statement(folder).digest("config") == expected


# --- Conflicts -----------------------------------------------------------------------------------


def test_other_data_of_the_same_count_is_a_conflict_that_names_both_digests(artifacts, files):
    run(artifacts)
    change_data(artifacts)
    before = files(artifacts)
    with pytest.raises(ModelVersionConflict) as caught:
        run(artifacts)
    assert str(caught.value) == (
        "artifacts/models/model_v1/provenance.json: model version 'model_v1' already exists with "
        "other content:\n"
        f"  data_sha256: recorded '{DATA_SHA256}', now '{OTHER_SHA256}'\n"
        "Nothing was changed. A version never changes: choose another model_version."
    )
    assert files(artifacts) == before


def test_a_version_stays_bound_to_config_and_data_by_its_statement_alone(artifacts, folder, files):
    train(artifacts)
    delete(folder / "metadata.json")
    change_data(artifacts)
    Path(CONFIG).write_text(CONFIG_TEXT.replace("epochs: 3", "epochs: 4"))
    before = files(artifacts)
    with pytest.raises(ModelVersionConflict) as caught:
        train(artifacts)
    assert caught.value.details == [
        "training_config.epochs: recorded 3, now 4",
        f"data_sha256: recorded '{DATA_SHA256}', now '{OTHER_SHA256}'",
    ]
    assert files(artifacts) == before


def test_an_older_version_without_a_statement_is_not_bound_to_its_data(artifacts, folder, file):
    run(artifacts)
    delete(file)
    change_data(artifacts)
    run(artifacts)
    assert read_statement(folder).digest("dataset") == OTHER_SHA256


def test_a_check_returns_the_bytes_that_bind_the_version_or_none(metadata, artifacts, folder, file):
    assert check_binding(metadata, folder, DATA_SHA256) is None
    run(artifacts)
    assert check_binding(metadata, folder, DATA_SHA256) == file.read(1 << 20)
    with pytest.raises(ModelVersionConflict) as caught:
        check_binding(metadata, folder, "0" * 64)
    assert caught.value.details == [f"data_sha256: recorded '{DATA_SHA256}', now '{'0' * 64}'"]


def test_metadata_can_be_checked_before_it_is_written(artifacts, folder, file):
    config = load_training_config(CONFIG)
    dataset = resolve_dataset("dataset_v1", artifacts.datasets)
    run(artifacts)
    found = check_binding(model_metadata(config, dataset, "model_v1"), folder, dataset.sha256)
    assert found == file.read(1 << 20)


# --- Altered statements --------------------------------------------------------------------------


@pytest.mark.parametrize("work", [run, train])
def test_the_statement_of_another_version_is_named_and_left_as_found(work, artifacts, file, files):
    run(artifacts)
    definition = ("predicate", "buildDefinition")
    edit(file, *definition, "externalParameters", "model_version", value="model_v2")
    before = files(artifacts)
    with pytest.raises(CorruptFileError) as caught:
        work(artifacts)
    assert str(caught.value) == (
        "artifacts/models/model_v1/provenance.json: model_version: expected 'model_v1', found "
        "'model_v2'. Left as found."
    )
    assert files(artifacts) == before


def test_an_edited_subject_is_named_with_both_digests_and_left_as_found(artifacts, file, files):
    run(artifacts)
    edit(file, "subject", 0, "digest", "sha256", value="0" * 64)
    before = files(artifacts)
    with pytest.raises(CorruptFileError) as caught:
        run(artifacts)
    assert str(caught.value) == (
        "artifacts/models/model_v1/provenance.json: subject: expected sha256 "
        f"{METADATA_SHA256} of metadata.json, found '{'0' * 64}'. Left as found; restore the "
        "file, or delete it to have it written again."
    )
    assert files(artifacts) == before


# --- Races ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [False, True], ids=["the same", "other data"])
def test_of_two_runs_that_bind_one_version_the_first_wins(other, metadata, folder, monkeypatch):
    create = folder.store.create

    def late(key, data):
        monkeypatch.setattr(folder.store, "create", create)
        assert bind_model(metadata, folder, OTHER_DATASET if other else DATASET, RUN)
        return create(key, data)

    monkeypatch.setattr(folder.store, "create", late)
    if other:
        with pytest.raises(ModelVersionConflict):
            bind_model(metadata, folder, DATASET, Invocation())
    else:
        assert not bind_model(metadata, folder, DATASET, Invocation())
    assert read_statement(folder).invocation_id == "run-1"


def test_a_statement_that_replaces_the_checked_one_is_checked_too(
    metadata, artifacts, folder, file, monkeypatch
):
    run(artifacts)
    create = folder.store.create

    def late(key, data):
        delete(file)
        monkeypatch.setattr(folder.store, "create", create)
        assert bind_model(metadata, folder, OTHER_DATASET, RUN)
        return create(key, data)

    monkeypatch.setattr(folder.store, "create", late)
    with pytest.raises(ModelVersionConflict) as caught:
        bind_model(metadata, folder, DATASET, Invocation())
    assert caught.value.details == [f"data_sha256: recorded '{'1' * 64}', now '{DATA_SHA256}'"]
    assert read_statement(folder).digest("dataset") == "1" * 64
