"""Tests of the profile of `make up`, as Prefect reads it in other processes."""

import fcntl
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ops import profile
from ops.profile import ensure_auth_string, needed_variables, set_api_url
from tasks import settings

ROOT = Path(__file__).parents[2]
URL = "http://127.0.0.1:4200/api"
SETTINGS = """
from prefect.settings import get_current_settings

from ops.profile import is_stale

settings = get_current_settings()
password = settings.api.auth_string and settings.api.auth_string.get_secret_value()
print(settings.api.url, password, settings.server.ephemeral.enabled, is_stale())
"""


@pytest.fixture
def home(tmp_path) -> Path:
    """An empty Prefect home folder, `.prefect/` of a project."""
    home = tmp_path / "project/.prefect"
    home.mkdir(parents=True)
    (home.parent / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return home


def settings_in(folder: Path, **env: str) -> list[str]:
    """Return the settings of a process that is started in a folder, with no Prefect variables."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS],
        cwd=folder,
        env=inherited | {"HOME": str(folder), "PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_the_password_is_made_once_and_only_its_owner_can_read_it(home):
    made = ensure_auth_string(home)
    user, _, password = made.partition(":")
    assert (user, len(password)) == ("admin", 32)
    set_api_url(home, URL)
    assert ensure_auth_string(home) == made
    [path] = home.iterdir()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("profiles.toml", 0o600)
    other = home.parent.parent / "other"
    other.mkdir()
    assert ensure_auth_string(other) != made


def test_a_process_in_the_folder_of_the_project_finds_address_and_password(home):
    assert settings_in(home.parent) == ["None", "None", "True", "False"]
    password = ensure_auth_string(home)
    assert settings_in(home.parent) == ["None", password, "True", "False"]
    with open(home / "up.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        set_api_url(home, URL)
        assert settings_in(home.parent) == [URL, password, "True", "False"]
        set_api_url(home, None)
    assert settings_in(home.parent) == ["None", password, "True", "False"]


def test_an_address_is_stale_if_its_make_up_was_killed(home):
    password = ensure_auth_string(home)
    set_api_url(home, URL)
    assert settings_in(home.parent) == [URL, password, "True", "True"]
    (home / "up.lock").touch()
    assert settings_in(home.parent) == [URL, password, "True", "True"]
    set_by_user = settings_in(home.parent, PREFECT_API_URL="http://127.0.0.1:1/api")
    assert set_by_user == ["http://127.0.0.1:1/api", password, "True", "False"]


def test_other_profiles_and_the_choice_of_one_are_kept(home):
    text = 'active = "team"\n\n[profiles.team]\nPREFECT_API_URL = "https://team/api"\n'
    (home / "profiles.toml").write_text(text)
    password = ensure_auth_string(home)
    assert tomllib.loads((home / "profiles.toml").read_text()) == {
        "active": "team",
        "profiles": {
            "team": {"PREFECT_API_URL": "https://team/api"},
            "up": {
                "PREFECT_API_AUTH_STRING": password,
                "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
            },
        },
    }


def test_variables_are_needed_only_for_another_home_or_another_chosen_profile(home, monkeypatch):
    ensure_auth_string(home)
    monkeypatch.setenv("HOME", str(home.parent))
    assert needed_variables(home) == {"PREFECT_PROFILES_PATH": str(home / "profiles.toml")}
    monkeypatch.setattr(profile, "ROOT", home.parent)
    monkeypatch.setattr(settings, "PROJECT", home.parent)
    assert needed_variables(home) == {}
    user = home.parent / "user"
    (user / ".prefect").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(user))
    for text in ('active = "x"\n[profiles.x]\nPREFECT_API_URL = "https://x/api"\n', "damaged"):
        (user / ".prefect/profiles.toml").write_text(text)
        assert needed_variables(home) == {"PREFECT_PROFILES_PATH": str(home / "profiles.toml")}
    (user / ".prefect/profiles.toml").unlink()
    text = (home / "profiles.toml").read_text()
    (home / "profiles.toml").write_text(f"{text.replace('up', 'x', 1)}\n[profiles.x]\n")
    assert needed_variables(home) == {"PREFECT_PROFILE": "up"}


def test_a_full_disk_is_an_error_that_names_the_file(home, monkeypatch):
    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profile, "save_profiles", fail)
    with pytest.raises(OSError, match="No space") as caught:
        set_api_url(home, None)
    assert str(caught.value) == (f"[Errno 28] No space left on device: '{home}/.profiles.toml.tmp'")
