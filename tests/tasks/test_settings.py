"""Tests of the settings of Prefect that are made before it is imported."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from src.errors import CorruptFileError
from tasks.settings import (
    Profile,
    active_profile,
    choose_home,
    environment_variables,
    find_home,
    has_no_server,
)
from tests.conftest import REPOSITORY
from tests.hostile import put

USER = Path("/home/user/.prefect")
PROJECT = REPOSITORY / ".prefect"
CLOUD = b'active = "cloud"\n[profiles.cloud]\nPREFECT_API_URL = "https://cloud/api"\n'
NOT_ACTIVE = CLOUD.replace(b"active", b"other")
PRINT_SETTINGS = """
{}
from prefect.settings import get_current_settings

settings = get_current_settings()
for found in (
    settings.home, settings.profiles_path,
    settings.server.ephemeral.startup_timeout_seconds, settings.logging.extra_loggers,
    settings.api.url,
):
    print(found)
"""


@pytest.mark.parametrize(
    ("env", "profiles", "home"),
    [
        ({}, b"", PROJECT),
        ({}, NOT_ACTIVE, PROJECT),
        ({}, b'active = "local"\n[profiles.local]\nPREFECT_LOGGING_LEVEL = "DEBUG"\n', PROJECT),
        ({"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_HOME": ""}, b"", PROJECT),
        ({}, CLOUD, USER),
        ({"PREFECT_PROFILE": "cloud"}, NOT_ACTIVE, USER),
        ({"PREFECT_PROFILE": "up"}, CLOUD, PROJECT),
        ({"PREFECT_HOME": "/srv/home"}, CLOUD, Path("/srv/home")),
        ({"PREFECT_HOME": "/srv/home"}, b"damaged", Path("/srv/home")),
        ({"PREFECT_API_URL": "http://server/api"}, CLOUD, None),
        ({"PREFECT_PROFILES_PATH": "/srv/profiles.toml"}, CLOUD, None),
    ],
)
def test_the_home_folder_is_the_projects_unless_the_user_has_configured_another(
    env, profiles, home
):
    assert choose_home(env, USER, profiles) == home


UP = {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}


@pytest.mark.parametrize(
    ("content", "env", "profile"),
    [
        (None, {}, Profile("", None)),
        (b"", {}, Profile("", None)),
        (b'active = "local"\n', {}, Profile("local", None)),
        (b"", {"PREFECT_PROFILE": "up"}, Profile("up", None)),
        (CLOUD, {}, Profile("cloud", {"PREFECT_API_URL": "https://cloud/api"})),
        (NOT_ACTIVE, {"PREFECT_PROFILE": "up"}, Profile("up", None)),
    ],
)
def test_the_active_profile_is_read_without_prefect(tmp_path, content, env, profile):
    if content is not None:
        (tmp_path / "profiles.toml").write_bytes(content)
    found = active_profile(env | {"PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml")})
    assert found == profile


def test_profiles_that_are_not_valid_are_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "profiles.toml"
    path.write_bytes(b"profiles = 3")
    with pytest.raises(CorruptFileError) as caught:
        active_profile({"PREFECT_PROFILES_PATH": str(path)})
    assert str(caught.value).startswith(f"{path}: profiles: expected tables")


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a folder", "a huge file", "a socket"])
def test_anything_in_place_of_the_profiles_is_an_error_and_no_hang(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    put(kind, Path("profiles.toml"))
    path = tmp_path / "profiles.toml"
    with pytest.raises(OSError, match="Make it a file that can be read") as caught:
        active_profile({"PREFECT_PROFILES_PATH": str(path)})
    assert str(caught.value).startswith(f"{path}: ")


def test_profiles_of_the_user_that_cannot_be_read_count_as_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".prefect").mkdir()
    os.mkfifo(tmp_path / ".prefect/profiles.toml")
    assert find_home({}) == PROJECT


EPHEMERAL = {"PREFECT_SERVER_EPHEMERAL_ENABLED": "true"}


@pytest.mark.parametrize(
    ("env", "profile", "file", "expected"),
    [
        ({}, Profile("", None), None, True),
        ({}, Profile("ephemeral", None), None, True),
        ({}, Profile("up", EPHEMERAL), None, True),
        ({"PREFECT_API_URL": ""}, Profile("", None), None, True),
        ({}, Profile("", None), "config.yaml", True),
        (UP, Profile("", None), None, False),
        (EPHEMERAL, Profile("", None), None, False),
        ({}, Profile("up", UP | EPHEMERAL), None, False),
        ({}, Profile("mine", {"PREFECT_LOGGING_LEVEL": "DEBUG"}), None, False),
        ({}, Profile("local", None), None, False),
        ({}, Profile("", None), ".env", False),
        ({}, Profile("", None), "prefect.toml", False),
        ({}, Profile("", None), "pyproject.toml", False),
    ],
)
def test_without_a_place_where_a_server_can_be_configured_there_is_none(
    tmp_path, env, profile, file, expected
):
    if file:
        (tmp_path / file).touch()
    assert has_no_server(env, profile, tmp_path) is expected


def test_the_folder_of_the_project_configures_no_server():
    assert has_no_server({}, Profile("", None), REPOSITORY)


def test_each_setting_becomes_an_environment_variable():
    settings = tomllib.loads("a.b_c.d = 1\na.e = false\n")
    assert dict(environment_variables(settings)) == {"PREFECT_A_B_C_D": "1", "PREFECT_A_E": "False"}


def settings_of(code: str, folder: Path, user: Path, **env: str) -> list[str]:
    """Return settings of Prefect in a process that is started in a folder."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_SETTINGS.format(code)],
        cwd=folder,
        env=inherited | {"HOME": str(user), "PYTHONPATH": str(REPOSITORY)} | env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "code",
    [
        "from src.training.pipeline import run_training_pipeline\n"
        "from flows.training_pipeline import training_pipeline",
        "from cli.console import load_prefect; load_prefect('artifacts')",
    ],
)
def test_settings_are_equal_in_every_folder(tmp_path, code):
    expected = [str(PROJECT), str(PROJECT / "profiles.toml"), "90", "['src']"]
    for folder in (REPOSITORY, tmp_path):
        assert settings_of(code, folder, tmp_path)[:4] == expected


def test_the_profile_of_the_user_has_priority_in_the_folder_of_the_project(tmp_path):
    (tmp_path / ".prefect").mkdir()
    path = tmp_path / ".prefect/profiles.toml"
    path.write_bytes(CLOUD)
    found = settings_of("import flows", REPOSITORY, tmp_path)
    assert (found[1], found[4]) == (str(path), "https://cloud/api")


def test_variables_of_the_user_have_priority_in_another_folder(tmp_path):
    env = {
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "7",
    }
    assert settings_of("import tasks", tmp_path, tmp_path, **env)[:3] == [
        str(tmp_path / "home"),
        str(tmp_path / "home/profiles.toml"),
        "7",
    ]
