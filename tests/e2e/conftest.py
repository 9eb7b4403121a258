"""Fixtures with real processes: a server, deployments, a worker in another folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.checkout import copy_project
from tests.databases import Homes
from tests.network import STARTUP_SECONDS, free_port

PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
AUTH_STRING = "admin:a secret"
FLOWS = """
from flows.audit_models import audit_models
from flows.compare_models import compare_models
from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep
"""
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
LONGEST = [
    "test_up.py",
    "test_recovery.py",
    "test_operations.py",
    "test_browser.py",
    "test_deployments.py",
    "test_tutorial.py",
    "test_usage.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first: each takes minutes, in which it mostly waits."""
    items.sort(key=lambda item: (*LONGEST, item.path.name).index(item.path.name))


def eventually(condition: Callable[[], Any], seconds: float = 240, every: float = 0.5) -> Any:
    """Call `condition` until its result is true; return this result."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)
    return found


def registered(project: Path) -> list[str]:
    """Return the versions of all models in the registry of a project."""
    registry = json.loads((project / "artifacts/models/registry.json").read_text())
    return [model["model_version"] for model in registry["models"]]


class Process:
    """A process in a new process group, with a log of its output."""

    def __init__(self, command: list[str], log: Path, **options: Any) -> None:
        self.log = log
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )

    def output(self) -> str:
        """Return everything the process has printed so far."""
        return self.log.read_text()

    def kill(self) -> None:
        """Kill the process and its descendants with SIGKILL, as a failure of the machine does."""
        for process in [self.process.pid, *descendants(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait(60)


def descendants(process: int) -> list[int]:
    """Return the ids of the children of a process, and of their descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for known in found:  # grows in the loop
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


class Client(httpx.Client):
    """A client that repeats a request while the server is too busy, as Prefect's client does."""

    def request(self, *arguments: Any, **options: Any) -> httpx.Response:
        """Return the response to a request."""

        def response_if_not_busy() -> httpx.Response | None:
            response = super(Client, self).request(*arguments, **options)
            return None if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else response

        response: httpx.Response = eventually(response_if_not_busy)
        return response


def answer(response: httpx.Response) -> Any:
    """Return the JSON of a response, which must not be an error."""
    assert response.is_success, response.text
    return response.json()


class Platform:
    """A server with the deployments of a project, and its workers.

    Args:
        folder: For logs, and for Prefect's own files.
        project: The project.
        host: The address at which the server listens.
        settings: Further variables of the server.
    """

    def __init__(
        self,
        folder: Path,
        project: Path,
        *,
        host: str = "127.0.0.1",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.project = folder, project
        self.host, self.settings = host, settings or {}
        self.url = f"http://{host}:{free_port()}"
        self.env = os.environ | {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_API_AUTH_STRING": AUTH_STRING,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        user, _, password = AUTH_STRING.partition(":")
        self.api = Client(base_url=f"{self.url}/api/", auth=(user, password), timeout=120)
        self.workers: list[Process] = []
        self.start_server()

    def start_server(self) -> None:
        """Start the server, and wait until it answers."""
        port = self.url.rpartition(":")[2]
        self.server = Process(
            [*PREFECT, "server", "start", "--host", self.host, "--port", port],
            self.folder / "server.log",
            env=self.env
            | {
                "PREFECT_SERVER_API_AUTH_STRING": AUTH_STRING,
                "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": self.url,
                **self.settings,
            },
            cwd=self.project,
        )
        eventually(self._is_healthy, seconds=STARTUP_SECONDS)

    def _is_healthy(self) -> bool:
        assert self.server.process.poll() is None, self.server.output()
        try:
            return self.api.get("health").is_success
        except httpx.HTTPError:
            return False

    def prefect(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run a `prefect` command, which must succeed; return its stdout."""
        done = subprocess.run(
            [*PREFECT, *arguments],
            cwd=cwd or self.folder,
            env=self.env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self) -> None:
        """Apply prefect.yaml."""
        self.prefect("deploy", "--all", cwd=self.project)

    def start_worker(self, *options: str) -> Process:
        """Start a worker in a folder other than the project's."""
        folder = self.folder / "worker"
        folder.mkdir(exist_ok=True)
        name = f"worker-{len(self.workers)}"
        worker = Process(
            [*PREFECT, "worker", "start", "--pool", "training", "--name", name, *options],
            self.folder / f"{name}.log",
            env=self.env,
            cwd=folder,
        )
        self.workers.append(worker)
        eventually(lambda: "started!" in worker.output())
        return worker

    def get(self, path: str) -> Any:
        """Send a GET request to the API; return the JSON of the response."""
        return answer(self.api.get(path))

    def post(self, path: str, **body: Any) -> Any:
        """Send a POST request to the API; return the JSON of the response."""
        return answer(self.api.post(path, json=body))

    def deployment(self, name: str) -> dict[str, Any]:
        """Return the deployment `<flow>/<name>`."""
        return self.get(f"deployments/name/{name}")

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Return all runs of a deployment, without those that are scheduled for the future."""
        wanted = {"id": {"any_": [self.deployment(deployment)["id"]]}}
        runs = self.post("flow_runs/filter", deployments=wanted, sort="START_TIME_ASC")
        return [
            run for run in runs if run["state_name"] != "Scheduled" or not run["auto_scheduled"]
        ]

    def start_run(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment; return the id of the flow run."""
        path = f"deployments/{self.deployment(deployment)['id']}/create_flow_run"
        return str(self.post(path, parameters=parameters)["id"])

    def run_flows(self, calls: str) -> None:
        """Run flows in one process, without a deployment, which takes a quarter of the CPU time.

        Args:
            calls: Python that calls the flows of this project.
        """
        done = subprocess.run(
            [sys.executable, "-c", FLOWS + calls],
            cwd=self.project,
            env=self.env | {"PYTHONPATH": str(self.project)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def ended(self, flow_run: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until a flow run has a final state; return the run."""

        def run_if_ended() -> dict[str, Any] | None:
            run = self.get(f"flow_runs/{flow_run}")
            return run if run["state_type"] in FINAL else None

        return eventually(run_if_ended, seconds)

    def steps(self, flow_run: str) -> dict[str, str]:
        """Wait until the five steps of a run have a final state; return its name by step."""

        def states_if_ended() -> dict[str, str] | None:
            runs = self.post("task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
            states = {run["name"].split()[0]: run["state_name"] for run in runs}
            is_ended = all(run["state_type"] in FINAL for run in runs)
            return states if len(states) == 5 and is_ended else None

        return eventually(states_if_ended)

    def stop(self) -> None:
        """Kill all workers and the server."""
        for worker in self.workers:
            worker.kill()
        self.server.kill()
        self.api.close()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, homes: Homes) -> Iterator[Platform]:
    """A deployed copy of the project with one worker; most tests share it."""
    folder = tmp_path_factory.mktemp("platform")
    homes.create(folder / "home")
    platform = Platform(folder, copy_project(folder / "project"))
    try:
        template = platform.project / "ops/base_job_template.json"
        platform.prefect(
            *("work-pool", "create", "--type", "process"),
            *("--base-job-template", str(template), "training"),
        )
        platform.deploy()
        platform.start_worker()
        yield platform
    finally:
        platform.stop()
