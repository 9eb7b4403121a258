"""Copies to a bucket whose server stops answering at any write, and copies with other faults."""

from collections.abc import Iterator
from itertools import count

import pytest

from src.lineage.verify import verdict, verify_all
from src.storage import StorePath, open_path
from src.transfer.plan import plan_copy
from tests.object_store.faults import Fault, Request, Schedule, every
from tests.object_store.faulty_proxy import FaultyProxy, running_proxy
from tests.object_store.fixtures import use_server
from tests.object_store.s3_server import Bucket
from tests.torture.harness import LONG
from tests.transfer.conftest import record

STOPS = (Fault.LOST_ANSWER, Fault.REFUSED) if LONG else (Fault.LOST_ANSWER,)


@pytest.fixture(scope="module")
def faulty(s3_server) -> Iterator[tuple[StorePath, Bucket, FaultyProxy]]:
    """A bucket as a store that was probed, by plain requests, and the proxy before it."""
    with running_proxy(s3_server.url) as proxy, pytest.MonkeyPatch.context() as patch:
        use_server(patch, proxy.url)
        patch.setattr("src.storage.objects.client.RETRY_SECONDS", 0.0)
        bucket = s3_server.new_bucket()
        root = open_path(bucket.url)
        (root / "probed").create(b"")
        yield root, bucket, proxy


def stop_at_write(number: int, fault: Fault) -> Schedule:
    """Return a schedule with a fault at a write, after which no request is answered."""
    writes, is_stopped = count(1), False

    def choose(request: Request) -> Fault | None:
        nonlocal is_stopped
        if is_stopped:
            return Fault.REFUSED
        is_stopped = request.is_write and next(writes) == number
        return fault if is_stopped else None

    return choose


def copied(source, destination) -> int:
    plan_copy(source, destination).run()
    return len(plan_copy(source, destination).steps)


@pytest.mark.parametrize("fault", STOPS, ids=lambda fault: fault.value)
def test_a_copy_that_was_stopped_at_any_write_leaves_no_altered_model_and_is_continued(
    fault, faulty, source
):
    root, bucket, proxy = faulty
    place, number, is_stopped = fault.name, 0, True
    expected = None
    while is_stopped:
        number += 1
        destination = root / f"{place}-{number}"
        plan = plan_copy(source, destination)
        proxy.schedule = stop_at_write(number, fault)
        is_stopped = False
        try:
            plan.run()
        except OSError:
            is_stopped = True
        proxy.clear()
        proxy.settle()
        found = {verdict(checks) for _, checks in verify_all(destination)}
        assert found <= {"MATCH", "AS RECORDED", "UNFINISHED"}, number
        assert copied(source, destination) == 0
        objects = bucket.objects(f"{place}-{number}/")
        expected = expected or objects
        assert objects == expected, number
    assert number == len(record(source)) + 1


def test_a_copy_with_a_fault_at_every_fifth_request_has_the_bytes_of_one_without(
    faulty, source, monkeypatch
):
    root, bucket, proxy = faulty
    monkeypatch.setattr("src.storage.objects.client.RETRY_SECONDS", 60.0)
    assert copied(source, root / "without") == 0
    faults = (Fault.REFUSED, Fault.LOST_ANSWER, Fault.UNAVAILABLE_BEFORE, Fault.ERROR_AFTER)
    proxy.schedule = every(5, faults, seed=1)
    plan_copy(source, root / "with").run()
    plan_copy(root / "with", "back").run()
    proxy.clear()
    assert bucket.objects("with/") == bucket.objects("without/")
    assert record(source.parent / "back") == record(source)
