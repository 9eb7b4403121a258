"""Start, wait for and stop a Prefect server process.

`llm-train` starts a temporary server for one command; `ops.up` starts a server with a UI.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

__all__ = [
    "HOST",
    "ServerError",
    "ServerProcess",
    "ensure_server",
    "free_port",
    "start_prefect",
    "stop_group",
]

HOST = "127.0.0.1"
POLL_SECONDS = 0.05
REQUEST_SECONDS = 5.0
STOP_SECONDS = 20.0
IDLE_SECONDS = 3.0  # the server writes task runs to its database every second
LOG_TAIL_BYTES = 2000
# Run the command `prefect`; exit when the pipe at stdin closes, that is, when the parent has ended.
PREFECT = """
import os, signal, threading

pipe = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

def exit_with_parent():
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=exit_with_parent, daemon=True).start()

from prefect.cli import app

app()
"""


class ServerError(RuntimeError):
    """Raised when a server does not start; the message includes the end of its log."""


@contextmanager
def ensure_server() -> Iterator["ServerProcess | None"]:
    """Use the configured Prefect server, or start a temporary one for this process.

    Starts a server only if no API URL is set and ephemeral servers are enabled. This server has no
    UI, keeps its database in `PREFECT_HOME`, and runs until this process exits, because Prefect
    sends the last log records at exit.

    Yields:
        The temporary server; `None` if none was started.

    Raises:
        ServerError: The temporary server did not start.
    """
    # Prefect takes more than a second to import.
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_UI_URL,
        get_current_settings,
        temporary_settings,
    )

    settings = get_current_settings()
    if settings.api.url is not None or not settings.server.ephemeral.enabled:
        yield None
        return
    print(
        "Starting a Prefect server for this run. (`make up` starts a permanent one.)",
        file=sys.stderr,
        flush=True,
    )
    server = ServerProcess(
        free_port(),
        "--no-ui",
        "--no-scheduler",
        "--no-late-runs",
        env=os.environ | settings.to_environment_variables(exclude_unset=True),
        log=tempfile.TemporaryFile(),  # noqa: SIM115  # open until this process exits
    )
    atexit.register(server.stop)
    server.wait_until_ready(settings.server.ephemeral.startup_timeout_seconds)
    # The UI URL is empty because the server has no UI to link to.
    with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_UI_URL: ""}):
        yield server


class ServerProcess:
    """A Prefect server in a child process; see `start_prefect`.

    Attributes:
        api_url: URL of the API.
        process: The child process, leader of its process group.
    """

    def __init__(
        self,
        port: int,
        *options: str,
        env: Mapping[str, str],
        log: IO[bytes],
        cwd: Path | None = None,
    ) -> None:
        """Start the server.

        Args:
            port: Port to listen on, on `HOST`.
            options: Further options of `prefect server start`.
            env: Environment of the server.
            log: File for the output of the server, open for reading and writing.
            cwd: Working directory of the server; by default that of this process.
        """
        self.api_url = f"http://{HOST}:{port}/api"
        self._port = port
        self._log = log
        arguments = ("server", "start", "--host", HOST, "--port", str(port), *options)
        self.process = start_prefect(*arguments, env=env, cwd=cwd, output=log)

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until the server answers requests.

        Raises:
            ServerError: The server exited, or did not answer within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not self._is_ready():
            if (code := self.process.poll()) is not None:
                raise self._error(f"exited with code {code} before it was ready")
            if time.monotonic() >= deadline:
                raise self._error(f"not ready after {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def wait_until_recorded(self) -> None:
        """Wait until the number of recorded task runs no longer changes.

        The server receives the states of task runs as events and writes them in batches. States not
        yet written when the server stops are missing in the UI. Returns once the number of finished
        task runs has not changed for `IDLE_SECONDS`. Call inside `ensure_server`.
        """
        from prefect.client.orchestration import get_client

        finished = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}
        recorded, changed = -1, time.monotonic()
        with get_client(sync_client=True) as client:
            while time.monotonic() - changed < IDLE_SECONDS:
                response = client.request("POST", "/task_runs/count", json={"task_runs": finished})
                if recorded != (recorded := response.json()):
                    changed = time.monotonic()
                time.sleep(IDLE_SECONDS / 6)

    def stop(self) -> None:
        """Stop the server and all processes in its group."""
        stop_group(self.process, (signal.SIGTERM, signal.SIGKILL))

    def _is_ready(self) -> bool:
        with closing(HTTPConnection(HOST, self._port, timeout=REQUEST_SECONDS)) as connection:
            try:
                connection.request("GET", "/api/health")
                return connection.getresponse().status == 200
            except (OSError, HTTPException):
                return False

    def _error(self, found: str) -> ServerError:
        # pread leaves the file offset alone, which the server shares.
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
        text = tail.decode(errors="replace").strip()
        return ServerError(f"Prefect server: {found}. End of its log:\n{text}")


def start_prefect(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a long-running `prefect` command in a new process group.

    The process receives SIGTERM when this process ends, even by SIGKILL. Ctrl-C in a terminal does
    not reach the process, so that a flow run can still report its final state to a server.

    Args:
        arguments: Arguments of the command.
        env: Environment of the process.
        cwd: Working directory of the process; by default that of this process.
        output: File for stdout and stderr; by default those of this process.
    """
    return subprocess.Popen(
        [sys.executable, "-c", PREFECT, "--no-prompt", *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def stop_group(process: subprocess.Popen[bytes], signals: Sequence[int]) -> None:
    """Send signals to the process group of `process` until no process is left.

    Waits up to `STOP_SECONDS` after each signal.

    Args:
        process: Leader of its process group.
        signals: Signals to send, in order.
    """
    for signum in signals:
        deadline = time.monotonic() + STOP_SECONDS
        try:
            os.killpg(process.pid, signum)
            while time.monotonic() < deadline:
                process.poll()  # an unreaped leader keeps the group in existence
                os.killpg(process.pid, 0)
                time.sleep(POLL_SECONDS)
        except ProcessLookupError:
            return


def free_port() -> int:
    """Return a port of `HOST` that no process listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
