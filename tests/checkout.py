"""Copies of this project in other folders, as a user who has cloned it has them."""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["ROOT", "copy_project", "git", "new_repository", "use_environment"]

ROOT = Path(__file__).parents[1]


def copy_project(folder: Path) -> Path:
    """Copy the files that are under version control or could be; return the folder."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def new_repository(folder: Path) -> Path:
    """Make a repository of the files in a folder, with one commit; return the folder."""
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "The project")
    return folder


def use_environment(folder: Path) -> Path:
    """Use the environment of this project in a copy, as if `make` had installed it there."""
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for path in (folder / "pyproject.toml", *folder.glob("requirements/*.lock")):
        os.utime(path, (0, 0))  # older than the environment, so that make keeps it
    return folder


def git(folder: Path, *arguments: str) -> str:
    """Run a git command in a folder, which must succeed; return its output."""
    identity = ("-c", "user.name=x", "-c", "user.email=x@y.z")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
