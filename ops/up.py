"""Start a server with UI and a worker, and deploy the flows; Ctrl-C stops both.

    python -m ops.up [--port 4200]

The database, the log of the server and the password are in PREFECT_HOME, by default `.prefect/` of
the project. The worker writes its log to the terminal.

At the end, the worker gets no new runs. Active runs may finish for 30 seconds; then they are
cancelled and their processes are killed. At the start and every 30 seconds, runs of this worker
that have lost their process are marked as Crashed.
"""

import signal
import sys

from ops.stdio import open_standard_files

if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # during the imports: no traceback
    open_standard_files()

import argparse
import fcntl
import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import httpx

from ops import runs
from ops.api import Api
from ops.server import (
    HOST,
    ROOT,
    ServerError,
    ServerProcess,
    check_home,
    listen,
    make_database_private,
    make_private,
    start_prefect,
    stop_group,
    without_proxy,
)
from src.errors import CorruptFileError

__all__ = ["main"]

POOL = "training"
# Requests for runs cannot set the command, the environment or the folder of the run's process.
JOB_TEMPLATE = Path(__file__).with_name("base_job_template.json")
# In PREFECT_HOME while the work pool is paused by `_pause`, not by a user.
PAUSED_FILE = "pool-paused"
START_SECONDS = 600.0  # for a server on a busy machine; the wait ends if it exits
STOP_REQUEST_SECONDS = 5.0  # a server that is stopped, too, may not answer
POLL_SECONDS = 0.2
GRACE_SECONDS = 30.0  # for active runs, at the end
LOST_RUNS_SECONDS = 30.0  # between searches for runs that have lost their process
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UpError(Exception):
    """Raised when `make up` cannot start, or when the server or the worker has exited."""


def main(argv: list[str] | None = None) -> int:
    """Start server and worker, print the links, and stop both on Ctrl-C, SIGTERM or SIGHUP.

    Returns:
        0 after one of these signals; 1 if one of them could not start or has exited.
    """
    parser = argparse.ArgumentParser(prog="python -m ops.up", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=4200, help="port of the server (%(default)s)")
    port: int = parser.parse_args(argv).port
    home = Path(os.environ.get("PREFECT_HOME") or ROOT / ".prefect").expanduser().resolve()
    # Of this process, too: `ops.profile` imports Prefect.
    os.environ |= {"PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.default_int_handler)
    try:
        _up(port, home)
    except KeyboardInterrupt:
        _print("Stopped.")
        return 0
    except (UpError, ServerError, CorruptFileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except httpx.HTTPError as error:
        print(f"error: server: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _up(port: int, home: Path) -> NoReturn:
    if port == 0:
        raise UpError("port 0: expected 1 to 65535. Choose another port: make up PORT=4201")
    check_home(home)
    # These read the environment when they are imported, and Prefect reads the profiles.
    from tasks.settings import PROFILES, SettingsError, check_profiles, checked_settings

    check_profiles(home / PROFILES)
    try:
        with checked_settings():
            from ops import profile
    except SettingsError as error:
        raise UpError(str(error)) from error

    url = f"http://{HOST}:{port}"
    log = home / "server.log"
    with ExitStack() as stack:
        stack.enter_context(_only_instance(home / profile.LOCK))
        listener = stack.enter_context(_listen(port))
        profile.set_api_url(home, None)  # a `make up` that was killed leaves its address
        auth_string = profile.ensure_auth_string(home)
        env = (
            os.environ
            | without_proxy(os.environ)
            | {
                "PREFECT_API_URL": f"{url}/api",
                "PREFECT_API_AUTH_STRING": auth_string,
                "PREFECT_UI_API_URL": f"{url}/api",
                "PREFECT_WORKER_QUERY_SECONDS": "2",
            }
        )
        worker_name = f"up-{socket.gethostname()}"
        print(f"Starting the server ({log}) ...", flush=True)
        make_database_private()
        make_private(log)
        file = stack.enter_context(open(log, "w+b"))
        server_settings = {
            "PREFECT_SERVER_API_AUTH_STRING": auth_string,
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url,
        }
        server = ServerProcess(listener, env=env | server_settings, log=file, cwd=ROOT)
        stack.callback(_stop_process, server.process)
        try:
            server.wait_until_ready(START_SECONDS)
        except ServerError as error:
            raise UpError(f"{error}\nFull log: {log}") from error
        print("Deploying ...", flush=True)
        api = Api(f"{url}/api", auth_string, POOL)
        api.create_pool(json.loads(JOB_TEMPLATE.read_text()))
        _python("-m", "prefect", "--no-prompt", "deploy", "--all", env=env)
        _python("-m", "ops.recovery", env=env)
        started = datetime.now(UTC)
        _mark_lost_runs(api, worker_name, started)
        _resume(api, home)
        if api.is_paused():
            print(
                "The work pool is paused, so no run starts. Resume it at "
                f"{url}/work-pools/work-pool/{POOL}"
            )
        worker = start_prefect(
            *("worker", "start", "--pool", POOL, "--name", worker_name),
            *("--limit", str(len(os.sched_getaffinity(0)))),
            env=env,
            cwd=ROOT,
        )
        stack.callback(_stop_worker, api, worker, worker_name, home)
        profile.set_api_url(home, f"{url}/api")
        stack.callback(profile.set_api_url, home, None)
        processes = {"server": server.process, "worker": worker}
        while not api.has_polled(worker_name, started):
            _check_running(processes, log)
            time.sleep(POLL_SECONDS)
        table = f"{url}/artifacts/artifact/{api.models_table()}"
        print(_links(url, table, auth_string, profile.needed_variables(home)), flush=True)
        marked = time.monotonic()
        while True:
            _check_running(processes, log)
            time.sleep(POLL_SECONDS)
            if time.monotonic() - marked > LOST_RUNS_SECONDS:
                _mark_lost_runs(api, worker_name, started)
                marked = time.monotonic()


def _check_running(processes: Mapping[str, subprocess.Popen[bytes]], log: Path) -> None:
    for name, process in processes.items():
        if (code := process.poll()) is not None:
            # Before the end of the other process, which may take a while.
            print(f"error: {name}: exited with code {code}. Server log: {log}", file=sys.stderr)
            raise SystemExit(1)


def _mark_lost_runs(api: Api, worker_name: str, started: datetime) -> None:
    """Mark the runs of this worker, and of terminals, that have lost their process as Crashed."""
    from tasks.process import has_ended

    with suppress(httpx.HTTPError):  # the server is too busy, or has exited
        active = api.active_runs()
        for run in runs.lost_runs(
            active, runs.processes(), worker_name, started, datetime.now(UTC)
        ):
            api.crash(run, "its worker was gone")
        for run in api.active_runs_without_worker():
            if has_ended(run.process):
                api.crash(run, "its process was gone; run the command again")


def _pause(api: Api, home: Path) -> None:
    """Pause the work pool, so that the worker gets no new runs."""
    if not api.is_paused():
        (home / PAUSED_FILE).touch()
        api.pause(True)


def _resume(api: Api, home: Path) -> None:
    """Resume the work pool if `_pause` has paused it; leave it paused if a user has."""
    if (home / PAUSED_FILE).exists():
        api.pause(False)
        (home / PAUSED_FILE).unlink()


def _stop_worker(api: Api, worker: subprocess.Popen[bytes], worker_name: str, home: Path) -> None:
    """Stop the worker; leave no process of its runs, and no active run if the server answers."""
    _print("Stopping ...")
    api.limit_requests(STOP_REQUEST_SECONDS)
    try:
        try:
            _pause(api, home)
            _wait_for_runs(api, worker_name)
        except KeyboardInterrupt:
            pass
        _ignore_signals()
        _cancel_runs(api, worker_name)  # before their processes end, which would be a crash
    except httpx.HTTPError:
        _print("The server does not answer. Active runs are marked as Crashed at the next start.")
    _ignore_signals()
    _stop_process(worker)
    runs.kill(runs.own_processes(runs.processes(), worker_name, home))
    with suppress(httpx.HTTPError):
        _cancel_runs(api, worker_name)  # that the worker took while it was stopped


def _wait_for_runs(api: Api, worker_name: str) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    is_reported = False
    while time.monotonic() < deadline:
        count = sum(run.worker == worker_name for run in api.active_runs())
        if not count:
            return
        if not is_reported:
            _print(
                f"Active runs: {count}. They are cancelled after {GRACE_SECONDS:g} seconds; to "
                "cancel them now, press Ctrl-C again."
            )
            is_reported = True
        time.sleep(0.5)


def _cancel_runs(api: Api, worker_name: str) -> None:
    active = [run for run in api.active_runs() if run.worker == worker_name]
    for run in active:
        api.cancel(run, "`make up` ended before the run")
    if active:
        _print(f"Cancelled runs: {len(active)}.")


def _links(url: str, table: str, auth_string: str, variables: dict[str, str]) -> str:
    exports = "".join(
        f"    export {name}={shlex.quote(value)}\n" for name, value in variables.items()
    )
    return f"""
  Ready. Press Ctrl-C to stop.

    Run a training    {url}/deployments
    Runs              {url}/runs
    All models        {table}

  The first page asks for a login. Enter: {auth_string}

  From another terminal, in this folder:

{exports}    .venv/bin/prefect deployment run 'training-pipeline/train' -p model_version=model_v1
"""


@contextmanager
def _only_instance(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`.

    Raises:
        UpError: Another process holds the lock.
    """
    make_private(path)  # another user who can read the file could lock it
    # The file is kept at the end: two processes could lock different files of this name.
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UpError(
                f"{path}: locked by another process. Only one `make up` can run in this folder. "
                "Stop the other one with Ctrl-C."
            ) from error
        yield


def _listen(port: int) -> socket.socket:
    try:
        return listen(port)
    except (OSError, OverflowError) as error:
        raise UpError(
            f"{HOST}:{port}: cannot be used ({error}). Choose another port: make up PORT=4201"
        ) from error


def _python(*arguments: str, env: dict[str, str]) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UpError(
            f"`python {' '.join(arguments)}`: exited with code {done.returncode}:\n"
            f"{done.stdout}{done.stderr}"
        )


def _ignore_signals() -> None:
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the stop


def _print(text: str) -> None:
    with suppress(OSError):  # the terminal is closed
        print(text, flush=True)


def _stop_process(process: subprocess.Popen[bytes]) -> None:
    _ignore_signals()
    stop_group(process, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL))


if __name__ == "__main__":
    sys.exit(main())
