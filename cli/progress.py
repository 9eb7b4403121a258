"""How far the hashing of a dataset is: a bar on stderr, for who waits longer than a second."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from src.training.dataset import count_and_hash

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["hash_with_progress"]

PATIENCE_SECONDS = 1.0


def hash_with_progress(path: Path) -> tuple[int, str]:
    """Count and hash a data.jsonl, as `count_and_hash` does.

    On a terminal, where that takes longer than `PATIENCE_SECONDS`, a bar on stderr shows the bytes
    read, the rate and the time left, until it is done.
    """
    if not sys.stderr.isatty():
        return count_and_hash(path)
    started, done = time.monotonic(), 0
    bar: Progress | None = None

    def advance(size: int) -> None:
        nonlocal bar, done
        done += size
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done)
        elif time.monotonic() - started > PATIENCE_SECONDS:
            bar = _bar(path, done)

    try:
        return count_and_hash(path, progress=advance)
    finally:
        if bar is not None:
            bar.stop()


def _bar(path: Path, done: int) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(str(path), total=path.stat().st_size, completed=done)
    bar.start()
    return bar
