"""Tests of the command `export`."""

import json
from pathlib import Path

import pytest

from src.training.pipeline import run_training_pipeline
from tests.trainers import trained


@pytest.fixture
def model(project):
    run_training_pipeline(trained(steps=1), "model_v1")


def test_export_prints_the_folder_and_how_much_it_has(model, llm_train):
    done = llm_train("export", "model_v1", "out")
    size = sum(path.stat().st_size for path in Path("out").rglob("*") if path.is_file())
    assert (done.exit_code, done.stdout) == (0, f"out: 9 files, {size:,} bytes.\n")
    assert Path("out/adapter/weights.json").exists()
    assert Path("out/README.md").read_text().startswith("---\n")


def test_export_with_json_prints_the_digest_of_each_file(model, llm_train):
    printed = json.loads(llm_train("export", "model_v1", "out", "--json").stdout)
    assert (printed["model_version"], printed["folder"]) == ("model_v1", "out")
    assert printed["files"]["samples.txt"] == {
        "sha256": "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce",
        "size": 1,
    }
    assert set(printed["files"]) == {
        str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("version", "folder", "reason"),
    [
        ("model_v1", "configs", "expected a new or an empty folder, found other files."),
        ("model_v1", "artifacts/models/out", "expected a folder outside of the artifacts root."),
        ("model_v1", "missing/out", "no such folder. Create it first."),
        ("model_v1", ".", "expected a new folder, found the working directory."),
        ("model_v1", "mine.py", "Directory 'mine.py' is a file."),
        ("model_v9", "out", "no model 'model_v9'. Nearest: model_v1."),
    ],
)
def test_a_folder_or_a_version_that_cannot_be_used_is_wrong_usage(
    model, llm_train, version, folder, reason, tree
):
    before = tree(Path.cwd())
    done = llm_train("export", version, folder)
    assert (done.exit_code, done.stdout) == (2, "")
    assert reason in done.stderr
    assert tree(Path.cwd()) == before


def test_an_altered_file_is_a_damaged_record(model, llm_train):
    Path("artifacts/models/model_v1/weights/samples.txt").write_text("4")
    done = llm_train("export", "model_v1", "out")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: artifacts/models/model_v1/weights/samples.txt: expected sha256 4e07408562be"
    )
    assert not Path("out").exists()
