"""Progress of a long run, in its log and as a progress bar in the UI."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Protocol

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from src.progress import Progress, Snapshot
from src.rendering.keys import artifact_key
from src.training.history import planned_steps

__all__ = ["Advance", "progress_artifact", "progress_listener", "training_progress"]


class Advance(Protocol):
    """Counts units as done."""

    def __call__(self, units: int, note: str = "", /) -> None:
        """Count `units` more as done; `note` is shown with the progress from now on."""
        ...


_LISTENER: ContextVar[Callable[[Snapshot, str], None] | None] = ContextVar("progress", default=None)


@contextmanager
def progress_listener(listener: Callable[[Snapshot, str], None]) -> Iterator[None]:
    """Pass the progress of each `progress_artifact` in the block to a function.

    Args:
        listener: Receives the progress and the note, each time that units are done.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def progress_artifact(
    total: int, unit: str, key: str, *, done_before: int = 0, is_of_run: bool = False
) -> Iterator[Advance]:
    """Create a progress artifact; yield a function that counts units as done.

    Every few seconds the progress is logged, and sent to the server in the background; while one
    request is being sent, others are skipped, except the last.

    Args:
        total: Number of units, at least 1.
        unit: Name of the units, e.g. `configs`.
        key: Key of the artifact.
        done_before: Number of units that are done already.
        is_of_run: Whether this is the progress of the whole run, for a `progress_listener`.
    """
    artifact: Any = create_progress_artifact(
        100 * done_before / total, key=key, description=f"{unit.capitalize()} done"
    )
    log, listener = get_run_logger(), _LISTENER.get() if is_of_run else None
    sent: Future[Any] | None = None
    last_note = ""

    def report(now: Snapshot) -> None:
        nonlocal sent
        text = _progress_text(now, unit, last_note)
        log.info("%s", text)
        if sent is None or sent.done() or now.done == now.total:
            sent = sender.submit(
                copy_context().run, update_progress_artifact, artifact, now.percent, text
            )

    with ThreadPoolExecutor(1) as sender:
        progress = Progress(total, report, report_end=True, done_before=done_before)

        def advance(units: int, note: str = "", /) -> None:
            nonlocal last_note
            last_note = note
            progress.advance(units)
            if listener is not None:
                listener(progress.snapshot(), note)

        advance(0)
        yield advance


def _ignore(units: int, note: str = "", /) -> None:
    """Report nothing."""


def _progress_text(now: Snapshot, unit: str, note: str) -> str:
    """Return the progress as a sentence, e.g. `8 of 12 configs, 1 failed, 4/s, 1 s left.`."""
    facts = [f"{now.done:,} of {now.total:,} {unit}", note, now.rate_text]
    return f"{', '.join(filter(None, facts))}, {now.seconds_left:,.0f} s left."


@contextmanager
def training_progress(model_version: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that receives the points of a training and reports its progress.

    Points without `total_steps` are ignored. The rate is that since the first point, because a
    training may continue from a checkpoint.
    """
    with ExitStack() as stack:
        advance: Advance | None = None
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
                except Exception as error:  # a server that does not answer must not end a training
                    get_run_logger().warning("The progress is not shown: %s", error)
                    advance = _ignore
            if step > done:
                advance(step - done)
                done = step

        yield on_point
