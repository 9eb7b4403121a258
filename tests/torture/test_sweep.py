"""Sweeps of which any process is killed at random moments: run again, they end as undisturbed ones.

With `--distribute`, flow runs whose processes are gone are scheduled again by the test, in place of
the automations of `ops.recovery`, which wait for minutes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.make_dataset import make_dataset
from ops.server import ServerProcess, listen, stop_group
from src.lineage.verify import verdict, verify_all
from src.training.registry import list_models
from tests.databases import Homes
from tests.examples import CONFIG, without_runs, written
from tests.network import STARTUP_SECONDS
from tests.torture.harness import LONG, REPOSITORY, copy_root

pytestmark = pytest.mark.skipif(not LONG, reason="takes minutes; TORTURE=long")

KILLS = 20  # the first of a sweep, the second of its server
SEED = 20_240_229
HANG_SECONDS = 600
GONE_SECONDS = 60  # after which a flow run counts as one whose process is gone
GRID = """\
base_config: config.yaml
learning_rate: [1e-5, 2e-5, 3e-5, 4e-5, 5e-5]
epochs: [1, 2, 3, 4]
batch_size: [8, 16, 32]
"""
SMALL_GRID = """\
base_config: config.yaml
learning_rate: [1e-5, 2e-5]
epochs: [1, 2]
batch_size: [8, 16]
"""
SWEEP = """
import flows.training_sweep
from cli.main import main
flows.trials.BATCH_SIZE = 7
print("began", flush=True)
main()
"""
SERVE = """
from flows.training_pipeline import training_pipeline
training_pipeline.serve(name="train", limit=2, print_starting_message=False)
"""
START = Path("start")  # an artifacts root with the dataset alone
ROOT = Path("artifacts")


class Server:
    """A Prefect server that can be killed, and started with the same port and database.

    Attributes:
        env: The environment of a process that uses the server.
    """

    def __init__(self, home: Path) -> None:
        self._log = open(home / "server.log", "w+b")  # noqa: SIM115  # closed by `close`
        self._env = os.environ | {
            "DO_NOT_TRACK": "1",
            "PREFECT_HOME": str(home),
            "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_RUNNER_SERVER_ENABLE": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PYTHONPATH": str(REPOSITORY),
        }
        self._env.pop("PREFECT_API_URL", None)
        self._start(0)
        self.env = self._env | {"PREFECT_API_URL": self._server.api_url}
        self._sweeps: list[Sweep] = []

    def _start(self, port: int) -> None:
        self._server = ServerProcess(listen(port), env=self._env, log=self._log, cwd=REPOSITORY)
        self._server.wait_until_ready(STARTUP_SECONDS)

    def restart(self) -> None:
        """Kill the server, and start it again."""
        stop_group(self._server.process, (signal.SIGKILL,))
        self._start(httpx.URL(self._server.api_url).port or 0)

    def sweep(self, *options: str) -> "Sweep":
        """Start a sweep that uses the server."""
        self._sweeps.append(Sweep(self.env, *options))
        return self._sweeps[-1]

    def close(self) -> None:
        """Kill the server, and the sweeps that have not ended, as after a failed test."""
        for sweep in self._sweeps:
            if not sweep.ends_within(0):
                sweep.kill()
        stop_group(self._server.process, (signal.SIGKILL,))
        self._log.close()

    def post(self, path: str, **body: Any) -> Any:
        response = httpx.post(f"{self._server.api_url}/{path}", json=body, timeout=60)
        response.raise_for_status()
        return response.json()


class Sweep:
    """The command `llm-train sweep` in a new process group."""

    def __init__(self, env: Mapping[str, str], *options: str) -> None:
        self._log = open("sweep.log", "w+")  # noqa: SIM115  # closed by `_end`
        self._process = subprocess.Popen(
            [sys.executable, "-c", SWEEP, "sweep", "--grid", "grid.yaml", "--json", *options],
            env=env,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "began\n"

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end for some time; return whether it came."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill all processes of the group."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._end()

    def end(self) -> dict[str, Any] | None:
        """Wait for the end; return the summary, or `None` if it failed, which its log explains."""
        if not self.ends_within(HANG_SECONDS):
            os.killpg(self._process.pid, signal.SIGKILL)
        output, log = self._end()
        if self._process.returncode == 0:
            summary: dict[str, Any] = json.loads(output)
            return summary
        assert self._process.returncode == 1, log
        assert "\nerror: " in log, log
        return None

    def _end(self) -> tuple[str, str]:
        output, _ = self._process.communicate()
        with self._log as log:
            log.seek(0)
            return output, log.read()


class Runner:
    """A process that executes the flow runs of the deployment, and its children."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._start()

    def _start(self) -> None:
        with open("runner.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE],
                env=self._server.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ensure(self) -> None:
        """Start the process again if it has ended."""
        if self._process.poll() is not None:
            self._start()

    def restart(self) -> None:
        """Kill all processes of the group, and start them again."""
        self.kill()
        schedule_again(self._server)
        self._start()

    def kill(self) -> None:
        stop_group(self._process, (signal.SIGKILL,))


@pytest.fixture
def server(tmp_path: Path, homes: Homes) -> Iterator[Server]:
    server = Server(homes.create(tmp_path / "prefect"))
    yield server
    server.close()


@pytest.fixture
def runner(project: Path, server: Server) -> Iterator[Runner]:
    runner = Runner(server)
    yield runner
    runner.kill()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a grid and a dataset of 20 samples; the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)
    Path("grid.yaml").write_text(GRID)
    make_dataset("dataset_v1", samples=20, datasets_dir=START / "datasets")
    copy_root(START, ROOT)
    return tmp_path


def outcome() -> dict[str, Any]:
    """Return what depends neither on kills nor on order; without the cached results of steps."""
    record = without_runs(written(ROOT))
    del record["models/registry.json"]
    assert [path for path in ROOT.rglob("*") if path.name.endswith(".tmp")] == []
    return {
        "record": record,
        "registry": sorted(list_models(), key=lambda model: model["model_version"]),
        "files": {
            str(path) for path in ROOT.rglob("*") if path.is_file() and ".cache" not in path.parts
        },
        "verdicts": {version: verdict(checks) for version, checks in verify_all(ROOT)},
    }


def check(summary: dict[str, Any], expected: dict[str, Any], configs: int) -> None:
    """Check the outcome of a sweep that was disturbed."""
    assert outcome() == expected
    assert len({row["model_version"] for row in summary["leaderboard"]}) == configs
    assert (len(summary["leaderboard"]), summary["failed"]) == (configs, [])


def expect(server: Server, configs: int) -> tuple[dict[str, Any], float]:
    """Run an undisturbed sweep; return its outcome, and how long it took in seconds."""
    sweep, began = server.sweep(), time.monotonic()
    summary = sweep.end()
    seconds, expected = time.monotonic() - began, outcome()
    assert summary
    check(summary, expected, configs)
    assert set(expected["verdicts"].values()) == {"MATCH"}
    assert len(expected["registry"]) == configs
    assert [name for name in expected["files"] if Path(name).name.startswith(".")] == []
    assert [name for name in expected["files"] if name.endswith(".lock")] == [
        "artifacts/models/registry.json.lock"
    ]
    copy_root(START, ROOT)
    return expected, seconds


def test_a_sweep_that_is_killed_or_loses_its_server_ends_as_an_undisturbed_one(project, server):
    expected, seconds = expect(server, configs=60)
    dice = random.Random(SEED)
    kills = in_the_middle = 0
    while kills < KILLS:
        sweep = server.sweep()
        if not sweep.ends_within(dice.uniform(0, seconds)):
            kills += 1
            in_the_middle += (
                len(list(ROOT.glob("models/*"))) > 0 and len(list(ROOT.glob("evaluations/*"))) < 60
            )
            if kills % 2:
                sweep.kill()
                continue
            server.restart()
        if (summary := sweep.end()) is not None:
            check(summary, expected, configs=60)
            copy_root(START, ROOT)
    sweep_again(server, expected, configs=60)
    print(f"{kills} kills, {in_the_middle} while the record was written")  # noqa: T201


def sweep_again(server: Server, expected: dict[str, Any], configs: int, *options: str) -> None:
    """Run a sweep to its end, and once more, which finds everything in the record."""
    summary = server.sweep(*options).end()
    assert summary
    check(summary, expected, configs)
    again = server.sweep(*options).end()
    assert again
    check(again, expected, configs)
    assert [row["cached"] for row in again["leaderboard"]] == [True] * configs


def test_a_distributed_sweep_of_which_any_process_is_killed_ends_as_an_undisturbed_one(
    project, server, runner
):
    Path("grid.yaml").write_text(SMALL_GRID)
    expected, _ = expect(server, configs=8)
    wait_for_deployment(server)
    sweep, began = server.sweep("--distribute"), time.monotonic()
    summary = sweep.end()
    assert summary
    check(summary, expected, configs=8)
    seconds = time.monotonic() - began
    copy_root(START, ROOT)
    earlier, sweep, kills = completed(server), None, 0
    dice = random.Random(SEED)
    while kills < KILLS or sweep is not None:
        if sweep is None:
            sweep = server.sweep("--distribute")
        wait = dice.uniform(0, seconds) if kills < KILLS else 5
        if sweep.ends_within(wait):
            if (summary := sweep.end()) is not None:
                check(summary, expected, configs=8)
                names = [name for run, name in completed(server).items() if run not in earlier]
                assert len(set(names)) == len(names)  # no config was run to its end twice
                earlier = completed(server)
                copy_root(START, ROOT)
            sweep = None
        elif kills < KILLS:
            victim = (sweep, runner, server)[kills % 3]
            kills += 1
            if victim is sweep:
                sweep.kill()
                sweep = None
            else:
                victim.restart()
        runner.ensure()
        schedule_again(server, GONE_SECONDS)
        assert time.monotonic() - began < (KILLS + 1) * HANG_SECONDS
    copy_root(START, ROOT)
    sweep_again(server, expected, 8, "--distribute")


def wait_for_deployment(server: Server) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not server.post("deployments/filter"):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def flow_runs(server: Server, *states: str) -> list[dict[str, Any]]:
    """Return the flow runs of configs in one of some states."""
    found: list[dict[str, Any]] = server.post(
        "flow_runs/filter",
        flow_runs={"tags": {"all_": ["sweep"]}, "state": {"type": {"any_": states}}},
    )
    return found


def completed(server: Server) -> dict[str, str]:
    return {run["id"]: run["name"] for run in flow_runs(server, "COMPLETED")}


def schedule_again(server: Server, seconds: float = 0) -> None:
    """Schedule flow runs again that have crashed, or whose process is gone for some time."""
    now = datetime.now(UTC)
    for run in flow_runs(server, "PENDING", "RUNNING", "CRASHED"):
        age = now - datetime.fromisoformat(run["state"]["timestamp"])
        if run["state"]["type"] == "CRASHED" or age >= timedelta(seconds=seconds):
            state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
            server.post(f"flow_runs/{run['id']}/set_state", state=state, force=True)
