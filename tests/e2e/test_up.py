"""Tests of ops.up with real processes: one command starts everything, Ctrl-C stops everything."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from filelock import FileLock

from tests.e2e.conftest import Process, copy_project, descendants, eventually
from tests.network import free_port


@pytest.fixture
def project(tmp_path):
    """A copy of the project."""
    return copy_project(tmp_path / "project")


@pytest.fixture
def env(project):
    """An environment with a Prefect home folder in the project."""
    return os.environ | {"PREFECT_HOME": str(project / ".prefect")}


def up(project, env, port, wait=True):
    """Start ops.up, and wait until its worker has started."""
    process = Process(
        [sys.executable, "-m", "ops.up", "--port", str(port)],
        project.parent / f"up-{port}.log",
        cwd=project,
        env=env,
    )
    if wait:
        eventually(lambda: "Worker 'up' started!" in process.output())
    return process


def test_ctrl_c_during_a_run_leaves_no_process_and_no_partial_file(project, env):
    port = free_port()
    running = up(project, env, port)
    try:
        assert f"Run a training    http://127.0.0.1:{port}/deployments\n" in running.output()

        second = up(project, env, free_port(), wait=False)
        assert second.process.wait(30) == 1
        assert second.output() == (
            f"error: {project}/.prefect/up.lock: locked by another process. Only one `make up` can "
            "run per PREFECT_HOME. Stop the other one with Ctrl-C.\n"
        )

        models = project / "artifacts/models"
        models.mkdir()
        with FileLock(models / "registry.json.lock", preserve_lock_file=True):
            subprocess.run(
                [sys.executable, "-m", "prefect", "deployment", "run", "training-pipeline/train"],
                env=env | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"},
                check=True,
                capture_output=True,
            )
            eventually(lambda: list(models.glob("*/metadata.json")))
            started = descendants(running.process.pid)
            assert len(started) == 3  # server, worker, flow run
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(60) == 0
        assert running.output().endswith("Stopped.\n")
        for process in started:
            with pytest.raises(ProcessLookupError):
                os.kill(process, 0)
        assert sorted(path.name for path in models.iterdir() if path.is_file()) == [
            "registry.json.lock"
        ]
    finally:
        running.kill()


def test_a_used_port_is_an_error(project, env):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = up(project, env, port, wait=False)
        assert process.process.wait(30) == 1
    assert process.output() == (
        f"error: 127.0.0.1:{port}: cannot be used ([Errno 98] Address already in use). "
        "Choose another port: make up PORT=4201\n"
    )
