"""Start, wait for and stop a Prefect server process.

`llm-train` starts a temporary server for one command; `ops.up` starts a server with a UI.
"""

import atexit
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

__all__ = [
    "HOST",
    "ROOT",
    "ServerError",
    "ServerProcess",
    "check_home",
    "ensure_server",
    "listen",
    "make_database_private",
    "make_private",
    "new_auth_string",
    "start_prefect",
    "stop_group",
]

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[1]
POLL_SECONDS = 0.05
REQUEST_SECONDS = 5.0
STOP_SECONDS = 20.0
IDLE_SECONDS = 3.0  # the server writes task runs to its database every second
RECORD_SECONDS = 20.0
RECORD_POLL_SECONDS = 0.15
LOG_BYTES = 1 << 16
LOG_TAIL_CHARACTERS = 2000
EXCEPTION = re.compile(r"^[\w.]+(?:Error|Exception): .+$", re.MULTILINE)  # the end of a traceback
MIN_FREE_BYTES = 1 << 16  # for the log of a server and its database
NEW_DATABASE = (
    "Delete the file, or move it away: the server creates a new one. It has the history of runs, "
    "and no models."
)
FREE_SPACE = "Free space on its disk."
CHECK_DISK = "Free space on its disk, or check the disk."
MAKE_WRITABLE = "Make the file and its folder writable, or set PREFECT_HOME to another folder."
DATABASE_FAULTS = {
    "file is not a database": NEW_DATABASE,
    "database disk image is malformed": NEW_DATABASE,
    "database or disk is full": FREE_SPACE,
    "disk I/O error": CHECK_DISK,
    "attempt to write a readonly database": MAKE_WRITABLE,
    "unable to open database file": MAKE_WRITABLE,
}
START_LOCK = "server-start.lock"  # in PREFECT_HOME; held while a server prepares its database
# Exit when the pipe at stdin closes, that is, when the parent has ended.
EXIT_WITH_PARENT = """
import os, signal, threading

pipe = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

def exit_with_parent():
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=exit_with_parent, daemon=True).start()
"""
PREFECT = f"""{EXIT_WITH_PARENT}
from prefect.cli import app

app()
"""
# `prefect server start` does the same, but opens the port itself, so another process can take
# the port first. This server accepts connections at a socket that its parent has opened.
# Servers that start together take turns to create tables and block types; otherwise some fail.
# A transaction in SQLite takes the write lock at its start: one that takes it later fails
# immediately with "database is locked" if another one wrote in between, instead of waiting.
SERVER = f"""{EXIT_WITH_PARENT}
import contextlib, fcntl, socket, sys

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.settings import get_current_settings

begin = AioSqliteConfiguration.begin_transaction
AioSqliteConfiguration.begin_transaction = (
    lambda self, session, with_for_update=False: begin(self, session, with_for_update=True)
)

class Server(uvicorn.Server):
    async def startup(self, sockets):
        with open(sys.argv[2], "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            await super().startup(sockets)

listener = socket.socket(fileno=int(sys.argv[1]))
settings = get_current_settings().server
config = uvicorn.Config(
    create_app(final=True),
    log_level=settings.logging_level.lower(),
    timeout_keep_alive=settings.api.keepalive_timeout,
    ws_ping_interval=settings.api.websocket_ping_interval,
    ws_ping_timeout=settings.api.websocket_ping_timeout,
)
with contextlib.suppress(KeyboardInterrupt):
    Server(config).run(sockets=[listener])
"""


class ServerError(RuntimeError):
    """Raised when no server can be used.

    If a server did not start, the message says what is wrong with its database, or includes the end
    of its log.
    """


@contextmanager
def ensure_server() -> Iterator["ServerProcess | None"]:
    """Use the configured Prefect server, or start a temporary one for this process.

    Starts a server only if ephemeral servers are enabled, and no API URL is set or it is that of a
    `make up` that was killed. This server has no UI, keeps its database in `PREFECT_HOME`, and runs
    until this process exits, because Prefect sends the last log records at exit. Only this process
    can use it: both sides use a new auth string, and the credentials that the user has set for
    other servers are not sent to it.

    Yields:
        The temporary server; `None` if none was started.

    Raises:
        ServerError: The temporary server did not start; PREFECT_HOME cannot be written to; the
            configured server does not answer, or does not accept the auth string; or it is that of
            a `make up` that was killed, or none is configured, and ephemeral servers are not
            enabled.
    """
    # Prefect takes more than a second to import.
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_KEY,
        PREFECT_API_URL,
        PREFECT_UI_URL,
        get_current_settings,
        temporary_settings,
    )

    from ops.profile import is_stale

    settings = get_current_settings()
    url, can_start = settings.api.url, settings.server.ephemeral.enabled
    if is_stale():
        if not can_start:
            raise ServerError(
                f"{url}: no server: the `make up` that started it was killed. Run `make up` again, "
                "or set PREFECT_API_URL."
            )
    elif url is not None:
        _check_api(url)
        yield None
        return
    elif not can_start:
        raise ServerError(
            "no server: PREFECT_API_URL is not set, and PREFECT_SERVER_EPHEMERAL_ENABLED is false. "
            "Set one of them, run `make up`, or use `llm-train run --local`."
        )
    print(
        "Starting a temporary Prefect server. (`make up` starts one for many runs.)",
        file=sys.stderr,
        flush=True,
    )
    check_home(settings.home)
    make_database_private()
    auth_string = new_auth_string()
    server_settings = {
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    }
    env = os.environ | settings.to_environment_variables(exclude_unset=True) | server_settings
    for credential in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        env.pop(credential, None)
    env["PREFECT_HOME"] = str(settings.home.absolute())
    log = tempfile.TemporaryFile()  # noqa: SIM115  # open until this process exits
    server = ServerProcess(
        listen(),
        env=env,
        log=log,
        cwd=ROOT,  # Prefect reads settings from its working directory
    )
    os.environ |= without_proxy(os.environ)
    atexit.register(_stop_at_exit, server)
    try:
        server.wait_until_ready(settings.server.ephemeral.startup_timeout_seconds)
    except ServerError as error:
        raise ServerError(f"{error}\n{_keep(log)}") from error
    client_settings = {
        PREFECT_API_URL: server.api_url,
        PREFECT_API_AUTH_STRING: auth_string,
        PREFECT_API_KEY: None,
        PREFECT_UI_URL: "",  # the server has no UI to link to
    }
    with temporary_settings(client_settings):
        yield server


def _stop_at_exit(server: "ServerProcess") -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the stop
    server.stop()


def without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which requests to a server on this machine use no proxy."""
    return {
        name: ",".join(filter(None, [env.get(name), HOST])) for name in ("NO_PROXY", "no_proxy")
    }


def _check_api(url: str) -> None:
    """Check that a Prefect server answers at the configured URL.

    Raises:
        ServerError: No server answers, or it is not one of Prefect, or it rejects the credentials.
    """
    from httpx import HTTPStatusError, TransportError, codes
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client

    action = "Start the server, or set PREFECT_API_URL to another one; the URL ends with /api."
    try:
        with get_client(sync_client=True) as client:
            if client.server_type != ServerType.CLOUD:
                client.api_version()
    except HTTPStatusError as error:
        found = f"{error.response.status_code} {error.response.reason_phrase}"
        if error.response.status_code in (codes.UNAUTHORIZED, codes.FORBIDDEN):
            action = "Set PREFECT_API_AUTH_STRING to `USER:PASSWORD` of this server."
    except TransportError as error:
        found = f"no Prefect server answers: {error}".rstrip(".")
    except ValueError:
        found = "not the API of a Prefect server"
    else:
        return
    parts = urlsplit(url)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # without credentials
    raise ServerError(f"{place}: {found}. {action}")


class ServerProcess:
    """A Prefect server in a child process.

    It receives SIGTERM when this process ends, even by SIGKILL. The socket is open before the
    server starts, so no other process can answer at its address.

    Attributes:
        api_url: URL of the API.
        process: The child process, leader of its process group.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        env: Mapping[str, str],
        log: IO[bytes],
        cwd: Path | None = None,
    ) -> None:
        """Start the server.

        Args:
            listener: The socket at which the server accepts connections; see `listen`. Closed in
                this process.
            env: Environment of the server, with PREFECT_HOME.
            log: File for the output of the server, open for reading and writing.
            cwd: Working directory of the server; by default that of this process.
        """
        with listener:
            self._port: int = listener.getsockname()[1]
            self.api_url = f"http://{HOST}:{self._port}/api"
            self._log = log
            self._home = env["PREFECT_HOME"]
            fd = listener.fileno()
            lock = Path(env["PREFECT_HOME"]) / START_LOCK
            make_private(lock)
            self.process = _start(
                *(SERVER, str(fd), str(lock.absolute())),
                env=env,
                cwd=cwd,
                output=log,
                pass_fds=(fd,),
            )

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until the server answers requests.

        Raises:
            ServerError: The server exited, or did not answer within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not self._is_ready(max(POLL_SECONDS, deadline - time.monotonic())):
            if (code := self.process.poll()) is not None:
                raise self._error(f"exited with code {code} before it was ready")
            if time.monotonic() >= deadline:
                raise self._error(f"not ready after {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def wait_until_recorded(self, flow_run_id: str, count: int | None = None) -> None:
        """Wait until the finished task runs of a flow run are recorded.

        The server receives the states of task runs as events and writes them in batches. States not
        yet written when the server stops are missing in the UI. Call inside `ensure_server`.

        Gives up, without an error, if the server cannot be reached or refuses a request, or if the
        number of recorded task runs does not change for `RECORD_SECONDS` (for `IDLE_SECONDS` if
        `count` is `None`).

        Args:
            flow_run_id: The flow run.
            count: Number of its task runs; `None` if it is not known.
        """
        from httpx import HTTPError
        from prefect.client.orchestration import get_client

        finished = {
            "flow_runs": {"id": {"any_": [flow_run_id]}},
            "task_runs": {
                "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
            },
        }
        seconds = IDLE_SECONDS if count is None else RECORD_SECONDS
        recorded, changed = -1, time.monotonic()
        with suppress(HTTPError), get_client(sync_client=True) as client:
            while recorded != count and time.monotonic() - changed < seconds:
                response = client.request("POST", "/task_runs/count", json=finished)
                if recorded != (recorded := response.json()):
                    changed = time.monotonic()
                time.sleep(RECORD_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the server and all processes in its group."""
        stop_group(self.process, (signal.SIGTERM, signal.SIGKILL))

    def _is_ready(self, seconds: float) -> bool:
        # A connection waits until the server accepts it, or is reset when the server exits.
        timeout = min(seconds, REQUEST_SECONDS)
        with closing(HTTPConnection(HOST, self._port, timeout=timeout)) as connection:
            try:
                connection.request("GET", "/api/health")
                return connection.getresponse().status == 200
            except (OSError, HTTPException):
                return False

    def _error(self, found: str) -> ServerError:
        log = _end(self._log).decode(errors="replace")
        if fault := _database_fault(log):
            return ServerError(f"Prefect server: {fault}")
        if shutil.disk_usage(self._home).free < MIN_FREE_BYTES:
            return ServerError(f"Prefect server: {self._home}: the disk is full. {FREE_SPACE}")
        text = log[-LOG_TAIL_CHARACTERS:].strip()
        if not text:
            return ServerError(f"Prefect server: {found}. Its log is empty.")
        reasons = EXCEPTION.findall(log)
        reason = f": {reasons[-1]}" if reasons else "."
        return ServerError(f"Prefect server: {found}{reason}\nEnd of its log:\n{text}")


def _end(log: IO[bytes]) -> bytes:
    """Return the last `LOG_BYTES` of a log; the file offset, which the server shares, stays."""
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES))


def _keep(log: IO[bytes]) -> str:
    """Copy the end of a log to a new file; return the line that names the file."""
    try:
        with tempfile.NamedTemporaryFile(
            prefix="prefect-server-", suffix=".log", delete=False
        ) as file:
            file.write(_end(log))
    except OSError as error:
        return f"Full log: not kept: {error.strerror}."
    return f"Full log: {file.name}"


def start_prefect(*arguments: str, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start a long-running `prefect` command in a new process group.

    It receives SIGTERM when this process ends, even by SIGKILL. Ctrl-C in a terminal does not reach
    it, so that a flow run can still report its final state to a server. It writes to the stdout and
    stderr of this process.

    Args:
        arguments: Arguments of the command.
        env: Environment of the process.
        cwd: Working directory of the process.
    """
    return _start(PREFECT, "--no-prompt", *arguments, env=env, cwd=cwd)


def _start(
    code: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path | None,
    output: IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: import nothing from the working directory, to which others may have access.
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=pass_fds,
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
            break
    if process.stdin:
        process.stdin.close()


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens on a port of `HOST`; by default on a free one.

    Raises:
        OSError: The port is in use or not permitted.
        OverflowError: There is no such port.
    """
    listener = socket.socket()
    try:
        # Without it, a port cannot be used for a minute after a server has ended.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def new_auth_string() -> str:
    """Return a user and a new password, as in `PREFECT_SERVER_API_AUTH_STRING`."""
    return f"admin:{secrets.token_urlsafe(24)}"


def check_home(home: Path) -> None:
    """Create a Prefect home folder if there is none, and check that it can be written to.

    Raises:
        ServerError: It cannot be created or written to.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        raise ServerError(
            f"PREFECT_HOME {home}: cannot be written to: {error.strerror}. Set PREFECT_HOME to a "
            "writable folder."
        ) from error


def make_database_private() -> None:
    """Make the configured database private, if it is a file of SQLite; see `make_private`.

    Creates it if there is none: an empty file is an empty database. SQLite gives the files that it
    keeps beside a database the same mode.
    """
    path = _database_path()
    if path is None:
        return
    make_private(path)
    for suffix in ("-shm", "-wal"):
        if (beside := Path(f"{path}{suffix}")).exists():
            make_private(beside)


def _database_path() -> Path | None:
    """Return the file of the configured database; `None` if it is not a file of SQLite."""
    from prefect.settings import get_current_settings

    url = get_current_settings().server.database.connection_url
    text = url.get_secret_value() if url else ""
    name = text.removeprefix("sqlite+aiosqlite:///").partition("?")[0]
    if not text.startswith("sqlite+aiosqlite:///") or ":memory:" in name:
        return None
    return Path(name)


def _database_fault(log: str) -> str | None:
    """Return the fault of the database that the log of a server reports, and what to do."""
    reported = [line for line in log.splitlines() if "(sqlite3." in line]
    for fault, action in DATABASE_FAULTS.items():
        if any(fault in line for line in reported):
            return f"{_database_path()}: {fault}. {action}"
    return None


def make_private(path: Path) -> None:
    """Make a file readable and writable by its owner only; create it if there is none.

    The file of another user is left as it is.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    except PermissionError:
        if not path.exists():
            raise
        return
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
