"""Run server, UI, work pool, deployments and a worker on this machine until Ctrl-C.

    python -m ops.up [--port 4200]

The database, the logs and the password are in PREFECT_HOME, which the Makefile sets to `.prefect/`.
"""

import argparse
import fcntl
import json
import os
import shlex
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

from ops.server import (
    HOST,
    ROOT,
    ServerError,
    ServerProcess,
    listen,
    make_database_private,
    make_private,
    start_prefect,
    stop_group,
)

__all__ = ["main"]

POOL = "training"
# Requests for runs cannot set the command, the environment or the folder of the run's process.
JOB_TEMPLATE = Path(__file__).with_name("base_job_template.json")
TABLE_KEY = "models"
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
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect")).resolve()
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
    # Prefect takes more than a second to import.
    from ops import profile

    url = f"http://{HOST}:{port}"
    log = home / "server.log"
    with ExitStack() as stack:
        stack.enter_context(_only_instance(home / profile.LOCK))
        listener = stack.enter_context(_listen(port))
        profile.set_api_url(home, None)  # a `make up` that was killed leaves its address
        auth_string = profile.ensure_auth_string(home)
        env = os.environ | {
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_API_AUTH_STRING": auth_string,
            "PREFECT_UI_API_URL": f"{url}/api",
            "PREFECT_HOME": str(home),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        print(f"Starting the server ({log}) ...", flush=True)
        make_database_private()
        make_private(log)
        file = stack.enter_context(open(log, "w+b"))
        server_settings = {
            "PREFECT_SERVER_API_AUTH_STRING": auth_string,
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url,
        }
        server = ServerProcess(listener, env=env | server_settings, log=file, cwd=ROOT)
        stack.callback(_stop, server.process)
        try:
            server.wait_until_ready(START_SECONDS)
        except ServerError as error:
            raise UpError(f"{error}\nFull log: {log}") from error
        print("Deploying ...", flush=True)
        _create_pool(url, env)
        _prefect("deploy", "--all", env=env)
        worker = start_prefect("worker", "start", "--pool", POOL, "--name", "up", env=env, cwd=ROOT)
        stack.callback(_stop, worker)
        profile.set_api_url(home, f"{url}/api")
        stack.callback(profile.set_api_url, home, None)
        table = _models_table(url, auth_string)
        print(_links(url, table, auth_string, profile.variables(home)), flush=True)
        while server.process.poll() is None and worker.poll() is None:
            time.sleep(0.2)
        name, code = "server", server.process.poll()
        if code is None:
            name, code = "worker", worker.poll()
        raise UpError(f"{name}: exited with code {code}. Server log: {log}")


def _create_pool(url: str, env: dict[str, str]) -> None:
    """Create the work pool, or replace the job template of one that a former release created."""
    user, _, password = env["PREFECT_API_AUTH_STRING"].partition(":")
    pool = f"{url}/api/work_pools/{POOL}"
    try:
        response = httpx.get(pool, auth=(user, password), timeout=START_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise UpError(f"{url}: {type(error).__name__}: {error}. Expected an answer.") from error
    template = json.loads(JOB_TEMPLATE.read_text())
    template_option = ("--base-job-template", str(JOB_TEMPLATE))
    if response.status_code == httpx.codes.NOT_FOUND:
        _prefect("work-pool", "create", "--type", "process", *template_option, POOL, env=env)
    elif not response.is_success or response.json()["base_job_template"] != template:
        _prefect("work-pool", "update", *template_option, POOL, env=env)


def _models_table(url: str, auth_string: str) -> str:
    """Return the page with the table of all models; create an empty table if there is none.

    Runs update this table, see `flows.report`, so that the page always shows the newest. The page
    of its key only lists ids.
    """
    user, _, password = auth_string.partition(":")
    try:
        with httpx.Client(
            base_url=f"{url}/api/artifacts/",
            auth=(user, password),
            timeout=START_SECONDS,
            trust_env=False,
        ) as client:
            newest = {"artifacts": {"key": {"any_": [TABLE_KEY]}}, "sort": "CREATED_DESC"}
            found = client.post("filter", json={**newest, "limit": 1}).raise_for_status().json()
            if not found:
                empty = {"key": TABLE_KEY, "type": "table", "data": "[]"}
                response = client.post("", json={**empty, "description": "No models yet."})
                found = [response.raise_for_status().json()]
            return f"{url}/artifacts/artifact/{found[0]['id']}"
    except httpx.HTTPError as error:
        raise UpError(f"{url}: {type(error).__name__}: {error}. Expected an answer.") from error


def _links(url: str, table: str, auth_string: str, variables: dict[str, str]) -> str:
    exports = "".join(
        f"    export {name}={shlex.quote(value)}\n" for name, value in variables.items()
    )
    return f"""
  Ready. Press Ctrl-C to stop.

    Run a training    {url}/deployments
    Runs              {url}/runs
    All models        {table}

  The first page asks for the password: {auth_string}

  From another terminal, in this folder:

{exports}    .venv/bin/prefect deployment run 'training-pipeline/train' -p model_version=model_v1
"""


@contextmanager
def _only_instance(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`.

    Raises:
        UpError: Another process holds the lock.
    """
    make_private(path)  # a user who can read a file can lock it
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


def _listen(port: int) -> socket.socket:
    try:
        return listen(port)
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
