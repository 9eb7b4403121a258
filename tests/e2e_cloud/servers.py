"""Object stores of other projects, each a process that ends with the process that started it."""

import base64
import hashlib
import hmac
import http.client
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import boto3

from tests.checkout import ROOT
from tests.e2e.conftest import eventually
from tests.network import free_port

__all__ = ["SERVERS", "ObjectStore", "running_store"]

PYTHON_SERVERS = ROOT / ".venv/cloud-servers/bin"
NODE_SERVERS = ROOT / ".venv/node-servers/node_modules/.bin"
# The account of the emulator, which its documentation prints.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
BUCKET = "bucket"


class ObjectStore(NamedTuple):
    """A running server with an empty bucket.

    Attributes:
        url: The address of the bucket.
        variables: The environment that leads to the server.
        process: The id of its process.
    """

    url: str
    variables: Mapping[str, str]
    process: int


def _ministack(host: str, port: int, folder: Path) -> list[str]:
    settings = [f"BIND_HOST={host}", f"GATEWAY_PORT={port}"]
    return ["env", *settings, str(PYTHON_SERVERS / "ministack")]


def _localbucket(host: str, port: int, folder: Path) -> list[str]:
    command = PYTHON_SERVERS / "localbucket"
    return [str(command), "--host", host, "--port", str(port), str(folder)]


def _s3rver(host: str, port: int, folder: Path) -> list[str]:
    command = NODE_SERVERS / "s3rver"
    return [str(command), "--address", host, "--port", str(port), "--directory", str(folder)]


def _azurite(host: str, port: int, folder: Path) -> list[str]:
    command = [NODE_SERVERS / "azurite-blob", "--blobHost", host, "--blobPort", port]
    options = ["--skipApiVersionCheck", "--inMemoryPersistence", "--disableTelemetry"]
    return [*map(str, command), *options]


SERVERS = {
    "ministack": _ministack,
    "azurite": _azurite,
    "localbucket": _localbucket,
    "s3rver": _s3rver,
}
"""The command of each server, by its name."""


@contextmanager
def running_store(name: str, folder: Path, *, host: str = "127.0.0.1") -> Iterator[ObjectStore]:
    """Start a server; it ends with the block, and with this process.

    Args:
        name: One of `SERVERS`.
        folder: An empty folder, for its log and its data.
        host: The address of this machine at which it listens.
    """
    port, data = free_port(), folder / "data"
    data.mkdir()
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *SERVERS[name](host, port, data)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def is_listening() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with suppress(OSError), socket.create_connection((host, port), timeout=1):
            return True
        return False

    try:
        eventually(is_listening)
        variables = new_container if name == "azurite" else new_bucket
        yield ObjectStore(*variables(f"{host}:{port}"), process.pid)
    finally:
        process.kill()
        process.wait(60)


def new_bucket(server: str) -> tuple[str, dict[str, str]]:
    """Create a bucket; return its address, and the variables that lead to it."""
    key = "S3RVER"  # which s3rver wants; the others accept any
    url = f"http://{server}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=key,
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
    return f"s3://{BUCKET}", {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": key,
        "AWS_REGION": "us-east-1",
    }


def new_container(server: str) -> tuple[str, dict[str, str]]:
    """Create a container of Azure, by a request signed with the key of the account.

    https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    """
    path = f"/{AZURE_ACCOUNT}/{BUCKET}"
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
    signed = "PUT" + 12 * "\n" + "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    signed += f"/{AZURE_ACCOUNT}{path}\nrestype:container"
    signature = hmac.new(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(signature).decode()}"
    connection = http.client.HTTPConnection(server)
    try:
        connection.request("PUT", f"{path}?restype=container", b"", headers)
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
    finally:
        connection.close()
    return f"az://{BUCKET}", {
        "AZURE_STORAGE_ENDPOINT": f"http://{server}/{AZURE_ACCOUNT}",
        "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
    }
