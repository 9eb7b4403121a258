"""Tests of ops.server with real processes."""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from prefect.client import orchestration
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)

from ops import server as server_module
from ops.profile import ensure_auth_string, set_api_url
from ops.server import (
    ServerError,
    ServerProcess,
    ensure_server,
    listen,
    make_database_private,
    make_private,
    stop_group,
)
from src.artifacts import Artifacts, read_statement
from tests.examples import CONFIG
from tests.network import STARTUP_SECONDS

ROOT = Path(__file__).parents[2]
EVALUATION = "artifacts/evaluations/model_v1/evaluation.json"
# Use a temporary server, and print how it was used.
TEMPORARY_SERVER = """
import json
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

from ops.server import ensure_server

with ensure_server() as server:
    secret = PREFECT_API_AUTH_STRING.value()
    user, _, password = secret.partition(":")
    url = f"{server.api_url}/flow_runs/count"
    with get_client(sync_client=True) as client:
        sent = client._client.headers["Authorization"]
        accepted = client.request("POST", "/flow_runs/count", json={}).status_code
    users = httpx.post(url, json={}, auth=("user", "of another server")).status_code
    cmdline = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    found = {
        "without a password": httpx.post(url, json={}).status_code,
        "with the user's password": users,
        "with its password": accepted,
        "API key": PREFECT_API_KEY.value(),
        "password in arguments": password in cmdline,
        "sends the user's password": sent != httpx.BasicAuth(user, password)._auth_header,
        "length": len(password),
    }
    print(json.dumps(found))
"""


@pytest.fixture
def home(project) -> Path:
    """A Prefect home folder that does not exist yet."""
    return project / "prefect"


@pytest.fixture
def llm_train(home):
    """Start `llm-train` in a new process group, with no server configured."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT), "TMPDIR": str(home.parent)}
    env["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = str(STARTUP_SECONDS)

    def llm_train(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from cli.main import main; main()", *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            umask=0o022,
            # `nohup` has the tests ignore it.
            preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
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


def unprivate(folder: Path) -> list[str]:
    """Return the files of a folder, and the folder, that other users can access."""
    return [str(path) for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]


def test_no_other_process_can_listen_at_the_address_of_a_server_that_starts(home):
    listener = listen()
    port = listener.getsockname()[1]
    with open("server.log", "w+b") as log:
        server = ServerProcess(listener, env=os.environ | {"PREFECT_HOME": str(home)}, log=log)
        try:
            for address in ("127.0.0.1", "0.0.0.0"):
                with socket.socket() as other, pytest.raises(OSError, match="already in use"):
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    other.bind((address, port))
                    other.listen()
        finally:
            server.stop()
    assert (server.api_url, listener.fileno()) == (f"http://127.0.0.1:{port}/api", -1)
    with listen(port) as released:
        assert released.getsockname() == ("127.0.0.1", port)


def test_a_temporary_server_refuses_all_but_this_process_and_gets_no_password_of_the_user(
    home, homes
):
    home.mkdir(mode=0o755)
    homes.create(home)
    (home / "prefect.db").chmod(0o644)  # as a former release left it
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {
        "PREFECT_HOME": str(home),
        "PREFECT_API_AUTH_STRING": "user:of another server",
        "PREFECT_API_KEY": "pnu_1234",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_SECONDS),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", TEMPORARY_SERVER],
        env=env,
        capture_output=True,
        text=True,
        umask=0o022,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "without a password": 401,
        "with the user's password": 401,
        "with its password": 200,
        "API key": None,
        "password in arguments": False,
        "sends the user's password": False,
        "length": 32,
    }
    assert [path for path in home.glob("prefect.db*") if path.stat().st_mode & 0o077] == []


def test_a_database_and_the_files_beside_it_become_private(tmp_path):
    folder = tmp_path / "new"
    url = f"sqlite+aiosqlite:///{folder}/runs.db?timeout=9"
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: url}):
        make_database_private()
        assert (unprivate(folder), (folder / "runs.db").read_bytes()) == ([], b"")
        for name in ("runs.db", "runs.db-wal", "runs.db-shm"):
            (folder / name).write_text("kept")
            (folder / name).chmod(0o664)
        make_database_private()
    assert unprivate(folder) == []
    assert {path.read_text() for path in folder.iterdir()} == {"kept"}


@pytest.mark.parametrize(
    "url", ["sqlite+aiosqlite:///:memory:", "postgresql+asyncpg://prefect@127.0.0.1:5432/prefect"]
)
def test_a_database_that_is_no_file_needs_none(project, url):
    before = sorted(project.rglob("*"))
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: url}):
        make_database_private()
    assert sorted(project.rglob("*")) == before


def test_the_file_of_another_user_is_left_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "shared"
    path.touch()
    path.chmod(0o664)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    make_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


def test_a_configured_server_is_checked_and_used(monkeypatch):
    url, checked = "http://127.0.0.1:1/api", []
    monkeypatch.setattr(server_module, "_check_api", checked.append)
    with temporary_settings({PREFECT_API_URL: url}), ensure_server() as server:
        assert (server, PREFECT_API_URL.value(), checked) == (None, url, [url])


def test_a_temporary_server_records_the_complete_run_and_ends_with_the_command(
    llm_train, home, homes
):
    homes.create(home)
    Path("config.yaml").write_text(CONFIG)
    Path("uvicorn.py").write_text("raise SystemExit('imported from the working directory')")
    run = llm_train("run", "config.yaml", "--model-version", "model_v1")
    printed, messages = run.communicate()
    assert (run.returncode, processes_of(home)) == (0, []), messages
    assert json.loads(printed) == json.loads(Path(EVALUATION).read_text())
    statement = read_statement(Artifacts.open().models / "model_v1")
    assert statement.url is None  # the page ended with the server
    assert messages.startswith("Loading Prefect ...\nStarting a temporary Prefect server.")
    assert "http://" not in messages
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        states = database.execute("select state_type, count(*) from task_run group by 1").fetchall()
        [ends] = database.execute("select count(*) from log where message like 'Finished %'")
    assert (states, ends) == ([("COMPLETED", 5)], (6,))


@pytest.mark.parametrize(
    ("count", "requests"),
    [(5, 3), (None, 4), (7, 6)],
)
def test_the_wait_for_task_runs_ends_with_their_number_or_if_it_does_not_change(
    home, monkeypatch, count, requests
):
    numbers = [0, 3, 5, 5, 5, 5, 5]
    now = [0]
    posted = []

    class Client:
        def request(self, method, path, json):
            posted.append((method, path, json["flow_runs"]))
            return SimpleNamespace(json=lambda: numbers[len(posted) - 1])

    monkeypatch.setattr(orchestration, "get_client", lambda **_: nullcontext(Client()))
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 2)
    monkeypatch.setattr(server_module, "RECORD_SECONDS", 4)
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: now.append(now.pop() + 1))
    monkeypatch.setattr(server_module, "time", clock)
    server = ServerProcess.__new__(ServerProcess)
    server.wait_until_recorded("a flow run", count)
    assert posted == [("POST", "/task_runs/count", {"id": {"any_": ["a flow run"]}})] * requests


def test_a_server_that_fails_ends_the_wait_for_task_runs_without_an_error(home):
    server = ServerProcess.__new__(ServerProcess)
    settings = {PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(settings):
        server.wait_until_recorded("8b1b1a8e-5b0f-4a57-9a0f-0d8d4a2a3f6e", 5)


def test_the_address_of_a_killed_make_up_is_an_error_if_no_other_server_can_start(home):
    ensure_auth_string(home)
    set_api_url(home, "http://127.0.0.1:4200/api")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", TEMPORARY_SERVER], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "ops.server.ServerError: http://127.0.0.1:4200/api: no server: the `make up` that started "
        "it was killed. Run `make up` again, or set PREFECT_API_URL.\n"
    )


def test_a_failed_run_waits_until_its_steps_are_recorded(llm_train, home, homes):
    homes.create(home)
    Path("config.yaml").write_text(CONFIG.replace("dataset_v1", "dataset_v2"))
    run = llm_train("run", "config.yaml")
    _, messages = run.communicate()
    assert run.returncode == 2, messages
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        states = database.execute("select name, state_type from task_run order by 1").fetchall()
    assert states == [
        ("load_config config.yaml", "COMPLETED"),
        ("resolve_dataset dataset_v2", "FAILED"),
    ]


def test_commands_that_create_the_database_together_all_complete(llm_train, home):
    Path("config.yaml").write_text(CONFIG)
    runs = [llm_train("run", "config.yaml", "--model-version", f"model_{n}") for n in range(2)]
    messages = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 2, "".join(messages)
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        states = database.execute("select state_type, count(*) from flow_run group by 1").fetchall()
    assert states == [("COMPLETED", 2)]
    assert unprivate(home) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_command_leaves_no_server(llm_train, home, signum):
    Path("config.yaml").write_text(CONFIG)
    run = llm_train("run", "config.yaml")
    while len(processes_of(home)) < 2:
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signum)
    output, messages = run.communicate(timeout=600)
    assert (run.returncode != 0, output, "Traceback" in messages) == (True, "", False)
    deadline = time.monotonic() + 600
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_a_file_that_is_no_database_is_an_error_that_names_it_and_the_log(llm_train, home):
    Path("config.yaml").write_text(CONFIG)
    home.mkdir()
    (home / "prefect.db").write_text("This text is not a database. " * 99)
    run = llm_train("run", "config.yaml")
    output, messages = run.communicate()
    assert (run.returncode, output, processes_of(home)) == (1, "", [])
    [log] = home.parent.glob("prefect-server-*.log")
    assert messages.splitlines()[2:] == [
        f"error: Prefect server: {home}/prefect.db: file is not a database. Delete the file, or "
        "move it away: the server creates a new one. It has the history of runs, and no models.",
        f"  Full log: {log}",
    ]
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database or disk is full",
            "/home/user/runs.db: database or disk is full. Free space on its disk.",
        ),
        (
            "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) attempt to write a "
            "readonly database",
            "/home/user/runs.db: attempt to write a readonly database. Make the file and its "
            "folder writable, or set PREFECT_HOME to another folder.",
        ),
        (
            "ValueError: database or disk is full",
            "exited with code 3: ValueError: database or disk is full\nEnd of its log:\n"
            "ValueError: database or disk is full\nexit",
        ),
        ("started", "exited with code 3.\nEnd of its log:\nstarted\nexit"),
    ],
)
def test_a_fault_that_sqlite_reports_is_one_sentence(tmp_path, line, message):
    server = ServerProcess.__new__(ServerProcess)
    server._home = str(tmp_path)
    url = "sqlite+aiosqlite:////home/user/runs.db"
    with (tmp_path / "server.log").open("w+b") as server._log:
        server._log.write(f"{line}\nexit\n".encode())
        server._log.flush()
        with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: url}):
            assert str(server._error("exited with code 3")) == f"Prefect server: {message}"


def test_a_server_on_a_full_disk_is_an_error_that_says_so(tmp_path, monkeypatch):
    server = ServerProcess.__new__(ServerProcess)
    server._home = str(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
    with (tmp_path / "server.log").open("w+b") as server._log:
        assert str(server._error("exited with code 3")) == (
            f"Prefect server: {tmp_path}: the disk is full. Free space on its disk."
        )


def test_the_log_of_a_server_that_cannot_be_kept_is_no_other_error(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with (tmp_path / "server.log").open("w+b") as log:
        assert server_module._keep(log) == "Full log: not kept: No such file or directory."


def test_no_request_is_refused_while_others_write(project, home, homes):
    homes.create(home)
    with open("server.log", "w+b") as log:
        server = ServerProcess(listen(), env=os.environ | {"PREFECT_HOME": str(home)}, log=log)
        try:
            server.wait_until_ready(120)
            with httpx.Client(base_url=f"{server.api_url}/", timeout=120) as api:
                flow = api.post("flows/", json={"name": "a flow"}).json()["id"]

                def run(_: int) -> list[int]:
                    created = api.post("flow_runs/", json={"flow_id": flow})
                    codes = [created.status_code]
                    for state in ("PENDING", "RUNNING", "COMPLETED"):
                        path, body = f"{created.json()['id']}/set_state", {"state": {"type": state}}
                        codes.append(api.post(f"flow_runs/{path}", json=body).status_code)
                    return codes

                with ThreadPoolExecutor(16) as threads:
                    codes = list(threads.map(run, range(40)))
        finally:
            server.stop()
    assert {code for run in codes for code in run} == {200, 201}
    assert "database is locked" not in Path("server.log").read_text()


def test_a_server_that_does_not_answer_in_time_is_an_error(project, home):
    with open("server.log", "w+b") as log:
        env = os.environ | {"PREFECT_HOME": str(home)}
        server = ServerProcess(listen(), env=env, log=log)
        try:
            with pytest.raises(ServerError) as caught:
                server.wait_until_ready(0)
        finally:
            server.stop()
    assert str(caught.value) == "Prefect server: not ready after 0 s. Its log is empty."
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
