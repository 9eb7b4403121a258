"""Progress of a long run, in its log and as a progress bar in the UI."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from src.progress import Progress, Snapshot

__all__ = ["progress_artifact"]


@contextmanager
def progress_artifact(total: int, unit: str, key: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts units as done and reports the progress every few seconds.

    Reports are sent to the server in the background, and skipped while one is being sent.

    Args:
        total: Number of units, at least 1.
        unit: Name of the units, e.g. `configs`.
        key: Key of the artifact.
    """
    artifact: Any = create_progress_artifact(0.0, key=key, description=f"{unit.capitalize()} done")
    log = get_run_logger()
    sent: Future[Any] | None = None

    def report(now: Snapshot) -> None:
        nonlocal sent
        log.info(
            "%d of %d %s, %.0f/s, %.0f s left.",
            now.done,
            now.total,
            unit,
            now.rate,
            now.seconds_left,
        )
        if sent is None or sent.done() or now.done == now.total:
            sent = sender.submit(
                copy_context().run, update_progress_artifact, artifact, now.percent
            )

    with ThreadPoolExecutor(1) as sender:
        yield Progress(total, report, report_end=True).advance
