"""Progress bar on stderr for the hashing of a dataset, or of another large file."""

import sys
from typing import TYPE_CHECKING

from src.progress import Progress, Snapshot
from src.rendering.text import one_line
from src.storage import StorePath
from src.training.hashing import count_and_hash

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["hash_with_progress"]

UPDATE_SECONDS = 1.0


def hash_with_progress(path: StorePath) -> tuple[int, str]:
    """Count the lines of a file and hash it; see `count_and_hash`.

    On a terminal, if this takes longer than `UPDATE_SECONDS`, a bar on stderr shows the bytes
    read, the rate and the time left, until the end.
    """
    file = path.stat()
    if file is None or not sys.stderr.isatty():
        return count_and_hash(path)
    bar: Bar | None = None

    def report(now: Snapshot) -> None:
        nonlocal bar
        if bar is None:
            bar = _bar(path, now.total)
        bar.update(bar.task_ids[0], completed=now.done)

    progress = Progress(file.size, report, interval=UPDATE_SECONDS)
    try:
        return count_and_hash(path, progress=progress.advance)
    finally:
        if bar is not None:
            bar.stop()


def _bar(path: StorePath, total: int) -> "Bar":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(one_line(path), total=total)
    bar.start()
    return bar
