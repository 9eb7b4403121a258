"""Many configs in a batch leave what they leave one after the other."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.artifacts import Artifacts
from src.components.work import locked_work
from src.environment import Invocation
from src.errors import CorruptFileError
from src.records.metadata import ModelVersionConflict
from src.storage import FolderStore, StorePath, together
from src.storage.overlay import NewFilesStore, NotNewError
from src.training import batches
from src.training.batches import (
    Outcome,
    evaluate_batch,
    outcomes,
    register_batch,
    write_metadata_batch,
)
from src.training.config import read_config_file
from src.training.dataset import resolve_dataset
from src.training.pipeline import run_training_pipeline
from src.training.registry import find_models, list_models, register_model
from tests.conftest import stored
from tests.examples import CONFIG, without_runs
from tests.stores import MemoryStore, delete

INVOCATION = Invocation(id="a-run", started_on="2026-01-01T00:00:00.000Z")
VERSIONS = ["model_v1", "model_v2", "model_v3"]


@pytest.fixture(autouse=True)
def _in_project(project):
    """The project as the working directory of every test; with a config for each version."""
    for epochs, version in enumerate(VERSIONS, start=1):
        Path(f"{version}.yaml").write_text(CONFIG.replace("epochs: 3", f"epochs: {epochs}"))


def models(artifacts, versions=VERSIONS):
    """Return config, data and version of each model."""
    dataset = resolve_dataset("dataset_v1", artifacts.datasets)
    return [(read_config_file(f"{version}.yaml"), dataset, version) for version in versions]


def run(artifacts, versions=VERSIONS):
    """Run the steps for all versions; return their outcomes by step."""
    wrote = write_metadata_batch(models(artifacts, versions), artifacts, INVOCATION)
    metadata = [each.value for each in wrote]
    registered = register_batch(metadata, artifacts)
    return wrote, registered, evaluate_batch(metadata, artifacts, INVOCATION)


def written(artifacts):
    """Write the metadata of all versions, and return it."""
    wrote = write_metadata_batch(models(artifacts), artifacts, INVOCATION)
    return [each.value for each in wrote]


def errors(found):
    return [each.error and type(each.error) for each in found]


def test_a_batch_leaves_the_files_of_its_configs_one_after_the_other(artifacts, files, project):
    others = stored(project / "artifacts", "memory, none")
    steps = run(artifacts)
    assert [[each.is_new for each in step] for step in steps] == [[True] * 3] * 3
    assert [each.value["model_version"] for each in steps[2]] == VERSIONS
    for version in VERSIONS:
        run_training_pipeline(f"{version}.yaml", version, artifacts_dir=others.root)
    assert without_runs(files(artifacts)) == without_runs(files(others))


def test_a_second_batch_changes_no_byte_and_says_so(artifacts, files):
    first = run(artifacts)
    before = files(artifacts)
    second = run(artifacts)
    assert files(artifacts) == before
    assert second == tuple([each._replace(is_new=False) for each in step] for step in first)


def test_files_that_cannot_be_written_together_are_written_alone(project, monkeypatch):
    monkeypatch.setattr(together, "_UNNAMED", 0)
    steps = run(Artifacts.open())
    assert [[each.is_new for each in step] for step in steps] == [[True] * 3] * 3
    again = run(Artifacts.open())
    assert [[each.is_new for each in step] for step in again] == [[False] * 3] * 3


def test_a_batch_needs_six_syncs_for_each_config(project, monkeypatch):
    import os

    calls, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(fsync(descriptor)))
    run(Artifacts.open())
    # Four files and two folders of each config; the folders above, twice, and the registry, once.
    assert len(calls) <= 6 * len(VERSIONS) + 10


def test_what_a_stopped_run_has_left_is_completed(artifacts, files):
    run(artifacts)
    complete = files(artifacts)
    delete(artifacts.models / "model_v2/metadata.json")
    delete(artifacts.evaluations / "model_v3/evaluation.json")
    wrote, registered, evaluated = run(artifacts)
    assert [each.is_new for each in wrote] == [False, True, False]
    assert [each.is_new for each in registered] == [False] * 3
    assert [each.is_new for each in evaluated] == [False, False, True]
    assert files(artifacts) == complete


def test_an_evaluation_that_differs_is_replaced_as_by_a_single_run(artifacts, files, warnings):
    run(artifacts)
    complete = files(artifacts)
    path = artifacts.evaluations / "model_v2/evaluation.json"
    path.replace(b"{}")
    *_, evaluated = run(artifacts)
    assert [each.is_new for each in evaluated] == [False, True, False]
    assert files(artifacts) == complete
    [(level, message)] = warnings
    assert (level, str(path) in message) == ("WARNING", True)


def test_a_config_that_conflicts_fails_alone(artifacts):
    run_training_pipeline("model_v1.yaml", "model_v2", artifacts_dir=artifacts.root)
    wrote = write_metadata_batch(models(artifacts), artifacts, INVOCATION)
    assert errors(wrote) == [None, ModelVersionConflict, None]
    done = [each.value for each in wrote if each.value is not None]
    assert errors(register_batch(done, artifacts)) == [None, None]
    assert errors(evaluate_batch(done, artifacts, INVOCATION)) == [None, None]
    names = {model["model_version"] for model in list_models(artifacts.registry)}
    assert names == set(VERSIONS)


def test_a_model_that_conflicts_with_the_registry_keeps_no_other_from_being_registered(artifacts):
    metadata = written(artifacts)
    run_training_pipeline("model_v1.yaml", "model_v1", artifacts_dir=artifacts.root)
    other = metadata[1] | {"num_training_samples": 7}
    found = register_batch([*metadata, other], artifacts)
    assert errors(found) == [None, None, None, ModelVersionConflict]
    assert [each.is_new for each in found] == [False, True, True, False]
    assert list_models(artifacts.registry) == metadata


def test_a_conflict_that_appears_while_a_batch_is_checked_keeps_no_other_from_being_registered(
    artifacts, monkeypatch
):
    one, two, three = written(artifacts)
    register_model(one | {"num_training_samples": 7}, artifacts.registry)

    def late(*arguments):
        monkeypatch.setattr(batches, "find_models", find_models)
        found = find_models(*arguments)
        register_model(two | {"num_training_samples": 7}, artifacts.registry)
        return found

    monkeypatch.setattr(batches, "find_models", late)
    found = register_batch([one, two, three], artifacts)
    assert errors(found) == [ModelVersionConflict, ModelVersionConflict, None]
    assert list_models(artifacts.registry)[2:] == [three]


def test_a_version_that_is_registered_with_other_content_is_refused_although_its_files_are_gone(
    artifacts,
):
    run_training_pipeline("model_v1.yaml", "model_v2", artifacts_dir=artifacts.root)
    for name in ("metadata.json", "provenance.json"):
        delete(artifacts.models / "model_v2" / name)
    wrote = write_metadata_batch(models(artifacts), artifacts, INVOCATION)
    assert errors(wrote) == [None, ModelVersionConflict, None]


def test_a_registry_that_is_not_valid_is_an_error_of_the_batch(artifacts):
    metadata = written(artifacts)
    artifacts.registry.create(b"{")
    with pytest.raises(CorruptFileError):
        register_batch(metadata, artifacts)
    with pytest.raises(CorruptFileError):
        write_metadata_batch(models(artifacts), artifacts, INVOCATION)


class Overtaken(MemoryStore):
    """A back end in which another process writes a statement before those of a batch."""

    def create_many(self, files):
        for key in files:
            if key.endswith("model_v2/provenance.json"):
                self.server.objects[key] = (self.others, 1)
        return super().create_many(files)


def test_a_config_for_which_another_process_was_faster_takes_its_files(project, artifacts):
    others = stored(project / "artifacts", "memory, none")
    run(others, ["model_v2"])
    store = Overtaken("artifacts")
    store.server.objects.update(others.root.store.server.objects)
    for key in [key for key in store.server.objects if "model" in key]:
        del store.server.objects[key]
    store.others = others.root.store.server.objects["models/model_v2/provenance.json"][0]
    overtaken = Artifacts(StorePath(store))
    wrote = write_metadata_batch(models(overtaken), overtaken, INVOCATION)
    assert errors(wrote) == [None] * 3
    found = (overtaken.models / "model_v2/provenance.json").read(1 << 20)
    assert found == store.others


def test_a_version_that_a_run_has_locked_is_bound_alone(project, monkeypatch):
    artifacts, together, create_many = Artifacts.open(), [], FolderStore.create_many

    def recording(store, files):
        together.extend(files)
        return create_many(store, files)

    monkeypatch.setattr(FolderStore, "create_many", recording)
    with locked_work(artifacts.models, "model_v2"):
        pass
    wrote = write_metadata_batch(models(artifacts), artifacts, INVOCATION)
    assert errors(wrote) == [None] * 3
    assert [each.is_new for each in wrote] == [True] * 3
    assert sorted(together) == [
        "models/model_v1/metadata.json",
        "models/model_v1/provenance.json",
        "models/model_v3/metadata.json",
        "models/model_v3/provenance.json",
    ]


def test_two_equal_configs_of_a_batch_are_one_model(artifacts):
    wrote, registered, evaluated = run(artifacts, ["model_v1", "model_v1"])
    assert errors([*wrote, *registered, *evaluated]) == [None] * 6
    assert [each.is_new for each in registered] == [True, False]
    assert len(list_models(artifacts.registry)) == 1


def test_outcomes_keep_errors_with_their_config():
    def step(value):
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value

    found = outcomes(step, [2, 3])
    assert found[0] == Outcome(2)
    assert str(found[1].error) == "3 is odd"


def contents(artifacts):
    return {key: data for key, (data, _) in artifacts.root.store.server.objects.items()}


def in_memory(objects):
    """Return an artifacts root in memory that has these objects."""
    store = MemoryStore("artifacts")
    store.server.objects.update(objects)
    return Artifacts(StorePath(store))


@given(
    st.sets(
        st.sampled_from(
            [f"models/{version}/metadata.json" for version in VERSIONS]
            + [f"evaluations/{version}/evaluation.json" for version in VERSIONS]
            + [f"evaluations/{version}/provenance.json" for version in VERSIONS]
        )
    )
)
@settings(max_examples=50)
def test_a_batch_completes_any_record_to_what_single_runs_write(missing):
    complete = stored(Path("artifacts").absolute(), "memory, none")
    run(complete)
    objects = complete.root.store.server.objects
    left = {key: objects[key] for key in objects.keys() - missing}
    together, one_by_one = in_memory(left), in_memory(left)
    found = run(together)
    for version in VERSIONS:
        run_training_pipeline(f"{version}.yaml", version, artifacts_dir=one_by_one.root)
    assert errors([each for step in found for each in step]) == [None] * 9
    assert without_runs(contents(together)) == without_runs(contents(one_by_one))


def test_a_store_of_new_files_refuses_to_replace_other_bytes(tmp_path):
    base = FolderStore(tmp_path)
    base.create("a", b"old")
    store = NewFilesStore(base)
    store.replace("a", b"old")
    store.replace("b", b"new")
    with pytest.raises(NotNewError):
        store.replace("a", b"new")
    assert (store.written, store.is_changed) == ({"a": b"old", "b": b"new"}, True)
    assert base.read("b", 10) is None
