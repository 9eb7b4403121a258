"""A client whose requests wait until a test lets them through: one interleaving, chosen by it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from tests.object_store.faults import Choice, Request, faults_of
from tests.object_store.faulty_proxy import FaultyProxy

__all__ = ["GatedClient"]

HANG_SECONDS = 600


class GatedClient:
    """A thread that works through one proxy, and stops at each of its requests.

    Args:
        proxy: The proxy, which no other client uses.

    Attributes:
        is_busy: Whether an operation has begun, and waits at a request.
    """

    def __init__(self, proxy: FaultyProxy) -> None:
        self._proxy = proxy
        self._thread = ThreadPoolExecutor(1)
        self._events: SimpleQueue[tuple[Request, Future[Choice]] | None] = SimpleQueue()
        self._held: tuple[Request, Future[Choice]] | None = None
        self._result: Future[Any] = Future()
        proxy.schedule = self._hold

    @property
    def is_busy(self) -> bool:
        """Whether an operation waits at a request."""
        return self._held is not None

    def start(self, operation: Callable[[], object]) -> None:
        """Start an operation; return when it waits at its first request, or has ended."""
        assert not self.is_busy
        self._result = self._thread.submit(self._do, operation)
        self._held = self._events.get(timeout=HANG_SECONDS)

    def step(self, fault: Choice) -> None:
        """Let the request through, with a fault that can happen to it, until the next one."""
        assert self._held
        request, choice = self._held
        choice.set_result(fault if fault in faults_of(request) else None)
        self._held = self._events.get(timeout=HANG_SECONDS)

    def result(self) -> Any:
        """Return the result of the operation that has ended, or raise its error."""
        assert not self.is_busy
        return self._result.result(HANG_SECONDS)

    def land(self) -> None:
        """Send the late requests of the client to the server."""
        self._proxy.settle()

    def _do(self, operation: Callable[[], object]) -> object:
        try:
            return operation()
        finally:
            self._events.put(None)

    def _hold(self, request: Request) -> Future[Choice]:
        choice: Future[Choice] = Future()
        self._events.put((request, choice))
        return choice
