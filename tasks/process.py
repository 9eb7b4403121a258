"""The process of a flow run that no worker has started, such as one in a terminal.

A worker reports the end of its processes to the server. Of all others the run records the process,
so that `make up` can find out that it has ended.
"""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["has_ended", "record_process"]


def record_process() -> None:
    """Record this process in the current flow run, unless a worker has started it."""
    if "PREFECT__FLOW_RUN_ID" in os.environ or not Path("/proc/self/stat").exists():
        return
    import httpx
    from prefect import runtime
    from prefect.client.orchestration import get_client

    machine, started = _machine(), _started(os.getpid())
    # A convenience: a server that is too busy for it stops no run.
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.update_flow_run(
            runtime.flow_run.id, infrastructure_pid=f"{machine}:{os.getpid()}:{started}"
        )


def has_ended(process: str) -> bool:
    """Return whether a recorded process was one of this machine and has ended.

    False for any other text, and for a process of another container or of an earlier boot, of which
    this machine cannot say whether it is the same.
    """
    machine, _, started = process.rpartition(":")
    machine, _, pid = machine.rpartition(":")
    if not pid.isdecimal() or machine != _machine():
        return False
    return _started(int(pid)) != started


def _machine() -> str:
    """Return what identifies the processes of this machine, or of this container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"


def _started(pid: int) -> str | None:
    """Return when a process was started, in ticks since boot; `None` if there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if state in ("Z", "X") else fields[18]  # starttime in proc_pid_stat(5)
