"""Flow runs of one worker: which of them are active, and which have lost their process.

A worker or a machine that is killed leaves runs that are Running on the server for good.
`lost_runs` finds them, from the runs on the server and the processes on this machine.
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

__all__ = ["ACTIVE", "Process", "Run", "kill", "lost_runs", "own_processes", "processes"]

WORKER_LABEL = "prefect.worker.name"
ACTIVE = ("PENDING", "RUNNING", "CANCELLING")
SUBMIT_SECONDS = 60.0  # a worker labels a run as its own immediately after the run is Pending
KILL_SECONDS = 10.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """An active flow run, as recorded by the server.

    Attributes:
        id: Id of the flow run.
        state: PENDING, RUNNING or CANCELLING.
        entered_state: When the run entered this state.
        worker: Name of the worker that took the run; `None` if it has not labelled the run.
        pid: Process id on the machine of the worker; `None` if not recorded.
        process: The process of a run that no worker has started; see `tasks.process`.
    """

    id: str
    state: str
    entered_state: datetime
    worker: str | None = None
    pid: int | None = None
    process: str = ""

    @classmethod
    def from_response(cls, run: Mapping[str, Any]) -> "Run":
        """Return a run from a response of the API."""
        pid = str(run["infrastructure_pid"] or "")
        return cls(
            id=run["id"],
            state=run["state_type"],
            entered_state=datetime.fromisoformat(run["state"]["timestamp"]),
            worker=run["labels"].get(WORKER_LABEL),
            pid=int(pid) if pid.isdecimal() else None,
            process="" if pid.isdecimal() else pid,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process on this machine.

    Attributes:
        pid: Process id.
        environ: Environment at its start; `None` if it is a process of another user.
    """

    pid: int
    environ: Mapping[str, str] | None

    @property
    def run_id(self) -> str | None:
        """The id of the flow run that the process executes; `None` for all other processes."""
        return (self.environ or {}).get("PREFECT__FLOW_RUN_ID")


def lost_runs(
    runs: Iterable[Run], processes: Iterable[Process], worker: str, started: datetime, now: datetime
) -> list[Run]:
    """Return the runs of a worker that no process executes and that no worker will start.

    Runs that another worker has labelled may be executed on other machines, and are never returned.
    A run that no worker has labelled for `SUBMIT_SECONDS` is returned, whichever worker took it. A
    process id can be used again by another process, so a run is executed if its id is in the
    environment of a process, or if its process id is that of a process whose environment cannot be
    read.

    Args:
        runs: Active runs, read before `processes`.
        processes: All processes on this machine.
        worker: Name of the worker, the only one of this name.
        started: When the worker was started. It starts a process for each run that is Pending
            since then.
        now: The current time.
    """
    found = list(processes)
    executed = {process.run_id for process in found}
    unreadable = {process.pid for process in found if process.environ is None}

    def is_lost(run: Run) -> bool:
        if run.id in executed or run.pid in unreadable:
            return False
        needs_process = run.state != "PENDING" or run.entered_state < started
        if run.worker is None:
            return needs_process and now - run.entered_state > timedelta(seconds=SUBMIT_SECONDS)
        return needs_process and run.worker == worker

    return [run for run in runs if is_lost(run)]


def processes() -> list[Process]:
    """Return all processes on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        environ = None
        with suppress(PermissionError):
            try:
                text = (folder / "environ").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # the process has ended
            environ = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
        found.append(Process(pid=int(folder.name), environ=environ))
    return found


def own_processes(processes: Iterable[Process], worker: str, home: Path) -> list[Process]:
    """Return the processes of flow runs that a worker of this name and home folder has started."""
    own = {"PREFECT__WORKER_NAME": worker, "PREFECT_HOME": str(home)}
    return [
        process
        for process in processes
        if process.run_id and process.environ and own.items() <= process.environ.items()
    ]


def kill(processes: Sequence[Process]) -> None:
    """Kill processes, and wait up to `KILL_SECONDS` until they have ended."""
    deadline = time.monotonic() + KILL_SECONDS
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    while time.monotonic() < deadline and any(_is_running(process) for process in processes):
        time.sleep(POLL_SECONDS)


def _is_running(process: Process) -> bool:
    # The environment of a process that has ended, but was not waited for, is empty.
    with suppress(OSError):
        return Path(f"/proc/{process.pid}/environ").read_bytes() != b""
    return False
