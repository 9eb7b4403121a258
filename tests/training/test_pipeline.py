import json
import shutil
from pathlib import Path

import pytest

from src.storage import read
from src.training.config import ConfigError
from src.training.pipeline import load_model_metadata, run_training_pipeline
from src.training.registry import get_model, list_models
from src.training.trainer import train_model
from src.versions import ModelVersionConflict
from tests.examples import without_runs

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
    "models/registry.json.lock",
]
SPECIFIED = [name for name in PRODUCED if not name.endswith(("provenance.json", ".lock"))]


def produced(artifacts, tree):
    """What a run leaves below an artifacts root."""
    return {
        name: data for name, data in tree(artifacts).items() if not name.startswith("datasets/")
    }


@pytest.fixture(autouse=True)
def artifacts(project):
    """The artifacts root of the project that every test works in."""
    return project / "artifacts"


# --- A run ---------------------------------------------------------------------------------------


def test_the_specified_example_gives_the_evaluation(metadata):
    results = run_training_pipeline(training_config_path=CONFIG, model_version="model_v1")
    assert results == RESULTS
    assert (
        json.loads(Path("artifacts/evaluations/model_v1/evaluation.json").read_bytes()) == RESULTS
    )
    assert load_model_metadata("model_v1") == metadata
    assert list_models() == [metadata]


def test_a_run_leaves_the_three_files_two_provenances_and_a_lock(artifacts, tree):
    run_training_pipeline(CONFIG, "model_v1")
    assert list(produced(artifacts, tree)) == PRODUCED


def test_a_run_leaves_the_datasets_and_the_config_alone(project, tree):
    before = tree(project)
    run_training_pipeline(CONFIG, "model_v1")
    assert {name: tree(project)[name] for name in before} == before


def test_a_second_run_writes_nothing_and_gives_the_same(artifacts, tree):
    first = run_training_pipeline(CONFIG, "model_v1")
    files = [artifacts / name for name in PRODUCED if not name.endswith(".lock")]
    before = [(path.read_bytes(), path.stat()) for path in files]
    assert run_training_pipeline(CONFIG, "model_v1") == first
    assert [(path.read_bytes(), path.stat()) for path in files] == before
    assert list(produced(artifacts, tree)) == PRODUCED


def test_without_a_version_it_is_derived_and_a_second_run_adds_nothing(artifacts, tree):
    results = run_training_pipeline(CONFIG)
    assert results["model_version"] == DERIVED
    before = produced(artifacts, tree)
    assert run_training_pipeline(CONFIG) == results
    assert produced(artifacts, tree) == before
    assert [model["model_version"] for model in list_models()] == [DERIVED]


def test_runs_leave_the_same_bytes_wherever_the_root_lies(artifacts, tmp_path, tree):
    run_training_pipeline(CONFIG, "model_v1")
    shutil.copytree(artifacts / "datasets", tmp_path / "root/datasets")
    run_training_pipeline(Path(CONFIG).resolve(), "model_v1", artifacts_dir=tmp_path / "root")
    assert without_runs(produced(tmp_path / "root", tree)) == without_runs(
        produced(artifacts, tree)
    )


def test_relative_paths_are_resolved_when_the_run_is_made(project, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(project, other)
    monkeypatch.chdir(other)
    run_training_pipeline(CONFIG, "model_v1")
    assert (other / "artifacts/models/registry.json").is_file()
    assert not (project / "artifacts/models").exists()


def test_the_metrics_argument_measures_the_model(metadata):
    seen = []

    def metrics(given):
        seen.append(dict(given))
        return {"accuracy": 0.75}

    results = run_training_pipeline(CONFIG, "model_v1", metrics=metrics)
    assert results == {**RESULTS, "metrics": {"accuracy": 0.75}}
    assert seen == [metadata]


def test_models_are_registered_one_after_the_other():
    for version in ("model_v2", "model_v1"):
        run_training_pipeline(CONFIG, version)
    assert [model["model_version"] for model in list_models()] == ["model_v2", "model_v1"]
    assert get_model("model_v2")["model_version"] == "model_v2"


# --- What is missing or was changed --------------------------------------------------------------


@pytest.mark.parametrize("name", SPECIFIED)
def test_a_deleted_file_is_made_anew(name, artifacts, tree):
    run_training_pipeline(CONFIG, "model_v1")
    before = tree(artifacts)
    (artifacts / name).unlink()
    assert run_training_pipeline(CONFIG, "model_v1") == RESULTS
    assert tree(artifacts) == before


def test_a_run_that_stopped_after_training_is_carried_on(artifacts, tree):
    train_model(CONFIG, "model_v1")
    run_training_pipeline(CONFIG, "model_v1")
    assert list(produced(artifacts, tree)) == PRODUCED


def test_other_content_under_the_same_version_is_a_conflict_and_changes_nothing(project, tree):
    run_training_pipeline(CONFIG, "model_v1")
    Path(CONFIG).write_bytes(Path(CONFIG).read_bytes().replace(b"16", b"32"))
    before = tree(project)
    with pytest.raises(ModelVersionConflict) as caught:
        run_training_pipeline(CONFIG, "model_v1")
    assert caught.value.details == ["training_config.batch_size: recorded 16, now 32"]
    assert tree(project) == before


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
def test_a_bad_model_version_touches_nothing(name, project, tree):
    before = tree(project)
    with pytest.raises(ValueError, match=r"^model_version: expected a name of at most"):
        run_training_pipeline(CONFIG, name)
    assert tree(project) == before
    assert [path.name for path in (project / "artifacts").iterdir()] == ["datasets"]


def test_a_bad_config_touches_nothing(artifacts):
    Path(CONFIG).write_bytes(b"epochs: 3\n")
    with pytest.raises(ConfigError):
        run_training_pipeline(CONFIG, "model_v1")
    assert [path.name for path in artifacts.iterdir()] == ["datasets"]


def test_a_missing_dataset_touches_nothing(artifacts):
    shutil.rmtree(artifacts / "datasets")
    with pytest.raises(FileNotFoundError, match="no dataset version 'dataset_v1'"):
        run_training_pipeline(CONFIG, "model_v1")
    assert list(artifacts.iterdir()) == []


@pytest.mark.parametrize("folder", ["models", "evaluations"])
def test_a_folder_that_leads_out_of_the_root_is_refused_and_nothing_is_written(
    folder, project, tmp_path, tree
):
    outside = tmp_path / "outside"
    outside.mkdir()
    (project / "artifacts" / folder).symlink_to(outside)
    before = tree(project)
    with pytest.raises(ValueError) as caught:
        run_training_pipeline(CONFIG, "model_v1")
    assert str(caught.value) == (
        f"artifacts/{folder}: leads out of artifacts, to {outside.resolve()}. "
        "Nothing was written; remove the link."
    )
    assert tree(project) == before
    assert list(outside.iterdir()) == []


# --- Several processes ---------------------------------------------------------------------------


RUN = """
import json
from src.training.pipeline import run_training_pipeline
---
versions = [run_training_pipeline(sys.argv[1], f"model_v{n}")["model_version"] for n in range(10)]
print(json.dumps(versions))
"""


def test_runs_of_the_same_versions_at_once_leave_what_one_leaves(
    artifacts, at_once, tree, tmp_path
):
    shutil.copytree(artifacts / "datasets", tmp_path / "alone/datasets")
    for n in range(10):
        run_training_pipeline(CONFIG, f"model_v{n}", artifacts_dir=tmp_path / "alone")
    printed = at_once(RUN, *[(CONFIG,)] * 3)
    assert printed == [json.dumps([f"model_v{n}" for n in range(10)])] * 3
    assert without_runs(tree(artifacts)) == without_runs(tree(tmp_path / "alone"))


def test_a_run_killed_anywhere_leaves_whole_files_in_order_and_can_be_repeated(
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
    for step in steps:
        names = [f"artifacts/{name}" for name in PRODUCED[:5]]
        found = {name: data for name in names if (data := read(step / name)) is not None}
        assert without_runs(found).items() <= expected.items()
        evaluation, of_evaluation, metadata, of_model, registry = (name in found for name in names)
        # The entry is the commit point.
        assert of_evaluation <= evaluation <= registry <= metadata <= of_model
        stages.add(len(found))
        run_training_pipeline(CONFIG, "model_v1", artifacts_dir=step / "artifacts")
        assert without_runs(tree(step)) == expected
    assert stages == {0, 1, 2, 3, 4, 5}
