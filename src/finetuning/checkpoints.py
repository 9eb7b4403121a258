"""Checkpoints of a training that can be killed at any moment.

transformers writes a checkpoint in place, file by file. So each one is marked when all of it is on
the disk, and a training continues from the last one that is marked.
"""

import os
from pathlib import Path
from shutil import rmtree

__all__ = ["checkpoint_step", "last_checkpoint", "mark_complete"]

PREFIX = "checkpoint-"  # of transformers
MARK = "complete"


def checkpoint_step(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was saved."""
    return int(checkpoint.name.removeprefix(PREFIX))


def last_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint in a folder; remove all others."""
    complete = [path for path in _checkpoints(folder) if (path / MARK).is_file()]
    last = max(complete, key=checkpoint_step, default=None)
    _remove_others(folder, last)
    return last


def mark_complete(checkpoint: Path) -> None:
    """Flush a checkpoint to the disk, mark it as complete, and remove all others.

    The others are removed here and not by transformers, which does it before the mark, by the times
    of the folders.
    """
    for path in checkpoint.rglob("*"):
        if path.is_file():
            _flush(path)
    _flush(checkpoint)
    (checkpoint / MARK).touch()
    for path in (checkpoint / MARK, checkpoint, checkpoint.parent):
        _flush(path)
    _remove_others(checkpoint.parent, checkpoint)


def _checkpoints(folder: Path) -> list[Path]:
    found = folder.glob(f"{PREFIX}*")
    return [path for path in found if path.name.removeprefix(PREFIX).isdecimal()]


def _remove_others(folder: Path, kept: Path | None) -> None:
    for path in _checkpoints(folder):
        if path != kept:
            (path / MARK).unlink(missing_ok=True)  # before its files
            rmtree(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
