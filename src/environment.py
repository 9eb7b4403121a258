"""The environment of a run: its code, its packages, and the run itself."""

import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from src.records.statement import ResolvedDependency

__all__ = [
    "BUILDERS",
    "CORE",
    "PREFECT_BUILDER",
    "PROJECT",
    "Invocation",
    "core_dependency",
    "environment_dependencies",
    "host_name",
    "installed_packages",
    "project_version",
    "run_details",
    "source_digest",
]

CORE = Path(__file__).parent
PROJECT = "llm-training-pipeline"
PYTHON_BUILDER = "urn:llm-training-pipeline:builder:python"
PREFECT_BUILDER = "urn:llm-training-pipeline:builder:prefect"
BUILDERS = (PYTHON_BUILDER, PREFECT_BUILDER)
"""The systems that run the code of this project; `verify` reports any other one."""
GIT_TIMEOUT_SECONDS = 5.0


def now() -> str:
    """Return the current time in UTC as RFC 3339, in milliseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{nanoseconds // 10**6:03}Z"


def _new_id() -> str:
    return os.urandom(16).hex()  # as random as a UUID, without importing uuid


def host_name() -> str:
    """Return the name of this machine; `unknown` if it is empty, or has spaces or controls."""
    name = os.uname().nodename
    return name if name.isprintable() and name.split() == [name] else "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """Identity and timing of a run (SLSA `runDetails`).

    `verify` reports a value of another form as a mismatch.

    Attributes:
        id: Identifier of the run, at most 200 characters without spaces; by default 32 random
            hexadecimal digits. The id of a flow run is a UUID.
        url: HTTP page with more about the run.
        builder: URI of the system that runs the code; one of `BUILDERS`.
        started_on: RFC 3339 in UTC, in milliseconds, ending in `Z`; by default the current time.
        clock: Returns the time at which a result is finished, in the same form.
        host: The name of the machine that runs the code; not recorded if `None`.
        worker: The name of the worker that started the run, at most 200 printable characters.
    """

    id: str = field(default_factory=_new_id)
    url: str | None = None
    builder: str = PYTHON_BUILDER
    started_on: str = field(default_factory=now)
    clock: Callable[[], str] = now
    host: str | None = field(default_factory=host_name)
    worker: str | None = None


def run_details(invocation: Invocation) -> dict[str, Any]:
    """Return the fields of a `Statement` that describe a run which finishes now."""
    return {
        "builder": invocation.builder,
        "builder_version": {PROJECT: project_version()},
        "invocation_id": invocation.id,
        "internal_parameters": {
            name: value
            for name, value in (("host", invocation.host), ("worker", invocation.worker))
            if value is not None
        },
        "url": invocation.url,
        "started_on": invocation.started_on,
        "finished_on": invocation.clock(),
    }


@cache
def project_version() -> str:
    """Return the version of this project: that of the pyproject.toml beside the core.

    Without the file, the installed version. With it, that can be the version of another checkout: a
    worker that clones the project runs the code of its clone in the environment of the worker.
    """
    with suppress(FileNotFoundError):
        text = (CORE.parent / "pyproject.toml").read_text(encoding="utf-8")
        return str(re.findall(r'^version = "(.+)"$', text, re.MULTILINE)[0])
    from importlib.metadata import version  # slow to import

    return version(PROJECT)


@cache
def source_digest(*folders: Path) -> str:
    """Return the SHA-256 over every Python file below `folders`, by relative path and content.

    Computed once per process, because a process runs the code that it found when it started.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for path in _python_files(folder):
            content = hashlib.sha256((folder / path).read_bytes()).hexdigest()
            digest.update(f"{folder.name}/{path}\0{content}\n".encode())
    return digest.hexdigest()


def _python_files(folder: Path) -> list[Path]:
    """Return the relative paths of the Python files below a folder, sorted."""
    paths = (Path(here, name) for here, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder) for path in paths if path.suffix == ".py")


def core_dependency() -> ResolvedDependency:
    """Return the source of the core as a resolved dependency."""
    return ResolvedDependency(name="core", digest={"sha256": source_digest(CORE)})


@cache
def environment_dependencies() -> tuple[ResolvedDependency, ...]:
    """Return the commit, the core, Python and the installed packages of this process."""
    version = {"version": sys.version.split()[0], "implementation": sys.implementation.name}
    packages = dict(sorted(installed_packages(sys.path).items()))
    return (
        *_checkout(CORE),
        core_dependency(),
        ResolvedDependency(name="python", annotations=version),
        ResolvedDependency(name="packages", annotations=packages),
    )


def _checkout(folder: Path) -> list[ResolvedDependency]:
    """Return the commit that `folder` was checked out from; an empty list without one.

    The commit is recorded only if the repository tracks at least half of the Python files in the
    folder: a folder that was installed inside another project's repository has no commit. Untracked
    Python files are uncommitted changes, other untracked files are not part of the code.
    """
    files = {str(path) for path in _python_files(folder)}
    listed = _git(folder, "ls-files", "-z")
    tracked = files.intersection((listed or "").split("\0"))
    if not tracked or 2 * len(tracked) < len(files):
        return []
    status = _git(
        folder,
        "status",
        "--porcelain=v2",
        "--branch",
        "--no-ahead-behind",
        "--untracked-files=no",
        "--ignore-submodules=dirty",
    )
    commit = re.search(r"^# branch\.oid ([0-9a-f]{40}|[0-9a-f]{64})$", status or "", re.MULTILINE)
    if status is None or commit is None:
        return []
    is_dirty = tracked != files or re.search("^[^#]", status, re.MULTILINE) is not None
    digest, annotations = {"gitCommit": commit[1]}, {"dirty": is_dirty}
    return [ResolvedDependency(name="code", digest=digest, annotations=annotations)]


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command about the repository that contains `folder`.

    Nothing is written or fetched, and no file system monitor of the repository's config is run.

    Returns:
        `None` without git or a repository, and if the repository belongs to another user.
    """
    import subprocess

    variables = {name: each for name, each in os.environ.items() if name not in _OTHER_REPOSITORY}
    try:
        return subprocess.run(  # noqa: S603  # constant commands
            ["git", "-c", "core.fsmonitor=false", *arguments],  # noqa: S607  # of the user's PATH
            cwd=folder,
            env={**variables, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=GIT_TIMEOUT_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


# Variables that select another repository than the one that contains the folder. Git sets some of
# them for hooks and aliases.
_OTHER_REPOSITORY = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}


def installed_packages(folders: Sequence[str]) -> dict[str, str]:
    """Return the versions of the installed packages, by the names of their folders alone.

    `importlib.metadata` takes longer to import than this takes to run. This project is left out:
    its code is recorded by digest and commit, whether it is installed or not.
    """
    found: dict[str, str] = {}
    for folder in folders:
        with suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in entries:
                if entry.name.endswith(".dist-info"):
                    name, _, version = entry.name.removesuffix(".dist-info").rpartition("-")
                    found.setdefault(re.sub("[-_.]+", "-", name).lower(), version)
    found.pop(PROJECT, None)
    return found
