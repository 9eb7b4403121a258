"""A separate Prefect server with an empty database."""

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.measure import ROOT, environment
from ops.server import ServerError, ServerProcess, listen, stop_group

__all__ = ["Server", "running_server"]

START_SECONDS = 120.0
SETTLED_SECONDS = 20.0
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
def running_server(folder: Path) -> Iterator[Server]:
    """Start a server on a free port; its database, log and other files are below `folder`."""
    folder.mkdir(parents=True)
    env = environment(folder.parent, PREFECT_HOME=str(folder))
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
