"""Read many items from a store, several at the same time if its requests wait for a server."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from src.storage.stopping import stoppable_threads
from src.storage.store import StorePath

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["overlapped"]

T = TypeVar("T")
U = TypeVar("U")


def overlapped(function: Callable[[U], T], items: Iterable[U], root: StorePath) -> Iterator[T]:
    """Yield `function(item)` for each item, in the order of the items.

    Up to `Store.parallel_requests` further items are read ahead, in threads; none if it is 1. An
    error is raised in place of its item.

    Args:
        function: Reads from the store of `root`, and writes nothing there. With threads, called
            with a copy of the caller's context.
        items: The items.
        root: Any path of the store.
    """
    number = root.store.parallel_requests
    if number == 1:
        yield from map(function, items)
        return
    ahead: deque[Future[T]] = deque()
    with stoppable_threads(number) as submit:
        for item in items:
            ahead.append(submit(function, item))
            if len(ahead) > number:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
