"""Checks of Python, of the installed packages, and of the optional extras."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from src.diagnosis.finding import Finding, fault, ok, warning
from src.rendering.text import truncated_list

__all__ = ["Locked", "extras_finding", "locked_packages", "packages_finding", "python_finding"]

OLDEST, NEWEST = (3, 11), (3, 13)  # versions that the tests run on
EXTRAS = {
    "cloud": ("obstore", "`.venv/bin/uv pip install -r requirements/cloud.lock`"),
    "openlineage": ("openlineage-python", "`.venv/bin/uv pip install openlineage-python`"),
    "report": ("altair", "`make report`"),
}
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+) *(?P<marker>;)?")


class Locked(NamedTuple):
    """A package in a file of locked requirements.

    Attributes:
        versions: Its versions; several, if they depend on the platform.
        is_optional: Whether some platforms do not need it.
    """

    versions: frozenset[str]
    is_optional: bool


def python_finding(version: tuple[int, int]) -> Finding:
    """Return whether a version of Python is supported."""
    found, oldest, newest = (".".join(map(str, each)) for each in (version, OLDEST, NEWEST))
    action = f"Delete .venv/ and run `make PYTHON=python{newest} run`."
    if version < OLDEST:
        return fault("python", f"{found}. Expected {oldest} to {newest}.", action)
    if version > NEWEST:
        return warning("python", f"{found}, not tested. Expected {oldest} to {newest}.", action)
    return ok("python", f"{found}.")


def locked_packages(text: str) -> dict[str, Locked]:
    """Return the packages in a file of locked requirements, by normalized name."""
    found: dict[str, Locked] = {}
    for line in text.splitlines():
        if match := _REQUIREMENT.match(line):
            name = re.sub("[-_.]+", "-", match["name"]).lower()
            versions, is_optional = found.get(name, (frozenset(), False))
            has_marker = match["marker"] is not None
            found[name] = Locked(versions | {match["version"]}, is_optional or has_marker)
    return found


def packages_finding(locked: Mapping[str, Locked], installed: Mapping[str, str]) -> Finding:
    """Return whether the installed packages are those of requirements/main.lock.

    Further packages, such as those of another lock, are no fault. A package that only some
    platforms need may be missing.
    """
    faults = []
    for name, (versions, is_optional) in sorted(locked.items()):
        if name in installed and installed[name] not in versions:
            faults.append(f"{name} {installed[name]} in place of {' or '.join(sorted(versions))}")
        elif name not in installed and not is_optional:
            faults.append(f"{name} is missing")
    if faults:
        found = f"not as in requirements/main.lock: {truncated_list(faults)}."
        return warning("packages", found, "Run `rm .venv/ready && make .venv/ready`.")
    return ok("packages", f"{len(locked)} packages as in requirements/main.lock.")


def extras_finding(installed: Mapping[str, str], project: Path) -> Finding:
    """Return which of the optional extras are installed, and how to get the others."""
    has = {name: package in installed for name, (package, _) in EXTRAS.items()}
    actions = {name: action for name, (_, action) in EXTRAS.items()}
    has["train"] = (project / ".venv-train/ready").is_file()
    actions["train"] = "`make train-env`"
    present = [name for name, is_installed in has.items() if is_installed]
    missing = [f"{name} ({actions[name]})" for name in has if not has[name]]
    texts = []
    if present:
        texts.append(f"installed: {', '.join(present)}")
    if missing:
        texts.append(f"not installed: {', '.join(missing)}")
    return ok("extras", f"{'; '.join(texts)}.")
