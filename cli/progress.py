"""Progress on stderr: of sweeps, of trainings, and of hashing data, weights and other files."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cli.terminal import printed_log
from src.digest import Digest
from src.progress import Progress, Snapshot, ignore_progress
from src.rendering.text import one_line
from src.storage import StorePath
from src.training.hashing import count_and_hash
from src.training.history import planned_steps

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = [
    "bytes_progress",
    "digests_with_progress",
    "hash_with_progress",
    "reading_progress",
    "sweep_progress",
    "training_progress",
]

UPDATE_SECONDS = 1.0


def hash_with_progress(path: StorePath) -> tuple[int, str]:
    """Count the lines of a file and hash it; see `count_and_hash`. Long reads have a bar."""
    file = path.stat()
    if file is None or not sys.stderr.isatty():
        return count_and_hash(path)
    with bytes_progress(path, file.size) as progress:
        return count_and_hash(path, progress=progress)


def digests_with_progress(path: StorePath, *, use_memos: bool = False) -> dict[str, Digest]:
    """Hash the files below a path; see `Store.digests`. Long reads have a bar."""
    if not sys.stderr.isatty():
        return path.digests(use_memos=use_memos)
    with bytes_progress(path, sum(file.size for file in path.files())) as progress:
        return path.digests(use_memos=use_memos, progress=progress)


@contextmanager
def bytes_progress(path: StorePath, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that receives the number of bytes of each read or write.

    On a terminal, if they take longer than `UPDATE_SECONDS`, a bar on stderr shows the bytes that
    are done, the rate and the time left, until the end of the block.
    """
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    bar: Bar | None = None

    def report(now: Snapshot) -> None:
        nonlocal bar
        if bar is None:
            bar = _bar(path, now.total)
        bar.update(bar.task_ids[0], completed=now.done)

    try:
        yield Progress(total, report, interval=UPDATE_SECONDS).advance
    finally:
        if bar is not None:
            bar.stop()


@contextmanager
def reading_progress(*paths: StorePath) -> Iterator[Callable[[int], None]]:
    """Yield a function that receives the number of bytes of each read of some files."""
    sizes = [file.size for path in paths if (file := path.stat()) is not None]
    with bytes_progress(paths[0], sum(sizes)) as progress:
        yield progress


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


@contextmanager
def sweep_progress() -> Iterator[None]:
    """Show the progress of a sweep that runs in the block.

    On a terminal, a bar on stderr shows the number of configs that are done, the number of those
    that failed, the rate and the time left. The log then has only warnings and errors.
    """
    if not sys.stderr.isatty():
        yield
        return
    from tasks.progress import progress_listener

    with _count_bar(has_time_left=False) as bar:  # it would follow the last batch alone
        task = bar.add_task("Configs", total=None, note="")

        def show(now: Snapshot, note: str) -> None:
            if now.done:
                left = timedelta(seconds=round(now.seconds_left))
                note = f"{note}, {now.rate_text}, {left} left"
            bar.update(task, completed=now.done, total=now.total, note=note)

        with progress_listener(show), _log_warnings_only():
            yield


@contextmanager
def _log_warnings_only() -> Iterator[None]:
    """Print no log record below the level WARNING in the block."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


@contextmanager
def training_progress() -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """Yield a function that receives a model version and a point of its training.

    On a terminal, a bar on stderr shows the step, the loss and the time left, until the end of the
    block. Elsewhere the log of the trainings is printed on stderr.
    """
    if not sys.stderr.isatty():
        with printed_log():
            yield lambda *_: None
        return
    bars: dict[str, TaskID] = {}

    def on_point(version: str, point: Mapping[str, Any]) -> None:
        loss = point.get("loss")
        text = f"loss {loss:.4g}" if isinstance(loss, int | float) else ""
        if version not in bars:
            bars[version] = bar.add_task(one_line(version), total=None, note=text)
        bar.update(bars[version], completed=point["step"], total=planned_steps(point), note=text)

    with _count_bar(has_time_left=True) as bar:
        yield on_point


def _count_bar(*, has_time_left: bool) -> "Bar":
    """Return bars with numbers done and in all, the field `note`, and perhaps the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        *([TimeRemainingColumn()] if has_time_left else []),
        console=Console(stderr=True),
        transient=True,
    )
