"""Test of docs/operations.md: all its commands in order, and many runs on several workers."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.checkout import ROOT, copy_project, new_repository
from tests.docs import Terminal, blocks
from tests.e2e.conftest import FINAL, Client, Process, answer, eventually, registered
from tests.examples import written
from tests.network import free_port
from tests.torture.harness import LONG

PASSWORD = "a secret"
OF_BUCKETS = ("With a bucket", "On another host")  # blocks that make e2e-cloud runs
WORKERS, OF_ANOTHER_HOST = (3, 2) if LONG else (2, 1)
CONFIGS, RUNS = (6, 60) if LONG else (2, 4)  # at the same time
SWEPT = 12 if LONG else 6


class Reader:
    """A reader at a terminal who runs the code blocks of the document in order."""

    def __init__(self, folder: Path, setup: str) -> None:
        self._folder = folder
        self._blocks = (
            block
            for block in blocks("operations.md")
            if block.language == "sh" and block.title not in OF_BUCKETS
        )
        assert next(self._blocks).title == "Settings"
        every_terminal = next(self._blocks)
        assert every_terminal.title == "Every terminal"
        self._start = f"set -e\n{setup}\n{every_terminal.text}\n"
        self._terminal = Terminal(folder)
        self._others: list[Process] = []
        self._terminal.run(self._start)

    def do(self, containing: str) -> str:
        """Run the next block, which must contain this text; return its output."""
        block = next(self._blocks)
        assert (block.title, containing in block.text) == ("", True)
        return self._terminal.run(block.text)

    def open_terminals(self, containing: str, count: int = 1) -> list[Process]:
        """Run the next block, which must contain this text, in `count` other terminals."""
        block = next(self._blocks)
        assert (block.title, containing in block.text) == ("Other terminal", True)
        opened = []
        for _ in range(count):
            log = self._folder.parent / f"terminal-{len(self._others)}.log"
            command = ["bash", "-c", self._start + block.text]
            opened.append(Process(command, log, cwd=self._folder, env=self._terminal.env))
            self._others.append(opened[-1])
        return opened

    def env(self) -> dict[str, str]:
        """Return the environment of the terminal."""
        variables = self._terminal.run("env --null; echo").split("\0")
        return dict(each.split("=", 1) for each in variables if "=" in each)

    def end(self) -> None:
        """Check that all blocks were run, and close the terminal."""
        assert next(self._blocks, None) is None, "a block of the document was not run"
        self._terminal.end()

    def kill(self) -> None:
        """Kill all terminals."""
        for terminal in reversed(self._others):
            terminal.kill()
        self._terminal.kill()


def press_ctrl_c(terminal: Process) -> None:
    os.killpg(terminal.process.pid, signal.SIGINT)
    terminal.process.wait(60)


@pytest.fixture
def state():
    """A folder that the user of PostgreSQL may enter, unlike the folders of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="operations-"))
    folder.chmod(0o755)
    yield folder
    with suppress(FileNotFoundError, ProcessLookupError):  # PostgreSQL was stopped
        running = (folder / "state/postgres/postmaster.pid").read_text()
        os.kill(int(running.split()[0]), signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def project(tmp_path):
    """A commit of the project, with additional training configs."""
    project = copy_project(tmp_path / "project")
    (project / ".venv").symlink_to(ROOT / ".venv")
    new_repository(project)
    template = (project / "configs/training/mistral_finetune.yaml").read_text()
    for n in range(CONFIGS):
        changed = re.sub("learning_rate: .*", f"learning_rate: {10 - n}e-6", template)
        (project / f"configs/training/concurrent_{n}.yaml").write_text(changed)
    if not LONG:
        grid = project / "configs/sweeps/mistral_finetune.yaml"
        grid.write_text(grid.read_text().replace("epochs: [2, 3]", "epochs: [3]"))
    return project


def run_concurrently(api, deployment, project):
    """Start all runs; check that each completes, and that each config has one model."""
    before = registered(project)
    ids = []
    for n in range(RUNS):
        parameters = {"training_config_path": f"configs/training/concurrent_{n % CONFIGS}.yaml"}
        path, body = f"deployments/{deployment}/create_flow_run", {"parameters": parameters}
        ids.append(answer(api.post(path, json=body))["id"])

    def states_if_ended():
        wanted = {"flow_runs": {"id": {"any_": ids}}}
        runs = answer(api.post("flow_runs/filter", json=wanted))
        ended = [run["state_name"] for run in runs if run["state_type"] in FINAL]
        return ended if len(ended) == RUNS else None

    assert eventually(states_if_ended, seconds=420, every=2) == ["Completed"] * RUNS
    new = [version for version in registered(project) if version not in before]
    assert len(new) == len(set(new)) == CONFIGS
    for version in new:
        metadata = json.loads((project / f"artifacts/models/{version}/metadata.json").read_text())
        assert metadata["model_version"] == version
        assert (project / f"artifacts/evaluations/{version}/evaluation.json").exists()


QUICK_RECOVERY = """
from ops import recovery
recovery.HEARTBEAT_SECONDS, recovery.PENDING_SECONDS = 60, 120
recovery.ALIVE.add("Running")  # a run may be killed before its first heartbeat
raise SystemExit(recovery.main([]))
"""


def distribute(reader, project, state, api, killed):
    """Distribute a sweep, and kill workers in its middle; check that nothing is lost or doubled."""
    if killed:
        python = project / ".venv/bin/python"
        subprocess.run([python, "-c", QUICK_RECOVERY], cwd=project, env=reader.env(), check=True)
    before = registered(project)

    def kill_in_the_middle():
        eventually(lambda: len(registered(project)) > len(before), seconds=300)
        for terminal in killed:
            terminal.kill()

    with ThreadPoolExecutor(1) as other:
        done = other.submit(kill_in_the_middle)
        reader.do("--distribute")
        done.result()
    summary = json.loads((state / "state/leaderboard.json").read_text())
    versions = {row["model_version"] for row in summary["leaderboard"]}
    # One of the configs, that with 1e-5, has the settings of a model that was trained before.
    assert (len(versions), summary["failed"], summary["cached"]) == (SWEPT, [], 1)
    new = [version for version in registered(project) if version not in before]
    assert len(new) == SWEPT - 1
    assert set(new) <= versions
    wanted = {"flow_runs": {"tags": {"all_": ["sweep"]}}}
    runs = answer(api.post("flow_runs/filter", json=wanted))
    assert [run["state_name"] for run in runs] == ["Completed"] * (SWEPT - 1)


def test_all_commands_of_the_document_work_in_order(project, state):
    port, pg_port = free_port(), free_port()
    reader = Reader(
        project, f"STATE={state}/state PORT={port} PGPORT={pg_port} PASSWORD='{PASSWORD}'"
    )
    url = f"http://127.0.0.1:{port}/api/"
    api = Client(base_url=url, auth=("admin", PASSWORD), timeout=60)
    try:
        reader.do("initdb")
        [server] = reader.open_terminals("server start")
        eventually(lambda: is_healthy(url))
        assert httpx.post(f"{url}deployments/filter", json={}).status_code == 401
        reader.do("deploy --all")
        workers = reader.open_terminals("worker start", count=WORKERS)
        assert "Completed" in reader.do("deployment run")
        assert registered(project) == ["from_operations"]
        reader.do("chgrp")

        deployment = api.get("deployments/name/training-pipeline/train").json()["id"]
        run_concurrently(api, deployment, project)

        assert "Completed" in reader.do("git_clone")
        assert "from_a_clone" in registered(project)
        workers += reader.open_terminals("another-host", count=OF_ANOTHER_HOST)
        distribute(reader, project, state, api, killed=[workers[0], workers[-1]] if LONG else [])
        reader.do("ops.notify")
        before = written(project / "artifacts")
        reader.do("flock")
        assert "Completed" in reader.do("tar --extract")
        assert written(project / "artifacts") == before
        for terminal in [*workers, server]:
            if terminal.process.poll() is None:
                press_ctrl_c(terminal)
        reader.do("database upgrade")
        reader.do("pg_ctl")
        reader.end()
    finally:
        reader.kill()
        api.close()


def is_healthy(url):
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}health").is_success
