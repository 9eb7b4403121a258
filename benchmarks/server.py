"""A separate Prefect server with an empty database, by default one of SQLite."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.measure import ROOT, environment
from ops.server import ServerError, ServerProcess, listen, stop_group

__all__ = ["Database", "Server", "cpu_seconds", "postgres", "running_server"]

START_SECONDS = 120.0
SETTLED_SECONDS = 20.0
STOP_SECONDS = 30.0
POSTGRES = "/usr/lib/postgresql"  # of Debian's packages
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
FINAL = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


class Server:
    """A running server.

    Attributes:
        env: The environment of a process that uses the server.
    """

    def __init__(self, url: str, env: dict[str, str], pid: int) -> None:
        self.env = env
        self._pid = pid
        self._api = httpx.Client(base_url=f"{url}/", timeout=60)

    def memory(self) -> float:
        """Return the memory of the server's process in MiB, as resident in RAM."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        [kibibytes] = re.findall(r"VmRSS:\s*(\d+) kB", status)
        return int(kibibytes) / 1024

    def cpu(self) -> float:
        """Return the CPU seconds that the server has used."""
        return cpu_seconds(self._pid)

    def finished_task_runs(self) -> int:
        """Return the number of finished task runs that the API shows."""
        filters = {"task_runs": {"state": {"type": {"any_": FINAL}}}}
        while not (response := self._api.post("task_runs/count", json=filters)).is_success:
            time.sleep(0.2)  # the server is too busy
        count: int = response.json()
        return count

    def settled(self, count: int) -> tuple[int, float]:
        """Wait until the API shows `count` finished task runs, or shows no more for some time.

        Returns:
            The number that it shows, and the `time.time()` when it first did.
        """
        shown, since = -1, time.time()
        while shown < count and time.time() - since < SETTLED_SECONDS:
            if (now := self.finished_task_runs()) > shown:
                shown, since = now, time.time()
            time.sleep(0.2)
        return shown, since


@contextmanager
def running_server(folder: Path, **settings: str) -> Iterator[Server]:
    """Start a server on a free port; its database, log and other files are below `folder`."""
    folder.mkdir(parents=True)
    env = environment(folder.parent, PREFECT_HOME=str(folder), **settings)
    with open(folder / "server.log", "w+b") as log:
        server = ServerProcess(listen(), env=env, log=log, cwd=ROOT)
        try:
            server.wait_until_ready(START_SECONDS)
            yield Server(
                server.api_url, env | {"PREFECT_API_URL": server.api_url}, server.process.pid
            )
        except ServerError as error:
            sys.exit(str(error))
        finally:
            stop_group(server.process, (signal.SIGKILL,))


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """A database of PostgreSQL.

    Attributes:
        url: The URL for Prefect's server.
        pid: The process whose children work on it.
    """

    url: str
    pid: int


@contextmanager
def postgres() -> Iterator[Database | None]:
    """Start PostgreSQL with an empty database; yield `None` if it is not installed."""
    binaries = sorted(Path(POSTGRES).glob("*/bin"))
    if not binaries:
        yield None
        return
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL does not run as root
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if user:
            shutil.chown(folder, user)
        data, log = f"{folder}/data", Path(folder, "log")
        call = partial(subprocess.run, user=user, cwd=folder, check=True, capture_output=True)
        initdb = [binaries[-1] / "initdb", "--pgdata", data, "--username", "prefect"]
        call([*initdb, "--auth", "trust", "--encoding", "UTF8"])
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [binaries[-1] / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
                user=user,
                cwd=folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while b"ready to accept" not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"PostgreSQL did not start:\n{log.read_text()}")
                time.sleep(0.1)
            createdb = [binaries[-1] / "createdb", "--host", folder, "--username", "prefect"]
            call([*createdb, "prefect"])
            url = f"postgresql+asyncpg://prefect@/prefect?host={folder}"
            yield Database(url=url, pid=process.pid)
        finally:
            process.send_signal(signal.SIGINT)  # ends all connections
            process.wait(STOP_SECONDS)


def cpu_seconds(process: int) -> float:
    """Return the CPU seconds of a process and of all its descendants, also of those that ended."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    family = [process]
    for known in family:  # grows in the loop
        family += [child for child, parent in parents.items() if parent == known]
    return sum(ticks.get(pid, 0) for pid in family) / CLOCK_TICKS
