import json
import shlex
import shutil
from pathlib import Path

import pytest

from src.artifacts import Artifacts
from src.errors import CorruptFileError
from src.records.metadata import ModelVersionConflict
from src.storage import read_file
from src.training import pipeline
from src.training.config import ConfigError
from src.training.pipeline import load_model_metadata, run_training_pipeline
from src.training.registry import RegistryLostError, get_model, list_models
from src.training.trainer import train_model
from tests.conftest import BACK_ENDS, stored
from tests.examples import without_runs
from tests.stores import delete

CONFIG = "configs/training/mistral_finetune.yaml"
DERIVED = "mistral-7b-dataset_v1-381570cb7ffa"
RESULTS = {
    "model_version": "model_v1",
    "dataset_version": "dataset_v1",
    "metrics": {"quality_score": 0.9031, "latency_ms": 92, "cost_per_1k_tokens": 0.015},
}
PRODUCED = [
    "evaluations/model_v1/evaluation.json",
    "evaluations/model_v1/provenance.json",
    "models/model_v1/metadata.json",
    "models/model_v1/provenance.json",
    "models/registry.json",
]
SPECIFIED = [name for name in PRODUCED if not name.endswith("provenance.json")]


@pytest.fixture(autouse=True)
def _in_project(project):
    """The project as the working directory of every test."""


@pytest.fixture
def produced(files):
    """Return the files below an artifacts root without the datasets."""

    def produced(artifacts):
        found = files(artifacts)
        return {key: data for key, data in found.items() if not key.startswith("datasets/")}

    return produced


def run(artifacts, model_version="model_v1", **options):
    return run_training_pipeline(CONFIG, model_version, artifacts_dir=artifacts.root, **options)


def contents(path):
    return path.read(1 << 20)


# --- Runs ----------------------------------------------------------------------------------------


def test_the_specified_example_returns_the_evaluation(metadata):
    results = run_training_pipeline(training_config_path=CONFIG, model_version="model_v1")
    assert results == RESULTS
    assert (
        json.loads(Path("artifacts/evaluations/model_v1/evaluation.json").read_bytes()) == RESULTS
    )
    assert load_model_metadata("model_v1") == metadata
    assert list_models() == [metadata]


def test_a_run_returns_the_evaluation_and_registers_the_model(artifacts, metadata):
    assert run(artifacts) == RESULTS
    written = contents(artifacts.evaluations / "model_v1/evaluation.json")
    assert json.loads(written) == RESULTS
    assert load_model_metadata("model_v1", artifacts.models) == metadata
    assert list_models(artifacts.registry) == [metadata]


def test_a_run_writes_three_files_and_two_statements(artifacts, produced):
    run(artifacts)
    assert list(produced(artifacts)) == PRODUCED


def test_a_run_leaves_one_lock_file_and_no_temporary_file(project, tree):
    run_training_pipeline(CONFIG, "model_v1")
    written = [name for name in tree(project / "artifacts") if not name.startswith("datasets/")]
    assert written == [*PRODUCED, "models/registry.json.lock"]


def test_a_run_leaves_the_datasets_and_the_config_unchanged(artifacts, files, project, tree):
    before, configs = files(artifacts), tree(project / "configs")
    run(artifacts)
    assert before.items() <= files(artifacts).items()
    assert tree(project / "configs") == configs


def test_a_second_run_changes_no_byte_and_returns_the_same(artifacts, files):
    first = run(artifacts)
    before = files(artifacts)
    assert run(artifacts) == first
    assert files(artifacts) == before


def test_a_second_run_writes_no_file(project):
    first = run_training_pipeline(CONFIG, "model_v1")
    paths = [project / "artifacts" / name for name in PRODUCED]
    before = [(path.read_bytes(), path.stat()) for path in paths]
    assert run_training_pipeline(CONFIG, "model_v1") == first
    assert [(path.read_bytes(), path.stat()) for path in paths] == before


def test_a_second_run_with_a_derived_version_adds_nothing(artifacts, produced):
    results = run(artifacts, None)
    assert results["model_version"] == DERIVED
    before = produced(artifacts)
    assert run(artifacts, None) == results
    assert produced(artifacts) == before
    assert [model["model_version"] for model in list_models(artifacts.registry)] == [DERIVED]


def test_runs_on_every_back_end_write_the_same_bytes(project, produced):
    roots = [stored(project / "artifacts", back_end) for back_end in BACK_ENDS]
    for root in roots:
        run(root)
    first, *others = [without_runs(produced(root)) for root in roots]
    assert list(first) == PRODUCED
    assert others == [first] * (len(BACK_ENDS) - 1)


def test_runs_write_the_same_bytes_in_any_folder(project, tmp_path, produced):
    run_training_pipeline(CONFIG, "model_v1")
    shutil.copytree(project / "artifacts/datasets", tmp_path / "root/datasets")
    run_training_pipeline(Path(CONFIG).resolve(), "model_v1", artifacts_dir=tmp_path / "root")
    one, other = Artifacts.open(), Artifacts.open(tmp_path / "root")
    assert list(produced(one)) == PRODUCED
    assert without_runs(produced(other)) == without_runs(produced(one))


def test_relative_paths_are_resolved_when_the_run_starts(project, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(project, other)
    monkeypatch.chdir(other)
    run_training_pipeline(CONFIG, "model_v1")
    assert (other / "artifacts/models/registry.json").is_file()
    assert not (project / "artifacts/models").exists()


def test_the_metrics_argument_measures_the_model(artifacts, metadata):
    seen = []

    def metrics(given):
        seen.append(dict(given))
        return {"accuracy": 0.75}

    assert run(artifacts, metrics=metrics) == {**RESULTS, "metrics": {"accuracy": 0.75}}
    assert seen == [metadata]


def test_models_are_registered_in_the_order_of_their_runs(artifacts):
    for version in ("model_v2", "model_v1"):
        run(artifacts, version)
    listed = [model["model_version"] for model in list_models(artifacts.registry)]
    assert listed == ["model_v2", "model_v1"]
    assert get_model("model_v2", artifacts.registry)["model_version"] == "model_v2"


# --- Missing and changed files -------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SPECIFIED if name != "models/registry.json"])
def test_a_deleted_file_is_written_again(name, artifacts, files):
    run(artifacts)
    before = files(artifacts)
    delete(artifacts.root / name)
    assert files(artifacts) != before
    assert run(artifacts) == RESULTS
    assert files(artifacts) == before


LOST = (
    "artifacts/models/registry.json: no entries, but 'model_v1' has an evaluation, so the file was "
    "deleted or emptied. Nothing was changed. Restore it from a backup, or run "
    "`llm-train rebuild-registry --artifacts-dir artifacts`."
)


@pytest.mark.parametrize("emptied", [None, b"", b" \n", b"\0" * 90, b'{\n  "models": []\n}\n'])
def test_a_run_stops_if_the_registry_was_deleted_or_emptied(emptied, artifacts, files):
    run(artifacts)
    delete(artifacts.registry)
    if emptied is not None:
        artifacts.registry.replace(emptied)
    before = files(artifacts)
    for version in ("model_v1", "model_v2", None):
        with pytest.raises(RegistryLostError) as caught:
            run(artifacts, version)
        assert str(caught.value) == LOST
    assert files(artifacts) == before


def test_the_command_for_a_lost_registry_quotes_the_artifacts_root(project):
    root = project / "it's here"
    (project / "artifacts").rename(root)
    run_training_pipeline(CONFIG, "model_v1", artifacts_dir=root)
    (root / "models/registry.json").unlink()
    with pytest.raises(RegistryLostError) as caught:
        run_training_pipeline(CONFIG, "model_v1", artifacts_dir=root)
    command = f"`llm-train rebuild-registry --artifacts-dir {shlex.quote(str(root))}`."
    assert str(caught.value).endswith(command)


def test_a_registry_that_is_deleted_while_a_model_is_trained_is_not_begun_again(
    artifacts, files, monkeypatch
):
    run(artifacts)
    train = pipeline.train_config

    def deleting(*arguments, **options):
        folder = train(*arguments, **options)
        delete(artifacts.registry)
        return folder

    monkeypatch.setattr(pipeline, "train_config", deleting)
    with pytest.raises(RegistryLostError, match="'model_v1' has an evaluation"):
        run(artifacts, "model_v2")
    assert artifacts.registry.read(1) is None


def test_a_run_after_every_file_of_the_models_was_deleted_begins_a_new_registry(artifacts):
    run(artifacts)
    for name in PRODUCED:
        delete(artifacts.root / name)
    assert run(artifacts, "model_v2")["model_version"] == "model_v2"
    assert [model["model_version"] for model in list_models(artifacts.registry)] == ["model_v2"]


def test_a_run_that_stopped_after_training_is_continued(artifacts, metadata, produced):
    train_model(CONFIG, "model_v1", artifacts.models, datasets_dir=artifacts.datasets)
    before = produced(artifacts)
    assert run(artifacts) == RESULTS
    assert list(produced(artifacts)) == PRODUCED
    assert before.items() <= produced(artifacts).items()


def test_other_content_of_a_version_is_a_conflict_and_changes_nothing(artifacts, files):
    run(artifacts)
    Path(CONFIG).write_bytes(Path(CONFIG).read_bytes().replace(b"16", b"32"))
    before = files(artifacts)
    with pytest.raises(ModelVersionConflict) as caught:
        run(artifacts)
    assert caught.value.details == ["training_config.batch_size: recorded 16, now 32"]
    assert files(artifacts) == before


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/abs",
        "a/b",
        "a\n",
        "a" * 129,
        "registry.json",
        "Registry.JSON.lock",
        3,
        "é",
    ],
)
def test_an_invalid_model_version_writes_no_file(name, artifacts, files, project):
    before = files(artifacts)
    with pytest.raises(ValueError, match=r"^model_version: expected a name of at most"):
        run(artifacts, name)
    assert files(artifacts) == before
    assert [path.name for path in (project / "artifacts").iterdir()] == ["datasets"]


def test_an_invalid_config_writes_no_file(artifacts, files, project):
    Path(CONFIG).write_bytes(b"epochs: 3\n")
    before = files(artifacts)
    with pytest.raises(ConfigError):
        run(artifacts)
    assert files(artifacts) == before
    assert [path.name for path in (project / "artifacts").iterdir()] == ["datasets"]


def test_a_missing_dataset_writes_no_file(artifacts, files, project):
    for name in ("data.jsonl", "metadata.json"):
        delete(artifacts.datasets / "dataset_v1" / name)
    with pytest.raises(FileNotFoundError, match=r"dataset_v1/data\.jsonl: no "):
        run(artifacts)
    assert files(artifacts) == {}
    assert [path.name for path in (project / "artifacts").iterdir()] == ["datasets"]


def test_a_missing_datasets_folder_writes_no_file(project):
    shutil.rmtree(project / "artifacts/datasets")
    with pytest.raises(FileNotFoundError, match="no dataset version 'dataset_v1'"):
        run_training_pipeline(CONFIG, "model_v1")
    assert list((project / "artifacts").iterdir()) == []


def test_a_models_folder_that_leads_out_of_the_root_is_refused_and_nothing_is_written(
    project, tmp_path, tree
):
    outside = tmp_path / "outside"
    outside.mkdir()
    (project / "artifacts/models").symlink_to(outside)
    before = tree(project)
    with pytest.raises(CorruptFileError) as caught:
        run_training_pipeline(CONFIG, "model_v1")
    assert str(caught.value) == (
        "artifacts/models: expected a folder, found a link, which is not followed. Nothing was "
        "written; remove the link."
    )
    assert tree(project) == before
    assert list(outside.iterdir()) == []


def test_an_evaluations_folder_that_leads_out_of_the_root_is_refused_and_nothing_is_written(
    project, tmp_path, tree
):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = project / "artifacts/evaluations"
    link.symlink_to(outside)
    before = tree(project)
    with pytest.raises(CorruptFileError) as caught:
        run_training_pipeline(CONFIG, "model_v1")
    assert str(caught.value) == (
        "artifacts/evaluations: expected a folder, found a link, which is not followed. Nothing "
        "was written; remove the link."
    )
    assert list(outside.iterdir()) == []
    assert tree(project) == before


# --- Model metadata ------------------------------------------------------------------------------


def test_the_error_for_a_missing_model_version_names_its_metadata(artifacts):
    with pytest.raises(FileNotFoundError) as caught:
        load_model_metadata("model_v1", artifacts.models)
    assert str(caught.value) == (
        "artifacts/models/model_v1/metadata.json: no such file, so model version 'model_v1' does "
        "not exist. Train it first."
    )


def test_the_metadata_of_another_version_is_refused(artifacts, metadata):
    (artifacts.models / "model_v2/metadata.json").replace(json.dumps(metadata).encode())
    with pytest.raises(CorruptFileError) as caught:
        load_model_metadata("model_v2", artifacts.models)
    assert str(caught.value) == (
        "artifacts/models/model_v2/metadata.json: model_version: expected 'model_v2', found "
        "'model_v1'. Left as found."
    )


# --- Concurrent processes ------------------------------------------------------------------------


RUN = """
import json
from src.training.pipeline import run_training_pipeline
---
versions = [run_training_pipeline(sys.argv[1], f"model_v{n}")["model_version"] for n in range(10)]
print(json.dumps(versions))
"""


def test_concurrent_runs_of_the_same_versions_write_the_files_of_one_run(
    project, concurrently, tree, tmp_path
):
    shutil.copytree(project / "artifacts/datasets", tmp_path / "alone/datasets")
    for n in range(10):
        run_training_pipeline(CONFIG, f"model_v{n}", artifacts_dir=tmp_path / "alone")
    printed = concurrently(RUN, *[(CONFIG,)] * 3)
    assert printed == [json.dumps([f"model_v{n}" for n in range(10)])] * 3
    assert without_runs(tree(project / "artifacts")) == without_runs(tree(tmp_path / "alone"))


def test_a_run_killed_at_any_step_leaves_whole_files_in_order_and_can_be_repeated(
    project, crashes, tree, tmp_path
):
    before, complete = project, tmp_path / "complete"
    shutil.copytree(project, complete)
    run_training_pipeline(CONFIG, "model_v1", artifacts_dir=complete / "artifacts")
    expected = without_runs(tree(complete))
    steps = crashes(
        "from src.training.pipeline import run_training_pipeline\n"
        f"def work(): run_training_pipeline({CONFIG!r}, 'model_v1')",
        before,
    )
    stages = set()
    # Many system calls leave the same files.
    left = {repr({name: len(data) for name, data in tree(step).items()}): step for step in steps}
    for step in left.values():
        names = [f"artifacts/{name}" for name in PRODUCED]
        read = {name: read_file(step / name, 1 << 20) for name in names}
        found = {name: data for name, data in read.items() if data is not None}
        assert without_runs(found).items() <= expected.items()
        evaluation, of_evaluation, metadata, of_model, registry = (name in found for name in names)
        # The entry is the commit point.
        assert of_evaluation <= evaluation <= registry <= metadata <= of_model
        stages.add(len(found))
        run_training_pipeline(CONFIG, "model_v1", artifacts_dir=step / "artifacts")
        assert without_runs(tree(step)) == expected
    assert stages == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("target", ["../models/model_v1", "../datasets/dataset_v1"])
def test_a_run_does_not_write_through_a_link_to_another_folder_of_the_root(target, project, tree):
    run_training_pipeline(CONFIG, "model_v1")
    shutil.rmtree("artifacts/evaluations/model_v1")
    Path("artifacts/evaluations/model_v1").symlink_to(target)
    before = tree(project / "artifacts/models"), tree(project / "artifacts/datasets")
    with pytest.raises((ValueError, OSError)):
        run_training_pipeline(CONFIG, "model_v1")
    assert (tree(project / "artifacts/models"), tree(project / "artifacts/datasets")) == before
