"""Clients whose requests wait until a test lets them through, so that it chooses their order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from src.storage import StorePath, open_path
from tests.object_store.faults import Choice, Request, faults_of
from tests.object_store.faulty_proxy import FaultyProxy, running_proxy
from tests.object_store.fixtures import use_server
from tests.object_store.s3_server import Bucket, S3Server

__all__ = ["GatedClient", "gated_clients", "interleaved"]

HANG_SECONDS = 600


class GatedClient:
    """A thread whose requests go through a separate proxy, and wait there one by one.

    Args:
        proxy: The proxy, which no other client uses.
        root: The bucket, opened through the proxy.

    Attributes:
        root: See above.
    """

    def __init__(self, proxy: FaultyProxy, root: StorePath) -> None:
        self._proxy = proxy
        self.root = root
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
        """Send the request, with a fault that can happen to it, until the next one."""
        assert self._held
        request, choice = self._held
        choice.set_result(fault if fault in faults_of(request) else None)
        self._held = self._events.get(timeout=HANG_SECONDS)

    def result(self) -> Any:
        """Return the result of the operation that has ended, or raise its error."""
        assert not self.is_busy
        return self._result.result(HANG_SECONDS)

    def outcome(self) -> Any:
        """Return the result of the operation that has ended, or its error."""
        try:
            return self.result()
        except Exception as error:
            return error

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


@contextmanager
def gated_clients(server: S3Server, bucket: Bucket, number: int) -> Iterator[list[GatedClient]]:
    """Open clients that have probed the server, and that repeat a request without waiting."""
    clients = []
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("src.storage.objects.client.MAX_WAIT_SECONDS", 0)
        for _ in range(number):
            proxy = stack.enter_context(running_proxy(server.url))
            use_server(patch, proxy.url)
            root = open_path(bucket.url)
            (root / "probed").create(b"")
            clients.append(GatedClient(proxy, root))
        yield clients


def interleaved(
    clients: Sequence[GatedClient],
    operations: Sequence[Callable[[], object]],
    steps: Iterable[tuple[int, Choice]],
) -> list[Any]:
    """Return the result of one operation of each client, or its error.

    Args:
        clients: The clients.
        operations: The operations, which begin in this order.
        steps: The client of each request, by its number, and the fault of the request. The
            requests that are left have no fault.
    """
    for client, operation in zip(clients, operations, strict=True):
        client.start(operation)
    for number, fault in steps:
        if clients[number].is_busy:
            clients[number].step(fault)
    for client in clients:
        while client.is_busy:
            client.step(None)
        client.land()
    return [client.outcome() for client in clients]
