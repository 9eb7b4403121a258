"""The platform for real: a server, deployments, a worker that was started elsewhere."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.network import free_port

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def eventually(look: Callable[[], Any], seconds: float = 90, every: float = 0.5) -> Any:
    """Give what `look` gives, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)
    return found


def copy_project(folder: Path) -> Path:
    """Copy what is under version control, as a fresh clone would have it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def registered(project: Path) -> list[str]:
    """Give the version of every model in a project's registry."""
    registry = json.loads((project / "artifacts/models/registry.json").read_text())
    return [model["model_version"] for model in registry["models"]]


class Process:
    """A process in a group of its own."""

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

    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        """Kill it with all that it started, as when its machine goes down."""
        for process in [self.process.pid, *descendants(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait(60)


def descendants(process: int) -> list[int]:
    """Give the processes that a process started, and those that they did."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for known in found:  # which grows meanwhile
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def answer(ask: Callable[[], httpx.Response]) -> Any:
    """Give the server's answer; ask again while it is too busy, as Prefect's client does."""

    def look() -> httpx.Response | None:
        response = ask()
        return None if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else response

    response = eventually(look)
    assert response.is_success, response.text
    return response.json()


class Platform:
    """A server with the project's deployments on it, and workers to start and stop."""

    def __init__(self, folder: Path, project: Path) -> None:
        self.folder, self.project = folder, project
        self.url = f"http://127.0.0.1:{free_port()}"
        self.env = os.environ | {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        self.api = httpx.Client(base_url=f"{self.url}/api/", timeout=30)
        port = self.url.rpartition(":")[2]
        self.server = Process(
            [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", port],
            folder / "server.log",
            env=self.env,
            cwd=project,
        )
        self.workers: list[Process] = []
        eventually(self._healthy, seconds=120)

    def _healthy(self) -> bool:
        assert self.server.process.poll() is None, self.server.said()
        try:
            return self.api.get("health").is_success
        except httpx.HTTPError:
            return False

    def prefect(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run a command of Prefect's that must succeed; give what it printed."""
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
        self.prefect("deploy", "--all", cwd=self.project)

    def start_worker(self, *options: str) -> Process:
        """Start a worker in a folder that is not the project's."""
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        name = f"worker-{len(self.workers)}"
        worker = Process(
            [*PREFECT, "worker", "start", "--pool", "training", "--name", name, *options],
            self.folder / f"{name}.log",
            env=self.env,
            cwd=elsewhere,
        )
        self.workers.append(worker)
        eventually(lambda: "started!" in worker.said())
        return worker

    def get(self, path: str) -> Any:
        return answer(lambda: self.api.get(path))

    def post(self, path: str, **body: Any) -> Any:
        return answer(lambda: self.api.post(path, json=body))

    def deployment(self, name: str) -> dict[str, Any]:
        return self.get(f"deployments/name/{name}")

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Give all runs of a deployment, less those that lie in the future."""
        wanted = {"id": {"any_": [self.deployment(deployment)["id"]]}}
        runs = self.post("flow_runs/filter", deployments=wanted, sort="START_TIME_ASC")
        return [
            run for run in runs if run["state_name"] != "Scheduled" or not run["auto_scheduled"]
        ]

    def start_run(self, deployment: str, **parameters: str) -> str:
        """Run a deployment by the command a person types; give the id of the flow run."""
        words = [word for key, value in parameters.items() for word in ("-p", f"{key}={value}")]
        said = self.prefect("deployment", "run", deployment, *words)
        return said.split("UUID: ")[1].split()[0]

    def ended(self, flow_run: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until a flow run has ended; give it."""

        def look() -> dict[str, Any] | None:
            run = self.get(f"flow_runs/{flow_run}")
            return run if run["state_type"] in FINAL else None

        return eventually(look, seconds)

    def steps(self, flow_run: str) -> dict[str, str]:
        """Give the final state of each of a run's five steps, by name."""

        def look() -> dict[str, str] | None:
            runs = self.post("task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
            done = {run["name"].split()[0]: run["state_name"] for run in runs}
            ended = all(run["state_type"] in FINAL for run in runs)
            return done if len(done) == 5 and ended else None

        return eventually(look)

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.server.kill()
        self.api.close()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A copy of the project, deployed, with one worker; one for most tests."""
    folder = tmp_path_factory.mktemp("platform")
    platform = Platform(folder, copy_project(folder / "project"))
    try:
        platform.prefect("work-pool", "create", "--type", "process", "training")
        platform.deploy()
        platform.start_worker()
        yield platform
    finally:
        platform.stop()
