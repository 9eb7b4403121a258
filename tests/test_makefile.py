"""Tests of the Makefile that install nothing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.docs import blocks

VARIABLES = ("CONFIG", "MAKEFLAGS", "PYTHON")


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


def commands(folder: Path, *targets: str, word: str = " -m venv ") -> list[str]:
    """Return the commands with a word that would make targets in a folder; .venv/ by default."""
    # `make test PYTHON=...` hands its variables to every make that it starts.
    inherited = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    done = subprocess.run(
        ["make", "--dry-run", "--silent", *(targets or [".venv/ready"])],
        cwd=folder,
        env=inherited,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if word in line]


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


# --- Real trainings ------------------------------------------------------------------------------


@pytest.fixture
def trained(project) -> Path:
    """The project, with a .venv-train/ that is ready."""
    (project / ".venv-train").mkdir()
    (project / ".venv-train/ready").write_text(f"{project}/.venv-train\n")
    return project


def test_the_environment_of_trainings_is_made_once_and_again_after_a_move(trained):
    assert commands(trained, "train-env") == []
    moved = trained.rename(trained.with_name("moved"))
    assert commands(moved, "train-env") == [
        "python3 -m venv --clear .venv",
        "python3 -m venv --clear .venv-train",
    ]
    shutil.rmtree(moved / ".venv-train")
    assert commands(moved, "train-env")[1:] == ["python3 -m venv  .venv-train"]


def test_only_targets_that_train_need_the_environment_of_trainings(project):
    assert commands(project, "run", "test", "check") == []
    assert commands(project, "train") == ["python3 -m venv  .venv-train"]
    assert commands(project, "e2e-train") == ["python3 -m venv  .venv-train"]


def test_the_trainings_of_the_documentation_have_a_config_and_a_base_model(trained):
    [block] = [each.text for each in blocks("training.md") if each.title == "Real training"]
    for line in block.splitlines():
        done = commands(trained, *line.split("#")[0].split()[1:], word="ops.base_models")
        [config] = re.findall('"(.*)"', done[0])
        assert yaml.safe_load((REPOSITORY / config).read_text())["trainer"]["use"] == "lora"


@pytest.mark.parametrize(
    ("arguments", "config"),
    [((), "configs/training/tiny_lora.yaml"), (("CONFIG=mine.yaml",), "mine.yaml")],
)
def test_make_train_creates_the_base_model_and_runs_the_config(trained, arguments, config):
    assert commands(trained, "train", *arguments, word=".yaml") == [
        f'.venv-train/bin/python -m ops.base_models "{config}"',
        f'.venv/bin/llm-train run "{config}"',
    ]
    assert commands(trained, "run", word=".yaml") == [
        '.venv/bin/llm-train run "configs/training/mistral_finetune.yaml" '
    ]
