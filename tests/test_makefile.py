"""Tests of the Makefile that install nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

VARIABLES = ("MAKEFLAGS", "PYTHON")


@pytest.fixture
def project(tmp_path) -> Path:
    """The Makefile, with a .venv/ that is ready."""
    folder = tmp_path / "a project"
    (folder / "requirements").mkdir(parents=True)
    for name in ("requirements/main.lock", "requirements/uv.lock", "pyproject.toml"):
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    shutil.copy(REPOSITORY / "Makefile", folder)
    (folder / ".venv").mkdir()
    (folder / ".venv/ready").write_text(f"{folder}/.venv\n")
    return folder


def commands(folder: Path) -> list[str]:
    """Return the commands that would make .venv/ in a folder."""
    # `make test PYTHON=...` hands its variables to every make that it starts.
    inherited = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    done = subprocess.run(
        ["make", "--dry-run", "--silent", ".venv/ready"],
        cwd=folder,
        env=inherited,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if " -m venv " in line]


def test_an_environment_is_made_once(project):
    assert commands(project) == []
    shutil.rmtree(project / ".venv")
    assert commands(project) == ["python3 -m venv  .venv"]


def test_an_environment_is_made_again_after_the_project_was_moved_or_copied(project):
    copied = project.with_name("copied")
    shutil.copytree(project, copied)
    assert commands(copied) == ["python3 -m venv --clear .venv"]
    assert commands(project) == []
    moved = project.rename(project.with_name("moved"))
    assert commands(moved) == ["python3 -m venv --clear .venv"]


def test_an_environment_that_was_not_finished_is_made_again(project):
    (project / ".venv/ready").unlink()
    assert commands(project) == ["python3 -m venv --clear .venv"]


def test_an_environment_is_used_through_a_link(project):
    linked = project.with_name("linked")
    shutil.copytree(project, linked, ignore=lambda *_: [".venv"])
    (linked / ".venv").symlink_to(project / ".venv")
    assert commands(linked) == []
