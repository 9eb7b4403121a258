"""Threads that end soon after the end of the block that uses their results.

A thread cannot be interrupted: without this, Ctrl-C would wait for all that the threads try again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["is_stopped", "stoppable_threads"]

T = TypeVar("T")

_STOPS: ContextVar[tuple[Event, ...]] = ContextVar("_STOPS", default=())


def is_stopped() -> bool:
    """Return whether the block has ended that this thread works for."""
    return any(stop.is_set() for stop in _STOPS.get())


@contextmanager
def stoppable_threads(number: int) -> Iterator[Callable[..., "Future[Any]"]]:
    """Provide a function that runs others in threads, with the context variables of the caller.

    At the end of the block, those that wait are cancelled, and `is_stopped` is true in those that
    run. The block ends when they have ended.
    """
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    stop = Event()

    def run(function: Callable[..., T], *args: Any) -> T:
        _STOPS.set((*_STOPS.get(), stop))
        return function(*args)

    with ThreadPoolExecutor(number) as pool:
        try:
            yield lambda *args: pool.submit(copy_context().run, run, *args)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
