"""A Prefect server for the session, and a project folder of its own for each test."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import TaskRun
from prefect.client.schemas.sorting import ArtifactSort
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

from benchmarks.make_dataset import make_dataset
from flows.training_pipeline import training_pipeline
from src.training import dataset
from tasks import hashes
from tests.examples import CONFIG


@pytest.fixture(scope="session")
def server() -> Iterator[dict[str, str]]:
    """Run a server; give the environment in which a process of its own finds it."""
    # A flow that sends heartbeats waits up to a second for that to stop.
    quick = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=90), quick:
        yield os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: object) -> Path:
    """Work in a folder with one config and one dataset of 20 samples."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)
    make_dataset("dataset_v1", samples=20, datasets_dir=Path("artifacts/datasets"))
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Give what data is read from now on; data that is new may be remembered, too."""
    read: list[Path] = []
    monkeypatch.setattr(hashes, "RACY_NS", 0)
    monkeypatch.setattr(
        hashes, "count_and_hash", lambda path: read.append(path) or dataset.count_and_hash(path)
    )
    return read


def finished_task_runs(flow_run_id: object, count: int) -> list[TaskRun]:
    """Give the task runs of a flow run, once the server has recorded how all ended."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_task_runs(flow_run_filter=wanted)
            if len(runs) == count and all(run.state and run.state.is_final() for run in runs):
                return runs
            time.sleep(0.1)
    raise AssertionError(f"the server has not recorded {count} finished task runs: {runs}")


def task_runs(flow_run_id: object, count: int = 5) -> dict[str, TaskRun]:
    """Give the task runs of a flow run of one config by step, as `finished_task_runs`."""
    return {run.name.split()[0]: run for run in finished_task_runs(flow_run_id, count)}


def artifact(key: str) -> str:
    """Give what the newest artifact of a key holds."""
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC)[0].data


def failure(flow: Flow[..., object], *arguments: object) -> str:
    """Run a flow that must fail; give the message of its state."""
    state = flow(*arguments, return_state=True)
    assert state.name == "Failed", state
    return state.message


@pytest.fixture
def steps(project: Path) -> Callable[..., Mapping[str, str]]:
    """Run the flow on the project; give each step's final state by name."""

    def run(model_version: str | None = None, count: int = 5) -> Mapping[str, str]:
        state = training_pipeline("config.yaml", model_version, return_state=True)
        runs = task_runs(state.state_details.flow_run_id, count)
        return {step: run.state.name for step, run in runs.items()}

    return run
