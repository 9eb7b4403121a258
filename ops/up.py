"""Server, UI, work pool, deployments and a worker on this machine, until Ctrl-C.

    python -m ops.up [--port 4200]

Everything it keeps (database, logs) is in PREFECT_HOME, which the Makefile sets to `.prefect/`.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import httpx
from filelock import FileLock, Timeout

__all__ = ["main"]

HOST = "127.0.0.1"
POOL = "training"
ROOT = Path(__file__).parents[1]
START_SECONDS = 120.0
STOP_SECONDS = 20.0
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UpError(Exception):
    """What keeps it from being up; the message tells a person what to do."""


def main(argv: list[str] | None = None) -> int:
    """Start all of it, say where to click, and stop all of it on Ctrl-C, SIGTERM or SIGHUP.

    Returns:
        0 after Ctrl-C; 1 if something could not start, or ended by itself.
    """
    parser = argparse.ArgumentParser(prog="python -m ops.up", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=4200, help="of server and UI (%(default)s)")
    port: int = parser.parse_args(argv).port
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    for signum in ENDINGS:
        signal.signal(signum, signal.default_int_handler)
    try:
        _up(port, home)
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
        return 0
    except UpError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _up(port: int, home: Path) -> NoReturn:
    url = f"http://{HOST}:{port}"
    env = os.environ | {
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_API_URL": f"{url}/api",
        "PREFECT_HOME": str(home),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    with ExitStack() as stack:
        stack.enter_context(_only_one(home / "up.lock"))
        _check_free(port)
        log = home / "server.log"
        print(f"Starting the server ({log}) ...", flush=True)
        with open(log, "wb") as file:
            server = stack.enter_context(
                _running(
                    [*prefect, "server", "start", "--host", HOST, "--port", str(port)],
                    env,
                    stdout=file,
                )
            )
        _wait_for(f"{url}/api/health", server, log)
        print("Deploying ...", flush=True)
        if httpx.get(f"{url}/api/work_pools/{POOL}").status_code == httpx.codes.NOT_FOUND:
            _run([*prefect, "work-pool", "create", "--type", "process", POOL], env)
        _run([*prefect, "deploy", "--all"], env)
        worker = stack.enter_context(
            _running([*prefect, "worker", "start", "--pool", POOL, "--name", "up"], env)
        )
        print(_where_to_click(url), flush=True)
        while server.poll() is None and worker.poll() is None:
            time.sleep(0.2)
        ended, code = (
            ("worker", worker.poll()) if server.poll() is None else ("server", server.poll())
        )
        raise UpError(f"the {ended} ended by itself, exit code {code}; the server's log: {log}")


def _where_to_click(url: str) -> str:
    return f"""
  Ready. Ctrl-C stops all of it.

    Run a training    {url}/deployments
    Runs              {url}/runs
    All models        {url}/artifacts/key/models

  From another terminal:

    export PREFECT_API_URL={url}/api
    .venv/bin/prefect deployment run 'training-pipeline/train' -p model_version=model_v1
"""


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, blocking=False, preserve_lock_file=True):
            yield
    except Timeout as error:
        raise UpError(f"it is up already ({path} is held). Ctrl-C there stops it.") from error


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise UpError(
                f"port {port} of {HOST} cannot be used ({error}). Choose another: make up PORT=4201"
            ) from error


@contextmanager
def _running(
    command: list[str], env: dict[str, str], stdout: object = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own; in the end nothing of the group is left."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT if stdout else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for signum in ENDINGS:
            signal.signal(signum, signal.SIG_IGN)  # it is stopping: let nothing stop that
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if _end(process, signum):
                break


def _end(process: subprocess.Popen[bytes], signum: int) -> bool:
    """Signal the group of `process`; tell whether all of it is gone after a while."""
    deadline = time.monotonic() + STOP_SECONDS
    try:
        os.killpg(process.pid, signum)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    except ProcessLookupError:
        return True
    return False


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise UpError(f"the server ended with exit code {server.returncode}; its log: {log}")
        try:
            if httpx.get(url).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise UpError(f"{url}: the server did not answer within {START_SECONDS:g} s; its log: {log}")


def _run(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UpError(f"`prefect {' '.join(command[4:])}` failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
