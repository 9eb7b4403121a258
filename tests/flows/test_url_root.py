"""The flows on an artifacts root that is the address of an object store."""

import shutil
from pathlib import Path

import pytest

from flows.audit_models import audit_models
from flows.compare_models import compare_models
from flows.openlineage import _name
from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep
from flows.verify_models import verify_models
from src.artifacts import Artifacts
from src.datasets.adding import add_dataset
from src.storage import FolderStore, StorePath, open_path
from tests.examples import CONFIG, DATA
from tests.flows.runs import CACHED, RAN, failure, task_runs
from tests.stores import MemoryStore, delete
from tests.trainers import calls, write_config, write_module

GRID = "base_config: config.yaml\nepochs: [2, 3]\n"


@pytest.fixture
def url(project, memory_url):
    """The address of a root with `dataset_v1`; there is no folder `artifacts`."""
    shutil.rmtree("artifacts")
    add_dataset([DATA], "dataset_v1", memory_url)
    yield memory_url
    made = {path.name for path in project.iterdir()}
    assert made <= {"config.yaml", "grid.yaml", "configs", "mine.py", "calls", "__pycache__"}


def run(url, config="config.yaml", version="model_v1", count=5):
    """Run the flow; return the name of the final state of each step."""
    state = training_pipeline(config, version, url, return_state=True)
    assert state.is_completed(), state
    runs = task_runs(state.state_details.flow_run_id, count)
    return {step: run.state.name for step, run in runs.items()}


def test_the_steps_of_a_second_run_are_served_from_the_cache_in_the_store(url):
    assert run(url) == RAN
    assert run(url) == CACHED
    cached = [file.key for file in (open_path(url) / ".cache").files()]
    assert len(cached) == 5
    delete(open_path(url) / "evaluations/model_v1/evaluation.json")
    assert run(url) == CACHED | {"evaluate": "Completed"}


def test_a_config_in_the_store_is_trained(url):
    (open_path(url) / "sweeps/a.yaml").create(CONFIG.encode())
    assert run(url, f"{url}/sweeps/a.yaml") == RAN


def test_trained_weights_in_the_store_are_served_from_the_cache_while_they_are_unchanged(url):
    write_module()
    config = write_config({"use": "mine:train"}, {"use": "mine:evaluate"})
    assert set(run(url, config, count=6).values()) == {"Completed"}
    assert set(run(url, config, count=6).values()) == {"Cached"}
    assert calls() == ["train", "evaluate"]
    [weights] = [
        file.key
        for file in (open_path(url) / "models").files()
        if file.key.endswith("adapter/weights.json")
    ]
    (open_path(url) / weights).replace(b"{}")
    assert weights in failure(training_pipeline, config, "model_v1", url)


def test_an_error_names_the_whole_address(url):
    Path("config.yaml").write_text(CONFIG.replace("dataset_v1", "dataset_v9"))
    found = failure(training_pipeline, "config.yaml", "model_v1", url)
    assert found.startswith(f"{url}/datasets/dataset_v9/data.jsonl: no dataset version")
    assert failure(training_pipeline, "config.yaml", None, "ftp://host").startswith("ftp://host: ")


def test_a_sweep_leaves_its_models_and_a_second_one_finds_them(url):
    Path("grid.yaml").write_text(GRID)
    summary = training_sweep([], "grid.yaml", artifacts_dir=url)
    assert (summary["configs"], summary["cached"], summary["failed"]) == (2, 0, [])
    assert summary["file"].startswith("memory://bucket/artifacts/sweeps/grid-")
    for row in summary["leaderboard"]:
        assert row["config"].startswith("memory://bucket/artifacts/sweeps/grid-")
    assert training_sweep([], "grid.yaml", artifacts_dir=url)["cached"] == 2
    assert len(Artifacts.open(url).models.folders()) == 2


def test_models_are_verified_compared_and_audited(url):
    run(url)
    run(url, version="model_v2")
    assert verify_models(["model_v1"], artifacts_dir=url)
    compare_models(["model_v1", "model_v2"], artifacts_dir=url)
    assert audit_models(url) == {"model_v1": "MATCH", "model_v2": "MATCH"}
    reports = [file.key for file in (open_path(url) / "reports").files()]
    assert "reports/verdicts.json" in reports


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (MemoryStore("s3://bucket/team/artifacts"), ("s3://bucket", "team/artifacts/models/m")),
        (FolderStore(Path("/root")), ("file", "/root/models/m")),
    ],
)
def test_openlineage_names_an_object_by_its_bucket_and_a_file_by_its_path(store, expected):
    assert _name(StorePath(store, "models/m")) == expected
