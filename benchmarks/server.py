"""A separate Prefect server with an empty database."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.measure import ROOT, environment

__all__ = ["Server", "running_server"]

START_SECONDS = 120.0
SETTLED_SECONDS = 20.0
FINAL = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


class Server:
    """A running server.

    Attributes:
        env: The environment of a process that uses the server.
    """

    def __init__(self, url: str, env: dict[str, str]) -> None:
        self.env = env
        self._api = httpx.Client(base_url=f"{url}/", timeout=60)

    def is_up(self) -> bool:
        """Return whether the server answers."""
        try:
            return self._api.get("health").is_success
        except httpx.HTTPError:
            return False

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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    env = environment(folder.parent, PREFECT_HOME=str(folder), PREFECT_API_URL=url)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        server, deadline = Server(url, env), time.monotonic() + START_SECONDS
        while not server.is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(
                    f"The server did not start:\n{(folder / 'server.log').read_text()[-4000:]}"
                )
            time.sleep(0.2)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
