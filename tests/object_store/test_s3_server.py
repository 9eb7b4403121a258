"""The S3 server of the tests: objects, conditional writes, and when it ends."""

import os
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

from tests.conftest import REPOSITORY

STARTED_BY_A_PROCESS = """
from tests.object_store.s3_server import running_s3_server
with running_s3_server() as server:
    print(server.url, flush=True)
    input()
"""


@pytest.fixture
def store(bucket):
    """The bucket, as the library sees it."""
    return S3Store.from_url(bucket.url)


def test_a_bucket_has_the_objects_that_were_put(bucket, store):
    bucket.put("a/b c/é", b"one")
    obstore.put(store, "a/b", b"two")
    assert bucket.objects() == {"a/b": b"two", "a/b c/é": b"one"}
    assert bucket.objects("a/b c/") == {"é": b"one"}
    bucket.delete("a/b")
    assert bucket.list_keys() == ["a/b c/é"]


def test_an_object_is_created_once_by_many_threads(bucket, store):
    def create(number):
        try:
            obstore.put(store, f"key-{number // 8}", b"%d" % number, mode="create")
        except AlreadyExistsError:
            return None
        return b"%d" % number

    with ThreadPoolExecutor(8) as pool:
        created = [data for data in pool.map(create, range(160)) if data]
    assert sorted(bucket.objects().values()) == sorted(created)
    assert len(created) == 20


def test_a_swap_with_a_stale_tag_is_refused(bucket, store):
    tag = obstore.put(store, "key", b"one", mode="create")["e_tag"]
    obstore.put(store, "key", b"two", mode={"e_tag": tag})
    with pytest.raises(PreconditionError):
        obstore.put(store, "key", b"three", mode={"e_tag": tag})
    assert bucket.get("key") == b"two"


def test_a_server_ends_with_a_process_that_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", STARTED_BY_A_PROCESS],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b"http://127.0.0.1:")
        [server] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        descriptor = os.pidfd_open(int(server))
        process.kill()
        ended, _, _ = select.select([descriptor], [], [], 600)  # against a hang
        assert ended == [descriptor]
        os.close(descriptor)
