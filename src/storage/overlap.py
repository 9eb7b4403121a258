"""Reading of many items from a store, at the same time where that saves time."""

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

    In a back end where each request takes a while, the next items are read ahead, in threads; see
    `Store.parallel_requests`. An error is raised in place of its item.

    Args:
        function: Reads from the store of `root`, and writes nothing there.
        items: The items.
        root: A path of the store.
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
