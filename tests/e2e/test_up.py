"""Tests of ops.up with real processes: one command starts everything, Ctrl-C stops everything."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
from filelock import FileLock
from prefect.workers.process import ProcessWorker

from tests.checkout import ROOT, copy_project
from tests.e2e.conftest import Process, descendants, eventually
from tests.network import free_port
from tests.torture.harness import LONG

GRACE = (
    "Active runs: 1. They are cancelled after 30 seconds; to cancel them now, press Ctrl-C again."
)
KILLED = ["worker", "all", *(["server", "worker and flow run"] if LONG else [])]


@pytest.fixture
def project(tmp_path):
    """A copy of the project."""
    project = copy_project(tmp_path / "project")
    (project / ".venv").symlink_to(ROOT / ".venv")
    return project


@pytest.fixture
def terminal(project, tmp_path):
    """The environment of a terminal without Prefect variables."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    # The scripts in .venv/ would import the project of which this one is a copy.
    return env | {"HOME": str(tmp_path / "user"), "PYTHONPATH": str(project)}


@pytest.fixture
def env(project, terminal):
    """An environment with a Prefect home folder in the project, as the Makefile sets it."""
    return terminal | {"PREFECT_HOME": str(project / ".prefect")}


def up(project, env, port, wait=True):
    """Start ops.up, and wait until it is ready."""
    process = Process(
        [sys.executable, "-m", "ops.up", "--port", str(port)],
        project.parent / f"up-{len(list(project.parent.glob('up-*.log')))}.log",
        cwd=project,
        env=env,
    )
    if wait:
        eventually(lambda: "  Ready. Press Ctrl-C to stop.\n" in process.output())
    return process


def password(process):
    """Return the user and the password that ops.up printed."""
    [printed] = re.findall(r"asks for a login. Enter: (admin):(\S+)\n", process.output())
    return printed


def commands(process):
    """Return the commands for another terminal that ops.up printed."""
    [printed] = re.findall(r"From another terminal.*:\n\n((?:    .*\n)+)", process.output())
    return printed


def run_in(terminal, project, command):
    """Run a command in a terminal in the project's folder; return its output."""
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=project,
        env=terminal,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def states_of_runs(project, every=False):
    """Return the current state of each run by hand, and its message; or all its states."""
    states = "s.flow_run_id = r.id" if every else "s.id = r.state_id"
    with closing(sqlite3.connect(project / ".prefect/prefect.db", timeout=60)) as database:
        return database.execute(
            f"select s.name, s.message from flow_run r join flow_run_state s on {states} "
            "where not auto_scheduled"
        ).fetchall()


def is_running(process):
    """Return whether a process exists."""
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def by_kind(processes):
    """Return the server, the worker and the process of the flow run."""

    def kind(process):
        command = Path(f"/proc/{process}/cmdline").read_text()
        return ("uvicorn" not in command, "worker\0start" not in command)

    return sorted(processes, key=kind)


def test_ctrl_c_during_a_run_leaves_no_process_and_no_partial_file(project, env, terminal, homes):
    homes.create(project / ".prefect")
    port = free_port()
    running = up(project, env, port)
    try:
        assert f"Run a training    http://127.0.0.1:{port}/deployments\n" in running.output()
        [table] = re.findall(
            rf"All models        http://127.0.0.1:{port}/artifacts/artifact/(.+)\n",
            running.output(),
        )
        answer = httpx.get(
            f"http://127.0.0.1:{port}/api/artifacts/{table}", auth=password(running), timeout=60
        ).json()
        assert (answer["key"], answer["type"], answer["data"]) == ("models", "table", "[]")
        [worker] = httpx.post(
            f"http://127.0.0.1:{port}/api/work_pools/training/workers/filter",
            json={},
            auth=password(running),
            timeout=60,
        ).json()
        assert worker["status"] == "ONLINE"

        second = up(project, env, free_port(), wait=False)
        assert second.process.wait(30) == 1
        assert second.output() == (
            f"error: {project}/.prefect/up.lock: locked by another process. Only one `make up` can "
            "run in this folder. Stop the other one with Ctrl-C.\n"
        )

        models = project / "artifacts/models"
        models.mkdir()
        with FileLock(models / "registry.json.lock", preserve_lock_file=True):
            run_in(terminal, project, commands(running))
            eventually(lambda: list(models.glob("*/metadata.json")))
            started = descendants(running.process.pid)
            assert len(started) == 3  # server, worker, flow run
            running.process.send_signal(signal.SIGINT)
            eventually(lambda: GRACE in running.output())
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(60) == 0
        assert running.output().index("Stopping ...\n") < running.output().index(GRACE)
        assert running.output().endswith("Stopped.\n")
        assert states_of_runs(project) == [("Cancelled", "`make up` ended before the run")]
        for process in started:
            with pytest.raises(ProcessLookupError):
                os.kill(process, 0)
        assert sorted(path.name for path in models.iterdir() if path.is_file()) == [
            "registry.json.lock"
        ]
    finally:
        running.kill()


@pytest.mark.parametrize("killed", KILLED)
def test_after_a_kill_no_process_is_left_and_no_run_is_active(
    project, env, terminal, homes, killed
):
    homes.create(project / ".prefect")
    port = free_port()
    running = up(project, env, port)
    models = project / "artifacts/models"
    models.mkdir()
    try:
        with FileLock(models / "registry.json.lock", preserve_lock_file=True):
            run_in(terminal, project, commands(running))
            # After its last log line: without a worker that reads them, the next one ends the run.
            eventually(lambda: "'register model_v1' - Runs" in running.output())
            server, worker, flow_run = by_kind(descendants(running.process.pid))
            for process in {
                "worker": [worker],
                "server": [server],
                "worker and flow run": [worker, flow_run],
                "all": [running.process.pid, server, worker, flow_run],
            }[killed]:
                with suppress(ProcessLookupError):  # it ended with one that was killed before it
                    os.kill(process, signal.SIGKILL)
            code = running.process.wait(120)
        assert (code == 1) is (killed != "all")
        for process in (server, worker, flow_run):
            eventually(lambda process=process: not is_running(process))
        if killed.startswith("worker"):
            assert states_of_runs(project) == [("Cancelled", "`make up` ended before the run")]
        else:
            assert states_of_runs(project) == [("Running", None)]
            running = up(project, env, port)
            assert ("Crashed", "its worker was gone") in states_of_runs(project, every=True)
            eventually(lambda: states_of_runs(project) == [("Completed", None)])  # tried again
    finally:
        running.kill()


def test_all_users_of_the_server_need_the_password_and_the_owner_does_not_type_it(
    project, env, terminal
):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    train = ".venv/bin/llm-train run configs/training/llama_lora.yaml"
    running = up(project, env, port)
    try:
        made = password(running)
        with httpx.Client(base_url=f"{url}/api/", auth=made, timeout=60) as api:
            assert api.post("deployments/filter", json={}, auth=None).status_code == 401
            for origin, allowed in ((url, url), ("http://evil.example", None)):
                response = api.get("version", headers={"Origin": origin})
                assert response.headers.get("Access-Control-Allow-Origin") == allowed
            output = run_in(terminal, project, f"{train} --model-version used_up")
            assert f"{url}/runs/flow-run/" in output
            assert "Starting a temporary Prefect server" not in output
            assert api.post("flow_runs/filter", json={}).json()[0]["name"] == "train used_up"
            elsewhere = f"cd /; {project}/.venv/bin/llm-train run {project}/configs/training/"
            output = run_in(
                terminal, project, f"{elsewhere}llama_lora.yaml --artifacts-dir {project}/artifacts"
            )
            assert f"{url}/runs/flow-run/" in output
            # A busy server does not answer in time, which is a fault.
            doctor = (
                f"cd /; {project}/.venv/bin/llm-train doctor --artifacts-dir {project}/artifacts"
            )
            answers = f"OK       server          {url}/api (of the profile up): answers.\n"
            eventually(lambda: answers in run_in(terminal, project, f"{doctor} || true"))
            template = {"base_job_template": ProcessWorker.get_default_base_job_template()}
            changes = template | {"is_paused": True}  # of a former release; by the user
            api.patch("work_pools/training", json=changes).raise_for_status()
        home = project / ".prefect"
        assert [path for path in (home, *home.rglob("*")) if path.stat().st_mode & 0o77] == []
        for process in descendants(running.process.pid):
            assert made[1] not in Path(f"/proc/{process}/cmdline").read_text()
    finally:
        running.kill()
    # The address is that of a process that was killed: another process may listen there.
    output = run_in(terminal, project, f"{train} --model-version after_kill")
    assert "Starting a temporary Prefect server." in output

    running = up(project, env, port)
    try:
        assert password(running) == made
        with httpx.Client(base_url=f"{url}/api/", auth=made, timeout=60) as api:
            pool = api.get("work_pools/training").json()
            assert pool["base_job_template"]["job_configuration"] == {"stream_output": True}
            assert pool["is_paused"]
        assert (
            f"The work pool is paused, so no run starts. Resume it at {url}/work-pools/work-pool/"
            "training\n"
        ) in running.output()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
    finally:
        running.kill()
    assert "PREFECT_API_URL" not in (project / ".prefect/profiles.toml").read_text()
    git = ["git", "status", "--short", "--untracked-files=all"]
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    assert ".prefect/" not in subprocess.run(git, cwd=project, capture_output=True).stdout.decode()


def test_a_used_port_is_an_error(project, env):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = up(project, env, port, wait=False)
        assert process.process.wait(30) == 1
    assert process.output() == (
        f"error: 127.0.0.1:{port}: cannot be used ([Errno 98] Address already in use). "
        "Choose another port: make up PORT=4201\n"
    )
