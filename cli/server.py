"""The Prefect server that a command brings along where none is set up, and that ends with it.

Prefect would bring one too, later: it imports all of the server into the command first.
"""

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

import click
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_UI_URL,
    get_current_settings,
    temporary_settings,
)

__all__ = ["OwnServer", "a_server"]

HOST = "127.0.0.1"
POLL_SECONDS = 0.05
STOP_SECONDS = 20.0
QUIET_SECONDS = 3.0  # it notes what it has every second
TOLD = 2000  # characters of its log
# The command `prefect`, which ends when whoever started it has ended, however that came.
PREFECT = """
import os, signal, sys, threading

def end_with_stdin():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end_with_stdin, daemon=True).start()

from prefect.cli import app

app()
"""


class ServerError(RuntimeError):
    """The server did not start; the message has its own words."""


@contextmanager
def a_server() -> Iterator["OwnServer | None"]:
    """Have Prefect find a server: the one that is set up, or else one of this process.

    The latter is started and lent. It keeps its database in `PREFECT_HOME`, has no UI, and serves
    until the process ends, for that is when Prefect sends the last of the log.

    Raises:
        ServerError: It did not start.
    """
    settings = get_current_settings()
    if settings.api.url is not None or not settings.server.ephemeral.enabled:
        yield None
        return
    click.echo(
        "Starting a Prefect server for this run. (`make up` starts one that stays.)", err=True
    )
    server = OwnServer(settings.to_environment_variables(exclude_unset=True))
    server.wait_until_up(settings.server.ephemeral.startup_timeout_seconds)
    # An empty address of the UI: nothing shall point to pages that nobody serves.
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_UI_URL: ""}):
        yield server


class OwnServer:
    """A server that ends with this process.

    Attributes:
        url: Of its API.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self._port: int = probe.getsockname()[1]
        self.url = f"http://{HOST}:{self._port}/api"
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as it runs
        command = [sys.executable, "-c", PREFECT, "server", "start", "--host", HOST]
        command += ["--port", str(self._port), "--no-ui", "--no-scheduler", "--no-late-runs"]
        # A group of its own: at Ctrl-C the run still has to tell the server how it ended.
        self._process = subprocess.Popen(  # noqa: S603
            command,
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        atexit.register(self._stop)

    def wait_until_up(self, seconds: float) -> None:
        """Wait until it takes requests.

        Raises:
            ServerError: It ended, or took longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection((HOST, self._port), seconds).close()
            except OSError as error:
                code = self._process.poll()
                if code is None and time.monotonic() < deadline:
                    time.sleep(POLL_SECONDS)
                    continue
                what = f"not up after {seconds:g} s" if code is None else f"it ended with {code}"
                self._log.seek(0)
                said = self._log.read().decode(errors="replace").strip()[-TOLD:]
                raise ServerError(f"Prefect's server did not start: {what}.\n{said}") from error
            return

    def wait_until_noted(self) -> None:
        """Wait until it has noted the steps of the runs so far.

        It is told of them while they run, notes them at a rate of its own, and what it has not when
        the process ends is lost to the UI.
        """
        ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}
        noted, changed = -1, time.monotonic()
        with get_client(sync_client=True) as client:
            while time.monotonic() - changed < QUIET_SECONDS:
                response = client.request("POST", "/task_runs/count", json={"task_runs": ended})
                if noted != (noted := response.json()):
                    changed = time.monotonic()
                time.sleep(QUIET_SECONDS / 6)

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
