"""Tests of runs in a terminal that fail unexpectedly."""

import os
import sqlite3
import subprocess
import sys
import unicodedata
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from ops.server import ServerProcess, listen
from tests.conftest import REPOSITORY
from tests.examples import CONFIG
from tests.network import page

MAIN = "from cli.main import main; main()"
BUG = """
import flows.{flow} as module

def fail(*_):
    raise {error}

module.{function} = fail
from cli.main import main
main()
"""
HINT = "The log of the flow run, if one was started, has the traceback."


@pytest.fixture(scope="module")
def env(tmp_path_factory) -> dict[str, str]:
    """The environment of a process with a Prefect home folder and no other Prefect settings."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    home = str(tmp_path_factory.mktemp("prefect"))
    return inherited | {"PREFECT_HOME": home, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="module")
def server(env):
    """The environment of a process that uses a running server; its database is in its home."""
    with (Path(env["PREFECT_HOME"]) / "server.log").open("w+b") as log:
        no_ui = {"PREFECT_SERVER_UI_ENABLED": "false"}
        server = ServerProcess(listen(), env=env | no_ui, log=log)
        try:
            server.wait_until_ready(180)
            yield env | {"PREFECT_API_URL": server.api_url}
        finally:
            server.stop()


@pytest.fixture
def config(project) -> str:
    """The path of a valid training config."""
    Path("config.yaml").write_text(CONFIG)
    return "config.yaml"


def run(env: dict[str, str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True
    )


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines on stderr without the engine's log of level INFO."""
    return [line for line in done.stderr.splitlines() if " | INFO    | " not in line]


@pytest.mark.parametrize(
    ("command", "flow", "function"),
    [("run", "training_pipeline", "_train"), ("sweep", "training_sweep", "_sweep")],
)
def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log_of_the_run(
    config, server, command, flow, function
):
    error = f"a bug of {command}"
    code = BUG.format(flow=flow, function=function, error=f"RuntimeError({error!r})")
    done = run(server, code, command, config)
    assert (done.returncode, done.stdout) == (1, "")
    assert errors(done) == [f"error: RuntimeError: {error}", HINT]
    with closing(sqlite3.connect(f"{server['PREFECT_HOME']}/prefect.db")) as database:
        logged = database.execute("select message from log where level >= 40").fetchall()
    [text] = [text for (text,) in logged if error in text and "Traceback" in text]
    assert "in fail\n" in text


@pytest.mark.parametrize("command", [["run"], ["sweep", "none.yaml"]])
def test_no_line_of_a_run_has_a_control_character_or_is_forged(project, server, command):
    name = "a\x1b[2K\x9b\u202e\n2 models: 2 MATCH.yaml"
    Path(name).write_text(CONFIG.replace("16", "'\\e[2K'"))
    done = run(server, MAIN, *command, name)
    assert done.returncode in (1, 2)
    printed = done.stdout + done.stderr
    assert "a\\x1b[2K\\x9b\\u202e" in printed
    kinds = {unicodedata.category(each) for each in printed.replace("\n", "")}
    assert kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()
    assert [line for line in printed.splitlines() if line.startswith("2 models")] == []


def test_a_disk_error_prints_one_line(config, server):
    error = 'OSError(28, "No space left on device", "registry.json")'
    code = BUG.format(flow="training_pipeline", function="_train", error=error)
    done = run(server, code, "run", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert errors(done) == ["error: [Errno 28] No space left on device: 'registry.json'"]


START = "Start the server, or set PREFECT_API_URL to another one; the URL ends with /api."
ACTIONS = {
    "no Prefect server answers: [Errno 111] Connection refused": START,
    "not the API of a Prefect server": START,
    "404 Not Found": START,
    "401 Unauthorized": "Set PREFECT_API_AUTH_STRING to the password of this Prefect server.",
}


@pytest.mark.parametrize("command", ["run", "sweep"])
@pytest.mark.parametrize("fault", ACTIONS)
def test_a_server_that_cannot_be_used_is_one_error_that_says_what_to_set(
    config, env, command, fault
):
    status = int(fault[:3]) if fault[:3].isdecimal() else 200
    with nullcontext("http://127.0.0.1:1") if "refused" in fault else page(status) as url:
        place = f"{url}/api"
        with_password = place.replace("//", "//user:secret@")
        done = run(env | {"PREFECT_API_URL": with_password}, MAIN, command, config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {place}: {fault}. {ACTIONS[fault]}\n"


def test_a_temporary_server_that_does_not_start_is_an_error_without_a_flow_run(config, env):
    timeout = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "0"}
    done = run(env | timeout, MAIN, "run", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Starting a Prefect server for this run. (`make up` starts a permanent one.)\n"
        "error: Prefect server: not ready after 0 s. End of its log:\n\n"
    )


@pytest.mark.parametrize("command", [["run", "../config.yaml"], ["sweep", "../config.yaml"]])
def test_a_run_within_the_artifacts_root_is_refused(config, llm_train, monkeypatch, command):
    monkeypatch.chdir("artifacts")
    done = llm_train(*command, "--artifacts-dir", ".")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {Path.cwd()}: the working directory is inside of the artifacts root. Run the "
        "command in the folder of the project: files of the root are not trusted.\n"
    )
