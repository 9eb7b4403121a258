"""How far a long run is: in its log, and in an artifact that the UI draws as a bar."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

__all__ = ["progress_of"]

PROGRESS_SECONDS = 3.0


@contextmanager
def progress_of(whole: int, what: str, key: str) -> Iterator[Callable[[int], None]]:
    """Lend a function that takes how many are done, and tells of it every few seconds.

    Nobody waits for the server meanwhile: while it has not taken one report, others are left out.

    Args:
        whole: How many there are to do, at least 1.
        what: What they are, e.g. `configs`.
        key: The artifact's.
    """
    artifact: Any = create_progress_artifact(0.0, key=key, description=f"{what.capitalize()} done")
    log, told, started = get_run_logger(), 0.0, time.monotonic()
    sent: Future[Any] | None = None

    def tell(done: int) -> None:
        nonlocal told, sent
        now = time.monotonic()
        if now - told < PROGRESS_SECONDS and done < whole:
            return
        told, rate = now, done / (now - started)
        log.info(
            "%d of %d %s, %.0f/s, %.0f s left.", done, whole, what, rate, (whole - done) / rate
        )
        if sent is None or sent.done() or done == whole:
            sent = reporter.submit(
                copy_context().run, update_progress_artifact, artifact, 100 * done / whole
            )

    with ThreadPoolExecutor(1) as reporter:
        yield tell
