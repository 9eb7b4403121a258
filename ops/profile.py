"""The Prefect profile of `make up`: the address and the password of its server.

In the project's folder, `prefect` reads `.prefect/profiles.toml` (see pyproject.toml); so does
`llm-train` in every folder (see `tasks.settings`). Both find the server without any variable. The
password is made once and stays there. The address is removed when `make up` ends; after SIGKILL it
remains, see `is_stale`.
"""

import fcntl
import os
from pathlib import Path

from prefect.context import get_settings_context
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_PROFILES_PATH,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    ProfilesCollection,
    load_profiles,
    save_profiles,
    temporary_settings,
)

from ops.server import ROOT, new_auth_string
from src.errors import with_filename
from tasks.settings import PROFILES, find_home

__all__ = ["LOCK", "ensure_auth_string", "is_stale", "needed_variables", "set_api_url"]

NAME = "up"
LOCK = "up.lock"  # held while `make up` runs


def ensure_auth_string(home: Path) -> str:
    """Return the auth string of the server; make and store it the first time."""
    profiles = _load(home)
    settings = profiles[NAME].settings if NAME in profiles.names else {}
    found: str | None = settings.get(PREFECT_API_AUTH_STRING)
    if found is None:
        found = new_auth_string()
    # Without an address, `llm-train` starts a temporary server, as in Prefect's default profile.
    profiles.update_profile(
        NAME, {PREFECT_API_AUTH_STRING: found, PREFECT_SERVER_EPHEMERAL_ENABLED: "true"}
    )
    if profiles.active_name in (None, "ephemeral"):
        profiles.set_active(NAME)
    _save(home, profiles)
    return found


def set_api_url(home: Path, url: str | None) -> None:
    """Store the address of the server; `None` removes it."""
    profiles = _load(home)
    profiles.update_profile(NAME, {PREFECT_API_URL: url})
    _save(home, profiles)


def needed_variables(home: Path) -> dict[str, str]:
    """Return the environment variables that a process in the project's folder needs.

    Empty if PREFECT_HOME is `.prefect/`, the profile `up` is active, and the user has no profile
    with an API URL, which `llm-train` would use.
    """
    needed = {}
    home_of_prefect = (ROOT / ".prefect").resolve()
    try:
        home_of_command = find_home({})
    except ValueError:  # the user's profiles are damaged
        home_of_command = None
    if not home.resolve() == home_of_prefect == home_of_command:
        needed["PREFECT_PROFILES_PATH"] = str(home.resolve() / PROFILES)
    if _load(home).active_name != NAME:
        needed["PREFECT_PROFILE"] = NAME
    return needed


def is_stale() -> bool:
    """Return whether the API URL is that of a `make up` that was killed.

    Another process can listen at its address by now. The password must not be sent there.
    """
    profile = get_settings_context().profile
    url = profile.settings.get(PREFECT_API_URL)
    is_of_profile = url == PREFECT_API_URL.value() and "PREFECT_API_URL" not in os.environ
    if profile.name != NAME or profile.source is None or url is None or not is_of_profile:
        return False
    try:
        with open(profile.source.with_name(LOCK), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def _load(home: Path) -> ProfilesCollection:
    with temporary_settings({PREFECT_PROFILES_PATH: home / PROFILES}):
        return load_profiles(include_defaults=False)


def _save(home: Path, profiles: ProfilesCollection) -> None:
    """Replace the profiles by a new file, which Prefect creates with mode 0600."""
    draft = home / f".{PROFILES}.tmp"
    draft.unlink(missing_ok=True)
    with with_filename(draft), temporary_settings({PREFECT_PROFILES_PATH: draft}):
        save_profiles(profiles)
    os.replace(draft, home / PROFILES)
