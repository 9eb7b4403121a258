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
LOADING = "Loading Prefect ..."
WITHOUT_PREFECT = f"""
import sys

class Finder:
    def find_spec(name, *_):
        if name == "prefect":
            sys.exit(3)

sys.meta_path.insert(0, Finder)
{MAIN}
"""
HINT = "The log of the flow run, if one was started, has the traceback."


@pytest.fixture(scope="module")
def env(tmp_path_factory, homes) -> dict[str, str]:
    """The environment of a process with a Prefect home folder and no other Prefect settings."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    home = str(homes.create(tmp_path_factory.mktemp("prefect")))
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
    assert errors(done) == [LOADING, f"error: RuntimeError: {error}", HINT]
    with closing(sqlite3.connect(f"{server['PREFECT_HOME']}/prefect.db")) as database:
        logged = database.execute("select message from log where level >= 40").fetchall()
    [text] = [text for (text,) in logged if error in text and "Traceback" in text]
    assert "in fail\n" in text


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (["run"], ("16", "'\\e[2K'")),
        (["run"], ("dataset_v1", "no_such_dataset")),
        (["sweep", "none.yaml"], ("16", "'\\e[2K'")),
    ],
)
def test_no_line_of_a_run_has_a_control_character_or_is_forged(project, server, command, fault):
    name = "a\x1b[2K\x9b\u202e\n2 models: 2 MATCH.yaml"
    Path(name).write_text(CONFIG.replace(*fault))
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
    assert errors(done) == [LOADING, "error: [Errno 28] No space left on device: 'registry.json'"]


def test_a_run_with_closed_stdin_stdout_and_stderr_completes(config, env):
    closed = 'exec "$@" 0<&- 1>&- 2>&-'
    entry = "from cli.entry import main; main()"
    command = ["sh", "-c", closed, "sh", sys.executable, "-c", entry]
    version = ["--model-version", "model_v1"]
    assert subprocess.run([*command, "run", config, *version], env=env).returncode == 0
    assert Path("artifacts/evaluations/model_v1/evaluation.json").is_file()
    assert subprocess.run([*command, "models"], env=env).returncode == 0


START = "Start the server, or set PREFECT_API_URL to another one; the URL ends with /api."
ACTIONS = {
    "no Prefect server answers: [Errno 111] Connection refused": START,
    "not the API of a Prefect server": START,
    "404 Not Found": START,
    "401 Unauthorized": "Set PREFECT_API_AUTH_STRING to `USER:PASSWORD` of this server.",
}


@pytest.mark.parametrize(
    ("command", "fault"), list(zip(["run", "sweep"] * 2, ACTIONS, strict=True))
)
def test_a_server_that_cannot_be_used_is_one_error_that_says_what_to_set(
    config, env, command, fault
):
    status = int(fault[:3]) if fault[:3].isdecimal() else 200
    with nullcontext("http://127.0.0.1:1") if "refused" in fault else page(status) as url:
        place = f"{url}/api"
        with_password = place.replace("//", "//user:sec@ret@")
        done = run(env | {"PREFECT_API_URL": with_password}, MAIN, command, config)
    assert (done.returncode, done.stdout) == (1, "")
    assert errors(done) == [LOADING, f"error: {place}: {fault}. {ACTIONS[fault]}"]


def test_without_an_api_and_a_temporary_server_the_command_says_what_to_set(config, env):
    done = run(env | {"PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}, MAIN, "run", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{LOADING}\n"
        "error: no server: PREFECT_API_URL is not set, and PREFECT_SERVER_EPHEMERAL_ENABLED is "
        "false. Set one of them, run `make up`, or use `llm-train run --local`.\n"
    )


def test_a_temporary_server_that_does_not_start_is_an_error_without_a_flow_run(
    config, env, tmp_path
):
    timeout = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "0"}
    done = run(env | timeout | {"TMPDIR": str(tmp_path)}, MAIN, "run", config)
    [log] = tmp_path.glob("prefect-server-*.log")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{LOADING}\n"
        "Starting a temporary Prefect server. (`make up` starts one for many runs.)\n"
        "error: Prefect server: not ready after 0 s. Its log is empty.\n"
        f"  Full log: {log}\n"
    )


@pytest.mark.parametrize(
    ("command", "variable", "fault"),
    [
        (
            ["run", "--dry-run"],
            {"PREFECT_LOGGING_LEVEL": "LOUD"},
            "LoggingSettings.level: Input should be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or "
            "'CRITICAL', found 'LOUD'.",
        ),
        (
            ["sweep"],
            {"PREFECT_CLIENT_MAX_RETRIES": "many"},
            "ClientSettings.max_retries: Input should be a valid integer, unable to parse string "
            "as an integer, found 'many'.",
        ),
    ],
)
def test_a_setting_that_is_not_valid_is_one_line(config, env, command, variable, fault):
    done = run(env | variable, MAIN, *command, config)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{LOADING}\nerror: Prefect's settings: {fault} Correct the environment variable or the "
        "profile that sets it.\n"
    )


@pytest.mark.parametrize("command", [["run"], ["run", "--dry-run"], ["sweep"]])
def test_the_first_line_is_printed_before_prefect_is_imported(config, env, command):
    done = run(env, WITHOUT_PREFECT, *command, config)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"{LOADING}\n")


@pytest.mark.parametrize(
    ("command", "content", "reason"),
    [
        ("run", b"active = [", "not valid TOML: Invalid value (at end of document)."),
        (
            "sweep",
            b"\xff",
            "not valid TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start "
            "byte.",
        ),
        ("run --dry-run", b"profiles = 3", "profiles: expected tables [profiles.NAME]."),
        ("run", b"active = 3", "active: expected the name of a profile."),
        (
            "run",
            b"[profiles.up]\nPREFECT_API_URL = []",
            "profiles.up.PREFECT_API_URL: expected a text or a number.",
        ),
    ],
)
@pytest.mark.parametrize("folder", ["PREFECT_HOME", "HOME"])
def test_damaged_profiles_are_one_line(config, tmp_path, folder, content, reason, command):
    home = tmp_path / "user" / (".prefect" if folder == "HOME" else "")
    home.mkdir(parents=True)
    (home / "profiles.toml").write_bytes(content)
    env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    env |= {folder: str(tmp_path / "user"), "PYTHONPATH": str(REPOSITORY)}
    done = run(env, MAIN, *command.split(), config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {home}/profiles.toml: {reason} Correct the file, or delete it.\n"
    )


def test_profiles_that_cannot_be_read_are_one_line(config, env, tmp_path):
    (tmp_path / "profiles.toml").mkdir()
    done = run(env | {"PREFECT_HOME": str(tmp_path)}, MAIN, "run", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {tmp_path}/profiles.toml: expected a regular file, found a folder. Make it a file "
        "that can be read.\n"
    )


DROPPED = f"from tests.privileges import drop_privileges; drop_privileges(); {MAIN}"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("run", "a file"),
        ("sweep", "in a file"),
        ("run", "read-only"),
        ("sweep", "in a read-only folder"),
    ],
)
def test_a_home_folder_that_cannot_be_written_to_is_one_line(config, env, tmp_path, command, kind):
    base = tmp_path / "base"
    base.write_text("") if "file" in kind else base.mkdir(mode=0o555)
    home, reason = {
        "a file": (base, "File exists"),
        "in a file": (base / "home", "Not a directory"),
        "read-only": (base, "Permission denied"),
        "in a read-only folder": (base / "home", "Permission denied"),
    }[kind]
    done = run(env | {"PREFECT_HOME": str(home)}, DROPPED, command, config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        LOADING,
        "Starting a temporary Prefect server. (`make up` starts one for many runs.)",
        f"error: PREFECT_HOME {home}: cannot be written to: {reason}. Set PREFECT_HOME to a "
        "writable folder.",
    ]


@pytest.mark.parametrize(
    "command",
    [
        ["run", "../config.yaml"],
        ["run", "../config.yaml", "--set", "epochs=4"],
        ["run", "../config.yaml", "--local"],
        ["sweep", "../config.yaml"],
    ],
)
def test_a_run_within_the_artifacts_root_is_refused(config, llm_train, monkeypatch, command):
    monkeypatch.chdir("artifacts")
    done = llm_train(*command, "--artifacts-dir", ".")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {Path.cwd()}: the working directory is inside the artifacts root, whose files are "
        "not trusted. Run the command in the project's folder.\n"
    )


@pytest.mark.parametrize("root", ["configs", "configs/root", "linked"])
def test_an_artifacts_root_that_has_the_configs_or_lies_among_them_is_refused(
    config, llm_train, root
):
    Path(root).mkdir(exist_ok=True)
    if root == "linked":
        Path("configs").rename("linked/configs")
        Path("configs").symlink_to("linked/configs")
    done = llm_train("run", "config.yaml", "--local", "--artifacts-dir", root)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {root}: expected an artifacts root apart from {Path('configs').resolve()}, "
        "because configs there name code to run. Use another folder.\n"
    )
