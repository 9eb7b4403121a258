"""An S3 server on this machine: moto, with one lock around each request.

Moto checks the condition of a write and writes in two steps, in many threads. Without a lock two
writers could both create one object.

`python -m tests.object_store.s3_server` serves on a free port, which it prints, until its standard
input is closed. So it also ends when the test process is killed.
"""

import http.client
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4
from xml.etree import ElementTree

__all__ = ["Bucket", "S3Server", "running_s3_server"]

REPOSITORY = Path(__file__).parents[2]
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
# Moto checks no signature, but wants one for reads.
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
SETTINGS = {
    "MOTO_DISABLE_GLOBAL_CORS": "true",
    "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(1 << 23),  # larger objects are kept on the disk
    "S3_UPLOAD_PART_MIN_SIZE": "1",
}
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class S3Server:
    """A running server, which accepts any credentials.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def new_bucket(self) -> "Bucket":
        """Create an empty bucket."""
        name = f"bucket-{uuid4().hex[:12]}"
        self.request("PUT", f"/{name}")
        return Bucket(self, name)

    def request(self, method: str, path: str, data: bytes | None = None) -> bytes:
        """Send one request; return the body of the answer."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc)
        try:
            connection.request(method, path, data, {"Authorization": AUTHORIZATION})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, (method, path, answer.status, body)
        return body


class Bucket:
    """A bucket, read and written by plain requests: independent of the code under test.

    Attributes:
        url: Its address, as users write it.
    """

    def __init__(self, server: S3Server, name: str) -> None:
        self._server = server
        self._name = name
        self.url = f"s3://{name}"

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._server.request("PUT", self._path(key), data)

    def get(self, key: str) -> bytes:
        """Return the bytes of an object."""
        return self._server.request("GET", self._path(key))

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._server.request("DELETE", self._path(key))

    def list_keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a prefix, sorted; a prefix has at most 1,000."""
        query = f"?list-type=2&prefix={quote(prefix, safe='')}"
        listed = ElementTree.fromstring(self._server.request("GET", f"/{self._name}{query}"))
        assert listed.findtext(f"{NAMESPACE}IsTruncated") == "false"
        return sorted(str(each.text) for each in listed.iter(f"{NAMESPACE}Key"))

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Return every object whose key begins with a prefix: the rest of its key, its bytes."""
        return {key.removeprefix(prefix): self.get(key) for key in self.list_keys(prefix)}

    def _path(self, key: str) -> str:
        return f"/{self._name}/{quote(key)}"


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Start a server in a separate process; it ends with the block, and with this process."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.object_store.s3_server"],
        cwd=REPOSITORY,
        env={**os.environ, **SETTINGS},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        yield S3Server(f"http://127.0.0.1:{port}")
        process.stdin.close()


def _serialized(application: Application) -> Application:
    """Return an application that handles one request at a time; bodies are read before."""
    lock = threading.Lock()

    def handle(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        if size:
            body = environ["wsgi.input"].read(size)
            if len(body) < size:  # the client has closed the connection
                start("400 Bad Request", [("Content-Length", "0")])
                return []
            environ["wsgi.input"] = io.BytesIO(body)
        with lock:
            return list(application(environ, start))

    return handle


def _serve() -> None:
    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = create_backend_app("s3")
    server = make_server("127.0.0.1", 0, _serialized(application), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # without waiting for the requests of other threads


if __name__ == "__main__":
    _serve()
