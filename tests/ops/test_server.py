"""Tests of ops.server with real processes."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from ops import server as server_module
from ops.server import ServerError, ServerProcess, ensure_server, stop_group
from tests.examples import CONFIG
from tests.network import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(project) -> Path:
    """A Prefect home folder that does not exist yet."""
    return project / "prefect"


@pytest.fixture
def llm_train(home):
    """Start `llm-train` in a new process group, with no server configured."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    env["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"

    def llm_train(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from cli.main import main; main()", *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return llm_train


def processes_of(home: Path) -> list[str]:
    """Return the command lines of all processes with this Prefect home."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"PREFECT_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # the process ended, or belongs to another user
    return found


def test_a_configured_server_is_used():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), ensure_server() as server:
        assert (server, PREFECT_API_URL.value()) == (None, "http://127.0.0.1:1/api")


def test_a_temporary_server_records_the_complete_run_and_ends_with_the_command(llm_train, home):
    Path("config.yaml").write_text(CONFIG)
    run = llm_train("run", "config.yaml")
    _, messages = run.communicate()
    assert (run.returncode, processes_of(home)) == (0, []), messages
    assert messages.startswith("Starting a Prefect server for this run.")
    assert "http://" not in messages
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        states = database.execute("select state_type, count(*) from task_run group by 1").fetchall()
        [ends] = database.execute("select count(*) from log where message like 'Finished %'")
    assert (states, ends) == ([("COMPLETED", 5)], (6,))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_command_leaves_no_server(llm_train, home, signum):
    run = llm_train("run", "config.yaml")
    while len(processes_of(home)) < 2:
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signum)
    output, messages = run.communicate(timeout=60)
    assert (run.returncode != 0, output, "Traceback" in messages) == (True, "", False)
    deadline = time.monotonic() + 60
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_a_server_that_cannot_start_is_an_error_with_the_end_of_its_log(llm_train, home):
    home.mkdir()
    (home / "prefect.db").write_text("This text is not a database. " * 99)
    run = llm_train("run", "config.yaml")
    output, messages = run.communicate()
    assert (run.returncode, output, processes_of(home)) == (1, "", [])
    assert "error: Prefect server: exited with code " in messages
    assert "file is not a database" in messages


def test_a_server_that_does_not_answer_in_time_is_an_error(project, home):
    with open("server.log", "w+b") as log:
        env = os.environ | {"PREFECT_HOME": str(home)}
        server = ServerProcess(free_port(), env=env, log=log)
        try:
            with pytest.raises(ServerError) as caught:
                server.wait_until_ready(0)
        finally:
            server.stop()
    assert str(caught.value) == "Prefect server: not ready after 0 s. End of its log:\n"
    assert processes_of(home) == []


def test_stop_group_kills_a_process_that_ignores_the_first_signal(monkeypatch):
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.2)
    child = "import signal; signal.signal(2, signal.SIG_IGN); print(flush=True); signal.pause()"
    process = subprocess.Popen(
        [sys.executable, "-c", child], stdout=subprocess.PIPE, start_new_session=True
    )
    with process:
        process.stdout.readline()
        stop_group(process, (signal.SIGINT, signal.SIGKILL))
    assert process.returncode == -signal.SIGKILL
