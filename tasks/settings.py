"""Prefect's home folder and settings, chosen before Prefect is imported.

By default Prefect keeps its database in the user's home folder, and reads `[tool.prefect]` of
pyproject.toml only in the project's folder. Importing `tasks` or `flows` makes both the same in
every folder, unless Prefect was imported before. What a user has configured has priority.
"""

import errno
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import CorruptFileError, truncated_repr
from src.storage import read_file

__all__ = [
    "PROFILES",
    "Profile",
    "SettingsError",
    "active_profile",
    "check_profiles",
    "checked_settings",
    "choose_home",
    "configure",
    "environment_variables",
    "find_home",
    "has_no_server",
]

PROJECT = Path(__file__).parents[1]
PROFILES = "profiles.toml"
PROFILES_LIMIT = 1 << 20  # bytes
NO_SERVER = ("", "ephemeral")  # profiles of Prefect that start a temporary server
EPHEMERAL = ("PREFECT_SERVER_EPHEMERAL_ENABLED", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE")
SETTINGS_FILES = [".env", "prefect.toml", "pyproject.toml"]


class SettingsError(ValueError):
    """Raised when a setting of Prefect is not valid."""


class Profile(NamedTuple):
    """A profile of Prefect, as in profiles.toml.

    Attributes:
        name: Its name; empty if none is chosen.
        settings: Its settings, by the names of the environment variables; `None` if the file does
            not have it, and so Prefect can have a built-in one of this name.
    """

    name: str
    settings: Mapping[str, Any] | None


def choose_home(env: Mapping[str, str], user_home: Path, profiles: bytes) -> Path | None:
    """Return the home folder that Prefect must use; it has profiles.toml, too.

    Args:
        env: The environment.
        user_home: The folder that Prefect uses by default.
        profiles: The content of profiles.toml in `user_home`; empty if there is none.

    Returns:
        `None` if PREFECT_API_URL or PREFECT_PROFILES_PATH is set: Prefect chooses. PREFECT_HOME if
        that is set. `user_home` if its active profile has an API URL. Otherwise `.prefect/` of the
        project.

    Raises:
        ValueError: `profiles` is needed, and is not valid.
    """
    if env.get("PREFECT_API_URL") or env.get("PREFECT_PROFILES_PATH"):
        return None
    if home := env.get("PREFECT_HOME"):
        return Path(home).expanduser()
    if (_parse_active(env, profiles).settings or {}).get("PREFECT_API_URL"):
        return user_home
    return PROJECT / ".prefect"


def find_home(env: Mapping[str, str]) -> Path | None:
    """Return `choose_home`, with the profiles.toml that it needs read from the user's home folder.

    A file that cannot be read counts as none.

    Raises:
        CorruptFileError: The file is needed, and is not valid.
    """
    path = Path.home() / ".prefect" / PROFILES
    with _with_path(path):
        try:
            profiles = _read(path)
        except OSError:
            profiles = b""
        return choose_home(env, path.parent, profiles)


def active_profile(env: Mapping[str, str]) -> Profile:
    """Return the profile that Prefect uses; call `configure` before.

    Raises:
        CorruptFileError: profiles.toml is not valid.
        OSError: It cannot be read.
    """
    path = Path(env.get("PREFECT_PROFILES_PATH") or Path.home() / ".prefect" / PROFILES)
    with _with_path(path):
        return _parse_active(env, _read(path))


def has_no_server(env: Mapping[str, str], profile: Profile, folder: Path) -> bool:
    """Return whether commands start a temporary server, as far as is seen without Prefect.

    `False` if a server may be configured, or temporary ones may be disabled: Prefect's settings
    have to be read.

    Args:
        env: The environment.
        profile: See `active_profile`.
        folder: The working directory, where Prefect reads `.env`, prefect.toml and pyproject.toml.
    """
    if any(env.get(name) for name in ("PREFECT_API_URL", *EPHEMERAL)):
        return False
    files = [".env", "prefect.toml"] if folder.samefile(PROJECT) else SETTINGS_FILES
    if any((folder / name).exists() for name in files):
        return False
    if profile.settings is None:
        return profile.name in NO_SERVER  # others can be built into Prefect
    is_enabled = any(profile.settings.get(name) == "true" for name in EPHEMERAL)
    return is_enabled and "PREFECT_API_URL" not in profile.settings


def _parse_active(env: Mapping[str, str], profiles: bytes) -> Profile:
    """Return the active profile.

    Raises:
        ValueError: `profiles`, the content of profiles.toml, is not valid.
    """
    try:
        content = tomllib.loads(profiles.decode())
    except ValueError as error:
        raise ValueError(f"not valid TOML: {error}.") from error
    found = content.get("profiles", {})
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise ValueError("profiles: expected tables [profiles.NAME].")
    for profile, values in found.items():
        for setting, value in values.items():
            if not isinstance(value, str | int | float):
                raise ValueError(f"profiles.{profile}.{setting}: expected a text or a number.")
    name = env.get("PREFECT_PROFILE") or content.get("active", "")
    if not isinstance(name, str):
        raise ValueError("active: expected the name of a profile.")
    return Profile(name, found.get(name))


def environment_variables(
    settings: Mapping[str, Any], prefix: str = "PREFECT"
) -> Iterator[tuple[str, str]]:
    """Yield the name and value of the environment variable for each setting of `[tool.prefect]`."""
    for key, value in settings.items():
        name = f"{prefix}_{key.upper()}"
        if isinstance(value, dict):
            yield from environment_variables(value, name)
        else:
            yield name, str(value)


def configure() -> None:
    """Set the environment variables of this process that Prefect reads when it is imported.

    Variables that the user has set are kept, and Prefect's telemetry is switched off.

    Raises:
        CorruptFileError: A profiles.toml that is needed is not valid.
        OSError: It cannot be read.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if home := find_home(os.environ):
        os.environ["PREFECT_HOME"] = str(home)
        os.environ["PREFECT_PROFILES_PATH"] = str(home / PROFILES)
    if path := os.environ.get("PREFECT_PROFILES_PATH"):
        check_profiles(Path(path))
    if not Path.cwd().samefile(PROJECT):
        settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["prefect"]
        del settings["profiles_path"]  # relative to the project's folder
        for name, value in environment_variables(settings):
            os.environ.setdefault(name, value)


def check_profiles(path: Path) -> None:
    """Check that Prefect can use a profiles.toml; there may be none.

    Raises:
        CorruptFileError: It is not valid.
        OSError: It cannot be read.
    """
    with _with_path(path):
        _parse_active(os.environ, _read(path))


@contextmanager
def checked_settings() -> Iterator[None]:
    """Import Prefect's package, and shorten an error of its settings in the body to one line.

    The body imports more of Prefect, which then reads its settings.

    Raises:
        SettingsError: A setting is not valid.
    """
    output = StringIO()
    with redirect_stderr(output):  # the package prints the same error in many lines
        import prefect  # noqa: F401
        from pydantic import ValidationError
    try:
        yield
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join([error.title, *map(str, fault["loc"])])
        # The value that a validator of Prefect refuses may have a password, as in a URL.
        found = (
            "" if fault["type"] == "value_error" else f", found {truncated_repr(fault['input'])}"
        )
        raise SettingsError(
            f"Prefect's settings: {place}: {fault['msg']}{found}. Correct the environment variable "
            "or the profile that sets it."
        ) from error
    sys.stderr.write(output.getvalue())


def _read(path: Path) -> bytes:
    """Return the content of a profiles.toml; empty if there is none.

    Raises:
        OSError: It cannot be read, is not a regular file, or is too large.
    """
    try:
        return read_file(path, PROFILES_LIMIT) or b""
    except NotADirectoryError:
        return b""
    except CorruptFileError as error:
        reason = str(error).removeprefix(f"{path}: ").removesuffix(". Left as found.")
        raise OSError(errno.EINVAL, reason, str(path)) from error


@contextmanager
def _with_path(path: Path) -> Iterator[None]:
    """Add the path of a profiles.toml, and what to do, to an error."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: {error.strerror}. Make it a file that can be read.") from error
    except ValueError as error:
        raise CorruptFileError(f"{path}: {error} Correct the file, or delete it.") from error
