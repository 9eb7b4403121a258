"""Runs of the flows, the records that the server has of them, and the files they write."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun
from prefect.client.schemas.sorting import ArtifactSort

__all__ = [
    "CACHED",
    "COMMAND",
    "RAN",
    "ROOT",
    "STEPS",
    "artifact",
    "failure",
    "finished_task_runs",
    "flow_run",
    "logged",
    "newest_artifact",
    "python",
    "record",
    "task_runs",
]

RECORDED_SECONDS = 300  # on a busy machine
ROOT = Path(__file__).parents[2]
COMMAND = "from cli.main import main; main()"
STEPS = ["load_config", "resolve_dataset", "write_metadata", "register", "evaluate"]
CACHED = dict.fromkeys(STEPS, "Cached")
RAN = dict.fromkeys(STEPS, "Completed")


def python(code: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start a Python process in the working directory; stdout and stderr are one text."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=env | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def failure(flow: Flow[..., object], *arguments: object) -> str:
    """Run a flow that must fail; return the text of its error."""
    state = flow(*arguments, return_state=True)
    assert state.name == "Failed", state
    return str(state.result(raise_on_failure=False))


def flow_run(flow_run_id: object) -> FlowRun:
    """Return a flow run as the server recorded it."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run_id)


def finished_task_runs(flow_run_id: object, count: int) -> list[TaskRun]:
    """Wait until the server has recorded `count` finished task runs of a flow run; return them."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + RECORDED_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_task_runs(flow_run_filter=wanted)
            if len(runs) == count and all(run.state and run.state.is_final() for run in runs):
                return runs
            time.sleep(0.1)
    raise AssertionError(f"the server has not recorded {count} finished task runs: {runs}")


def task_runs(flow_run_id: object, count: int = 5) -> dict[str, TaskRun]:
    """Return the task runs of a flow run of one config by step; see `finished_task_runs`."""
    return {run.name.split()[0]: run for run in finished_task_runs(flow_run_id, count)}


def newest_artifact(key: str) -> Artifact:
    """Return the newest artifact of a key."""
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC)[0]


@contextmanager
def logged(name: str) -> Iterator[list[logging.LogRecord]]:
    """Yield the records of a logger, of any level; filters of other handlers do not matter."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger(name).addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger(name).removeHandler(handler)


def artifact(key: str) -> str:
    """Return the data of the newest artifact of a key."""
    return newest_artifact(key).data


def record(root: Path = Path("artifacts")) -> dict[str, bytes]:
    """Return every file below an artifacts root, except the cached results of steps."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }
