"""Fixtures: an S3 server for the session, and a bucket and a proxy for each test.

The first test that needs the server starts it. With pytest-xdist, each process of the tests
that runs such a test starts a separate server, which is simpler than sharing one.
"""

from collections.abc import Iterator

import pytest

from tests.object_store.faulty_proxy import FaultyProxy, running_proxy
from tests.object_store.s3_server import Bucket, S3Server, running_s3_server

__all__ = ["bucket", "faulty_bucket", "proxy", "s3_server", "use_server"]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server for all tests."""
    with running_s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket; the environment leads to its server."""
    use_server(monkeypatch, s3_server.url)
    return s3_server.new_bucket()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    """A proxy before the server."""
    with running_proxy(s3_server.url) as proxy:
        yield proxy


@pytest.fixture
def faulty_bucket(bucket: Bucket, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket; the environment leads to the proxy."""
    use_server(monkeypatch, proxy.url)
    return bucket


def use_server(patch: pytest.MonkeyPatch, url: str) -> None:
    """Set the usual variables of S3, for this process and those that it starts."""
    patch.setenv("AWS_ENDPOINT_URL", url)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_REGION", "us-east-1")
    patch.setenv("AWS_ALLOW_HTTP", "true")
