"""The server of a command, with real processes."""

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

from cli.server import a_server
from tests.examples import CONFIG

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(project) -> Path:
    """Give a Prefect home, that there is not yet."""
    return project / "prefect"


@pytest.fixture
def llm_train(home):
    """Start `llm-train` in a group of its own, with no server set up."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}

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
    """Give the commands of all processes whose Prefect home this is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"PREFECT_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended, or is another user's
    return found


def test_a_server_that_is_set_up_is_used():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), a_server() as server:
        assert (server, PREFECT_API_URL.value()) == (None, "http://127.0.0.1:1/api")


def test_a_server_of_its_own_has_all_of_the_run_and_is_gone_with_it(llm_train, home):
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
def test_a_command_that_is_stopped_leaves_no_server(llm_train, home, signum):
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


def test_a_server_that_cannot_start_is_an_error_with_its_own_words(llm_train, home):
    home.mkdir()
    (home / "prefect.db").write_text("This is not a database, but as long as one." * 99)
    run = llm_train("run", "config.yaml")
    output, messages = run.communicate()
    assert (run.returncode, output, processes_of(home)) == (1, "", [])
    assert "error: ServerError: Prefect's server did not start: it ended with " in messages
    assert "file is not a database" in messages
