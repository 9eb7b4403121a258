"""Fixtures of the tests of flows: a Prefect server for the session, a project for each test."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath

import pytest
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_UI_URL,
    get_current_settings,
    temporary_settings,
)

from benchmarks.make_dataset import make_dataset
from flows.training_pipeline import training_pipeline
from ops.server import ensure_server
from src.records.layout import DATA_FILE
from src.storage import folder
from tests.databases import Homes
from tests.examples import CONFIG
from tests.flows.runs import task_runs
from tests.network import STARTUP_SECONDS


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, homes: Homes) -> Iterator[dict[str, str]]:
    """The environment in which another process finds the server of the session."""
    settings = {
        PREFECT_API_URL: None,
        PREFECT_HOME: homes.create(tmp_path_factory.mktemp("prefect")),
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: STARTUP_SECONDS,
        # A flow that sends heartbeats takes up to a second to stop them.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with (
        temporary_settings(settings),
        ensure_server(),
        # The server has no UI, but links to one can be checked.
        temporary_settings({PREFECT_UI_URL: PREFECT_API_URL.value().removesuffix("/api")}),
    ):
        yield os.environ | get_current_settings().to_environment_variables(exclude_unset=True)


@pytest.fixture(autouse=True, scope="module")
def _events_connection() -> Iterator[None]:
    """Close the connection for events after each file.

    Its pings draw from the module `random`, of which Hypothesis warns in the tests of other files.
    """
    yield
    EventsWorker.drain_all()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: object) -> Path:
    """A folder with one config and one dataset of 20 samples; the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)
    make_dataset("dataset_v1", samples=20, datasets_dir=Path("artifacts/datasets"))
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the data files that are read in full, in order; new files have memos, too."""
    read: list[str] = []
    open_file = folder.FolderStore.open

    def counting(store: folder.FolderStore, key: str) -> object:
        if PurePath(key).name == DATA_FILE:
            read.append(key)
        return open_file(store, key)

    monkeypatch.setattr(folder, "RACY_NS", 0)
    monkeypatch.setattr(folder.FolderStore, "open", counting)
    return read


@pytest.fixture
def steps(project: Path) -> Callable[..., Mapping[str, str]]:
    """Run the flow on the project; return the name of the final state of each step."""

    def run(model_version: str | None = None, count: int = 5) -> Mapping[str, str]:
        state = training_pipeline("config.yaml", model_version, return_state=True)
        runs = task_runs(state.state_details.flow_run_id, count)
        return {step: run.state.name for step, run in runs.items()}

    return run
