"""Checkpoints of a training that was killed: only complete ones are used."""

import os
import shutil
from pathlib import Path

import pytest

from src.finetuning.checkpoints import checkpoint_step, last_checkpoint, mark_complete


def checkpoint(folder, step):
    """Create a checkpoint that is not marked."""
    path = folder / f"checkpoint-{step}"
    (path / "nested").mkdir(parents=True)
    (path / "weights").write_text(str(step))
    (path / "nested/state").write_text(str(step))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_without_a_complete_checkpoint_a_training_starts_again(tmp_path):
    checkpoint(tmp_path, 20)
    (tmp_path / "other").mkdir()
    assert last_checkpoint(tmp_path) is None
    assert names(tmp_path) == ["other"]


def test_the_last_complete_checkpoint_is_used_and_a_partial_one_is_removed(tmp_path):
    mark_complete(checkpoint(tmp_path, 20))
    checkpoint(tmp_path, 40)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-20"
    assert names(tmp_path) == ["checkpoint-20"]


def test_steps_are_compared_as_numbers(tmp_path):
    for step in (100, 20):
        (checkpoint(tmp_path, step) / "complete").touch()
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert (checkpoint_step(found), names(tmp_path)) == (100, ["checkpoint-100"])


def test_a_checkpoint_that_is_marked_replaces_all_others(tmp_path):
    mark_complete(checkpoint(tmp_path, 20))
    mark_complete(checkpoint(tmp_path, 40))
    assert names(tmp_path) == ["checkpoint-40"]


def test_a_checkpoint_is_marked_after_all_its_files_are_on_the_disk(tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync

    def recording(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append(((tmp_path / "checkpoint-20/complete").exists(), path.name))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    mark_complete(checkpoint(tmp_path, 20))
    assert sorted(name for is_marked, name in flushed if not is_marked) == [
        "checkpoint-20",
        "state",
        "weights",
    ]
    assert [name for is_marked, name in flushed if is_marked] == [
        "complete",
        "checkpoint-20",
        tmp_path.name,
    ]


def test_a_checkpoint_whose_removal_is_interrupted_is_not_complete(tmp_path, monkeypatch):
    old = checkpoint(tmp_path, 20)
    (old / "complete").touch()

    def killed(path):
        (path / "weights").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("src.finetuning.checkpoints.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            mark_complete(checkpoint(tmp_path, 40))
    shutil.rmtree(tmp_path / "checkpoint-40")
    assert last_checkpoint(tmp_path) is None
