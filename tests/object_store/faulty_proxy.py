"""An HTTP proxy between a client and an object store, which injects faults."""

import asyncio
import socket
import struct
import threading
from collections.abc import Collection, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.object_store.faults import Choice, Fault, Request, Schedule, no_faults

__all__ = ["FaultyProxy", "LoggedRequest", "running_proxy"]

BUFFER_BYTES = 1 << 26
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>A fault of a test</Message></Error>"
Headers = dict[str, str]


class LoggedRequest(NamedTuple):
    """A request that a proxy has handled, and its fault."""

    request: Request
    fault: Choice


class _Message(NamedTuple):
    """A request or an answer: its first line, its headers by lower-case name, and its body."""

    first: str
    headers: Headers
    body: bytes = b""

    @property
    def head(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class FaultyProxy:
    """A proxy that passes each request on, unless its schedule says otherwise.

    Use `running_proxy`. All methods can be called from any thread.

    Attributes:
        url: Its address.
        schedule: Chooses the fault of each request, in the thread of the proxy.
        ignored_headers: The headers, in lower case, that the server does not receive.
    """

    def __init__(self, server_url: str, ignored_headers: Collection[str] = ()) -> None:
        self._server = urlsplit(server_url)
        self.url = ""
        self.schedule: Schedule = no_faults
        self.ignored_headers = ignored_headers
        self._log: list[LoggedRequest] = []
        self._number = 0
        self._late: list[tuple[Fault, str, _Message]] = []
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def log(self) -> list[LoggedRequest]:
        """The requests since the start, or since `clear`."""
        return list(self._log)

    def clear(self) -> None:
        """Clear the log, so that the next request has the number 1; end all faults."""
        self.schedule = no_faults
        self._log, self._number = [], 0

    def settle(self) -> None:
        """Send the late requests to the server, and wait for their effects."""
        self._run(self._deliver_all())

    def wait_for_clients(self) -> None:
        """Wait until all clients have ended, and their requests have had their effects."""
        self._run(self._wait_for_connections())

    # --- In the thread of the proxy --------------------------------------------------------------

    async def serve(self, started: "Future[None]") -> None:
        """Serve until `stop`."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=BUFFER_BYTES)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        started.set_result(None)
        await self._stop.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def stop(self) -> None:
        """End `serve`; requests that are not answered yet have no answer."""
        self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
                while await self._handle(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request; return whether the connection can be used for the next."""
        message = await _read_head(reader)
        method, path, _ = message.first.split(" ", 2)
        fault = await self._choose(method, path, message.headers)
        if fault is Fault.REFUSED:
            return _reset(writer)
        if fault is Fault.CUT_REQUEST:
            await self._send_half(message, reader)
            return _reset(writer)
        message = message._replace(body=await _read_body(reader, message.headers))
        if fault in (Fault.LATE_REQUEST, Fault.LAST_REQUEST):
            self._late.append((fault, path, message))
            return _reset(writer)
        if fault is Fault.UNANSWERED:
            return await _wait_until_closed(reader)
        if fault is None or not fault.is_before:
            answer = await self._exchange(message)
            await self._deliver(path)
        if fault is Fault.LOST_ANSWER:
            return False
        if fault is Fault.RESET_ANSWER:
            return _reset(writer)
        if fault is Fault.LATE_ANSWER:
            return await _wait_until_closed(reader)
        if fault and fault.answer:
            answer = _error(*fault.answer, has_body=method != "HEAD")
        whole = answer.head + answer.body
        if fault is Fault.HALF_ANSWER:
            end = len(whole) - len(answer.body) // 2 if answer.body else len("HTTP/1.1")
            writer.write(whole[:end])
            await writer.drain()
            return False
        writer.write(whole)
        await writer.drain()
        return True

    async def _choose(self, method: str, path: str, headers: Headers) -> Choice:
        self._number += 1
        condition = headers.get("if-match") or headers.get("if-none-match") or ""
        request = Request(self._number, method, path, condition)
        choice = self.schedule(request)
        fault = await asyncio.wrap_future(choice) if isinstance(choice, Future) else choice
        self._log.append(LoggedRequest(request, fault))
        return fault

    async def _exchange(self, message: _Message) -> _Message:
        """Send a request to the server; return its answer."""
        reader, writer = await self._open()
        try:
            writer.write(self._sent_on(message).head + message.body)
            await writer.drain()
            answer = await _read_head(reader)
            answer.headers.pop("connection", None)  # of this connection, not of the client's
            if message.first.startswith("HEAD "):
                return answer
            return answer._replace(body=await _read_body(reader, answer.headers))
        finally:
            writer.close()

    async def _send_half(self, message: _Message, reader: asyncio.StreamReader) -> None:
        size = int(message.headers.get("content-length", 0))
        half = await reader.readexactly(size // 2)
        _, writer = await self._open()
        writer.write(self._sent_on(message).head + half)
        await writer.drain()
        _reset(writer)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        server = self._server
        return await asyncio.open_connection(server.hostname, server.port, limit=BUFFER_BYTES)

    def _sent_on(self, message: _Message) -> _Message:
        names = message.headers.keys() - set(self.ignored_headers)
        headers = {name: value for name, value in message.headers.items() if name in names}
        return message._replace(headers={**headers, "connection": "close"})

    async def _deliver(self, path: str) -> None:
        """Send the late requests that wait for a request for `path`."""
        for late in [each for each in self._late if each[:2] == (Fault.LATE_REQUEST, path)]:
            self._late.remove(late)
            await self._exchange(late[2])

    async def _wait_for_connections(self) -> None:
        while self._connections:
            await asyncio.wait(self._connections)

    async def _deliver_all(self) -> None:
        while self._late:
            await self._exchange(self._late.pop(0)[2])


@contextmanager
def running_proxy(server_url: str, ignored_headers: Collection[str] = ()) -> Iterator[FaultyProxy]:
    """Start a proxy in a thread; it ends with the block."""
    proxy = FaultyProxy(server_url, ignored_headers)
    started: Future[None] = Future()
    thread = threading.Thread(
        target=proxy._loop.run_until_complete, args=[proxy.serve(started)], daemon=True
    )
    thread.start()
    started.result()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()
        proxy._loop.close()


def _error(status: int, code: str, *, has_body: bool) -> _Message:
    text = ERROR.format(code).encode()
    headers = {"Content-Type": "application/xml", "Content-Length": str(len(text))}
    return _Message(f"HTTP/1.1 {status} {code}", headers, text if has_body else b"")


async def _read_head(reader: asyncio.StreamReader) -> _Message:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return _Message(first, {name.strip().lower(): value.strip() for name, value in pairs})


async def _read_body(reader: asyncio.StreamReader, headers: Headers) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while True:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        body += line + await reader.readexactly(size + 2)
        if size == 0:
            return body


async def _wait_until_closed(reader: asyncio.StreamReader) -> bool:
    await reader.read(1)
    return False


def _reset(writer: asyncio.StreamWriter) -> bool:
    """Close a connection with RST, so that the other end sees an error."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
