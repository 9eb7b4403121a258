"""Run server, UI, work pool, deployments and a worker on this machine until Ctrl-C.

    python -m ops.up [--port 4200]

The database and the logs are in PREFECT_HOME, which the Makefile sets to `.prefect/`.
"""

import argparse
import fcntl
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

from ops.server import HOST, ServerError, ServerProcess, start_prefect, stop_group

__all__ = ["main"]

POOL = "training"
ROOT = Path(__file__).parents[1]
START_SECONDS = 120.0
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
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    for signum in STOP_SIGNALS:
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
    log = home / "server.log"
    with ExitStack() as stack:
        stack.enter_context(_only_instance(home / "up.lock"))
        _check_port(port)
        print(f"Starting the server ({log}) ...", flush=True)
        file = stack.enter_context(open(log, "w+b"))
        server = ServerProcess(port, env=env, log=file, cwd=ROOT)
        stack.callback(_stop, server.process)
        try:
            server.wait_until_ready(START_SECONDS)
        except ServerError as error:
            raise UpError(f"{error}\nFull log: {log}") from error
        print("Deploying ...", flush=True)
        if httpx.get(f"{url}/api/work_pools/{POOL}").status_code == httpx.codes.NOT_FOUND:
            _prefect("work-pool", "create", "--type", "process", POOL, env=env)
        _prefect("deploy", "--all", env=env)
        worker = start_prefect("worker", "start", "--pool", POOL, "--name", "up", env=env, cwd=ROOT)
        stack.callback(_stop, worker)
        print(_links(url), flush=True)
        while server.process.poll() is None and worker.poll() is None:
            time.sleep(0.2)
        name, code = "server", server.process.poll()
        if code is None:
            name, code = "worker", worker.poll()
        raise UpError(f"{name}: exited with code {code}. Server log: {log}")


def _links(url: str) -> str:
    return f"""
  Ready. Press Ctrl-C to stop.

    Run a training    {url}/deployments
    Runs              {url}/runs
    All models        {url}/artifacts/key/models

  From another terminal:

    export PREFECT_API_URL={url}/api
    .venv/bin/prefect deployment run 'training-pipeline/train' -p model_version=model_v1
"""


@contextmanager
def _only_instance(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`.

    Raises:
        UpError: Another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep the lock file: after an unlink, two processes could lock different inodes.
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UpError(
                f"{path}: locked by another process. Only one `make up` can run per PREFECT_HOME. "
                "Stop the other one with Ctrl-C."
            ) from error
        yield


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise UpError(
                f"{HOST}:{port}: cannot be used ({error}). Choose another port: make up PORT=4201"
            ) from error


def _prefect(*arguments: str, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UpError(
            f"`prefect {' '.join(arguments)}`: exited with code {done.returncode}:\n"
            f"{done.stdout}{done.stderr}"
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the stop
    stop_group(process, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL))


if __name__ == "__main__":
    sys.exit(main())
