"""A server without conditional writes is refused; after network errors the probe is repeated."""

import pytest

from src.storage import open_path
from src.storage.objects.errors import RefusedError
from tests.object_store.faults import Fault, at_request
from tests.object_store.faulty_proxy import running_proxy
from tests.object_store.fixtures import use_server

FAULTS = (
    Fault.LATE_REQUEST,
    Fault.LAST_REQUEST,
    Fault.LOST_ANSWER,
    Fault.UNAVAILABLE_BEFORE,
    Fault.CONDITION_AFTER,
)
IGNORED = {  # the headers that a server ignores, and what the probe finds
    "creates": (["if-none-match"], "the server replaces a file that must not exist"),
    "swaps": (["if-match"], "the server replaces a file that was written since it was read"),
    "both": (["if-match", "if-none-match"], "the server replaces a file that must not exist"),
}


@pytest.fixture
def server(request, s3_server, bucket, monkeypatch):
    """A proxy before the server; ignores the headers that the test names."""
    with running_proxy(s3_server.url, getattr(request, "param", [])) as proxy:
        use_server(monkeypatch, proxy.url)
        yield proxy


def refused(root, create) -> str:
    """Return the reason why a write is refused, without the address and what to do."""
    with pytest.raises(RefusedError) as caught:
        create(root)
    place, reason = str(caught.value).split(": ", 1)
    assert place == root.store.url
    return reason.split(".")[0]


WRITES = {
    "create": lambda root: (root / "a").create(b"data"),
    "replace": lambda root: (root / "a").replace(b"data"),
    "probe": lambda root: root.store.probe(),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("server", "reason"), IGNORED.values(), ids=IGNORED, indirect=["server"])
def test_a_server_that_ignores_conditions_is_refused(server, reason, write, bucket):
    root = open_path(bucket.url)
    assert refused(root, WRITES[write]) == reason
    assert bucket.objects() == {}
    assert refused(root, WRITES[write]) == reason  # each time


def test_a_server_that_refuses_a_swap_with_the_right_tag_is_refused(server, bucket):
    server.schedule = lambda request: (
        Fault.CONDITION_BEFORE if request.method == "PUT" and request.condition != "*" else None
    )
    reason = refused(open_path(bucket.url), WRITES["create"])
    assert reason == "the server does not replace a file that is unchanged"
    assert bucket.objects() == {}


def test_a_server_with_conditions_is_probed_once(server, bucket):
    for key in ("a", "b"):
        (open_path(bucket.url) / key).create(b"data")
    paths = [each.request.path for each in server.log if each.request.method == "PUT"]
    assert [path.split("/")[2] for path in paths] == [*[".probe"] * 4, "a", "b"]
    assert bucket.objects() == {"a": b"data", "b": b"data"}


def test_the_probe_does_not_wait_for_a_server_that_deletes_nothing(server, bucket):
    def is_deletion(request):
        return request.method not in ("GET", "PUT")

    server.schedule = lambda request: Fault.UNAVAILABLE_BEFORE if is_deletion(request) else None
    (open_path(bucket.url) / "a").create(b"data")
    assert sum(is_deletion(each.request) for each in server.log) == 1
    [left] = set(bucket.objects()) - {"a"}
    assert left.startswith(".probe/")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.value)
def test_a_fault_is_no_reason_to_refuse_a_server(fault, server, bucket):
    number, has_fault = 0, True
    while has_fault:
        number += 1
        server.clear()
        server.schedule = at_request(number, fault)
        root = open_path(f"{bucket.url}/{number}")
        root.store.probe()
        has_fault = len(server.log) >= number
        server.settle()
    assert number > 8


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.value)
@pytest.mark.parametrize(
    ("server", "reason"), list(IGNORED.values())[:2], ids=list(IGNORED)[:2], indirect=["server"]
)
def test_a_fault_is_no_reason_to_accept_a_server_that_ignores_conditions(
    fault, server, reason, bucket
):
    number, has_fault = 0, True
    while has_fault:
        number += 1
        server.clear()
        server.schedule = at_request(number, fault)
        assert refused(open_path(f"{bucket.url}/{number}"), WRITES["probe"]) == reason
        has_fault = len(server.log) >= number
        server.settle()
