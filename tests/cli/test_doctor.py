"""Tests of the command `doctor`: one line for each check, also about hostile set-ups."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.hostile import put
from tests.network import answering, json_answer

SECRET = "hunter2"
WITHOUT_PREFECT = """
import sys

class Finder:
    def find_spec(name, *_):
        if name in ("prefect", "pydantic", "rich", "httpx"):
            sys.exit(3)

sys.meta_path.insert(0, Finder)
from cli.main import main
main()
"""
MAIN = "from cli.main import main; main()"
CHECKS = [
    *("python", "packages", "extras", "artifacts root", "file system", "disk", "registry"),
    *("leftovers", "datasets", "configs", "prefect", "server", "clock"),
]


@pytest.fixture
def doctor(project, tmp_path):
    """Run `llm-train doctor` in the project; return the process."""

    def doctor(*arguments, code=WITHOUT_PREFECT, **env):
        inherited = {
            name: each for name, each in os.environ.items() if not name.startswith("PREFECT_")
        }
        home = {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-c", code, "doctor", *arguments],
            env=inherited | home | env,
            capture_output=True,
            text=True,
            timeout=600,  # against a hang
        )
        assert "Traceback" not in done.stderr
        assert SECRET not in done.stdout + done.stderr
        return done

    return doctor


def levels(done):
    """Return the levels by check, as printed."""
    found = {}
    for line in done.stdout.splitlines():
        level, check = line[:9].strip(), line[9:25].strip()
        assert level in ("OK", "WARNING", "FAULT"), line
        found.setdefault(check, []).append(level)
    return found


def test_without_a_server_every_check_is_a_line_and_prefect_is_not_imported(doctor, tmp_path):
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert [*levels(done)] == CHECKS
    for name in ("python", "packages", "artifacts root", "registry", "configs", "server"):
        assert levels(done)[name] == ["OK"], done.stdout
    assert (
        "OK       server          none configured: each command starts a temporary one. `make up` "
        "starts one for many.\n"
    ) in done.stdout
    assert not (tmp_path / ".prefect").exists()


def test_a_fault_exits_with_1_and_the_other_checks_are_done(doctor):
    Path("artifacts/models").mkdir()
    Path("artifacts/models/registry.json").write_text("{")
    done = doctor()
    assert done.returncode == 1
    assert levels(done)["registry"] == ["FAULT"]
    assert [*levels(done)] == CHECKS


def test_with_json_each_finding_is_an_object(doctor):
    done = doctor("--json")
    found = json.loads(done.stdout)
    assert [each["check"] for each in found] == CHECKS
    assert {tuple(sorted(each)) for each in found} == {("action", "check", "found", "level")}


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a number", "a socket", "a circle"])
def test_a_root_that_is_no_folder_is_a_line(doctor, kind):
    put(kind, Path("root"))
    done = doctor("--artifacts-dir", "root")
    assert done.returncode == 1
    assert levels(done)["artifacts root"] == ["FAULT"]
    assert "registry" not in levels(done)


def test_a_root_that_does_not_exist_is_a_line_and_is_not_created(doctor):
    assert doctor("--artifacts-dir", "none").returncode == 1
    assert not Path("none").exists()


def test_in_the_artifacts_root_prefect_is_not_asked(doctor, monkeypatch):
    monkeypatch.chdir("artifacts")
    done = doctor("--artifacts-dir", ".")
    assert done.returncode == 1
    assert levels(done)["prefect"] == ["FAULT"]
    assert "the working directory is inside the artifacts root" in done.stdout
    assert "server" not in levels(done)


@pytest.mark.parametrize("content", [b"profiles = 3", b"\xff", b'[profiles.up]\nA = ["hunter2"]'])
def test_profiles_with_nonsense_are_a_line(doctor, tmp_path, content):
    (tmp_path / "profiles.toml").write_bytes(content)
    done = doctor(PREFECT_HOME=str(tmp_path))
    assert done.returncode == 1
    assert levels(done)["prefect"] == ["FAULT"]
    assert f"{tmp_path}/profiles.toml: " in done.stdout


@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a huge file"])
def test_anything_in_place_of_the_profiles_is_a_line(doctor, tmp_path, monkeypatch, kind):
    put(kind, tmp_path / "profiles.toml")
    done = doctor(PREFECT_HOME=str(tmp_path))
    assert done.returncode == 1
    assert levels(done)["prefect"] == ["FAULT"]


@pytest.mark.parametrize(
    ("login", "variable", "scheme"),
    [
        ("", "PREFECT_API_AUTH_STRING", "Basic"),
        ("", "PREFECT_API_KEY", "Bearer"),
        (f"me:{SECRET}@", "PREFECT_LOGGING_LEVEL", "Basic"),
    ],
)
def test_a_server_gets_the_credentials_and_no_line_has_them(doctor, login, variable, scheme):
    with answering(lambda _: [json_answer({}, 401)]) as (url, requests):
        address = url.replace("http://", f"http://{login}") + f"/api?key={SECRET}"
        value = "INFO" if login else f"admin:{SECRET}"
        done = doctor(code=MAIN, PREFECT_API_URL=address, **{variable: value})
    assert done.returncode == 1
    assert done.stderr == "Loading Prefect ...\n"
    assert levels(done)["server"] == ["FAULT"]
    assert f"  {url}/api (of the variable PREFECT_API_URL): 401: the login is " in done.stdout
    assert [headers["Authorization"].split()[0] for _, headers in requests] == [scheme]


def test_a_setting_of_prefect_that_is_not_valid_is_a_line(doctor):
    done = doctor(code=MAIN, PREFECT_API_URL="http://x/api", PREFECT_CLIENT_MAX_RETRIES="many")
    assert done.returncode == 1
    assert levels(done)["prefect"] == ["FAULT"]


def test_temporary_servers_that_are_disabled_are_a_fault(doctor):
    done = doctor(code=MAIN, PREFECT_SERVER_EPHEMERAL_ENABLED="false")
    assert done.returncode == 1
    assert levels(done)["server"] == ["FAULT"]


def test_the_address_of_a_profile_is_found(doctor, tmp_path):
    with answering(lambda _: [json_answer("3.0.0")]) as (url, _):
        (tmp_path / "profiles.toml").write_text(
            f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{url}/api"\n'
        )
        done = doctor(code=MAIN, PREFECT_HOME=str(tmp_path))
    assert f"{url}/api (of the profile team): answers.\n" in done.stdout
    assert f"OK       prefect         home {tmp_path}, profile team.\n" in done.stdout
    assert levels(done)["versions"] == ["WARNING"]
    assert levels(done)["deployments"] == ["FAULT"]
