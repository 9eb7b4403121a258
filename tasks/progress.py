"""Progress of a long run, in its log and as a progress bar in the UI."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from src.progress import Progress, Snapshot, ignore_progress
from src.rendering.keys import artifact_key
from src.training.history import planned_steps

__all__ = ["progress_artifact", "training_progress"]


@contextmanager
def progress_artifact(
    total: int, unit: str, key: str, *, done_before: int = 0
) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts units as done and reports the progress every few seconds.

    Reports are sent to the server in the background, and skipped while one is being sent.

    Args:
        total: Number of units, at least 1.
        unit: Name of the units, e.g. `configs`.
        key: Key of the artifact.
        done_before: Number of units that are done already.
    """
    artifact: Any = create_progress_artifact(
        100 * done_before / total, key=key, description=f"{unit.capitalize()} done"
    )
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
        yield Progress(total, report, report_end=True, done_before=done_before).advance


@contextmanager
def training_progress(model_version: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that receives the points of a training and reports its progress.

    Only a point with `total_steps` says how far a training is. The rate is that since the first
    point, because a training may continue from a checkpoint.
    """
    with ExitStack() as stack:
        advance: Callable[[int], None] | None = None
        done = 0

        def on_point(point: Mapping[str, Any]) -> None:
            nonlocal advance, done
            if (total := planned_steps(point)) is None:
                return
            step = min(point["step"], total)
            if advance is None:
                key = artifact_key("training-progress", model_version)
                try:
                    advance = stack.enter_context(
                        progress_artifact(total, "steps", key, done_before=step)
                    )
                    done = step
                    advance(0)
                except Exception as error:  # a server that is away ends no training
                    get_run_logger().warning("The progress is not shown: %s", error)
                    advance = ignore_progress
            if step > done:
                advance(step - done)
                done = step

        yield on_point
