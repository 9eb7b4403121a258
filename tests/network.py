"""A free port, and an HTTP server that records requests, on this machine."""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["STARTUP_SECONDS", "answering", "free_port", "json_answer", "page", "receiver"]

STARTUP_SECONDS = 600  # for a Prefect server that starts beside other work


def free_port() -> int:
    """Return a TCP port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """Start an HTTP server for JSON; yield its URL, and the list of the posted values."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with _serving(Handler) as url:
        yield url, received


@contextmanager
def page(status: int) -> Iterator[str]:
    """Start an HTTP server that answers every GET request with a page of HTML; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>A page</html>")

        def log_message(self, *arguments: object) -> None:
            pass

    with _serving(Handler) as url:
        yield url


@contextmanager
def answering(
    answer: Callable[[str], Iterable[bytes]],
) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """Start an HTTP server that answers a request for a path with bytes, which may never end.

    Yields its URL, and the list of the requests: path and headers.
    """
    requests: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append((self.path, dict(self.headers)))
            try:
                for piece in answer(self.path):
                    self.wfile.write(piece)
            except OSError:  # the client has closed the connection
                pass

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with _serving(Handler) as url:
        yield url, requests


def json_answer(value: object, status: int = 200, date: str | None = None) -> bytes:
    """Return an HTTP response with JSON."""
    body = json.dumps(value).encode()
    header = f"Date: {date}\r\n" if date else ""
    head = f"HTTP/1.0 {status} X\r\n{header}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    # A thread for each request, because an answer may never end.
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
