"""The proxy: the effect of each fault, and the requests that a schedule chooses."""

import http.client
import socket
from concurrent.futures import Future
from urllib.parse import urlsplit

import pytest

from tests.object_store.faults import Fault, Request, at_request, every
from tests.object_store.faulty_proxy import running_proxy
from tests.object_store.s3_server import AUTHORIZATION

NOTHING = "no answer"
EFFECTS = {  # the answer to a write; whether it has taken effect then; and whether it does later
    Fault.REFUSED: (NOTHING, False, False),
    Fault.UNANSWERED: (NOTHING, False, False),
    Fault.CUT_REQUEST: (NOTHING, False, False),
    Fault.LATE_REQUEST: (NOTHING, False, True),
    Fault.LAST_REQUEST: (NOTHING, False, True),
    Fault.LOST_ANSWER: (NOTHING, True, True),
    Fault.RESET_ANSWER: (NOTHING, True, True),
    Fault.LATE_ANSWER: (NOTHING, True, True),
    Fault.HALF_ANSWER: (NOTHING, True, True),
    Fault.ERROR_BEFORE: ((500, "InternalError"), False, False),
    Fault.UNAVAILABLE_BEFORE: ((503, "ServiceUnavailable"), False, False),
    Fault.SLOW_DOWN_BEFORE: ((503, "SlowDown"), False, False),
    Fault.CONDITION_BEFORE: ((412, "PreconditionFailed"), False, False),
    Fault.ERROR_AFTER: ((500, "InternalError"), True, True),
    Fault.UNAVAILABLE_AFTER: ((503, "ServiceUnavailable"), True, True),
    Fault.SLOW_DOWN_AFTER: ((503, "SlowDown"), True, True),
    Fault.CONFLICT_AFTER: ((409, "ConditionalRequestConflict"), True, True),
    Fault.CONDITION_AFTER: ((412, "PreconditionFailed"), True, True),
}


class Client:
    """An HTTP client that keeps its connection, and sends each request once."""

    def __init__(self, proxy, bucket):
        self._address = urlsplit(proxy.url).netloc
        self._folder = f"/{bucket.url.removeprefix('s3://')}/"
        self._connection = http.client.HTTPConnection(self._address)

    def send(self, method, key, data=None, **headers):
        """Return the status and the body of the answer, or `NOTHING`."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["Authorization"] = AUTHORIZATION
        self._connection.timeout = headers.pop("timeout", 600)
        try:
            self._connection.request(method, self._folder + key, data, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return NOTHING


@pytest.fixture
def client(proxy, bucket):
    return Client(proxy, bucket)


def test_a_request_without_a_fault_is_passed_on_and_logged(client, proxy, bucket):
    assert client.send("PUT", "a", b"data", If_None_Match="*") == (200, b"")
    assert client.send("GET", "a?x=1") == (200, b"data")
    assert client.send("HEAD", "a") == (200, b"")
    assert client.send("GET", "b")[0] == 404
    name = bucket.url.removeprefix("s3://")
    assert [each.request for each in proxy.log] == [
        Request(1, "PUT", f"/{name}/a", "*"),
        Request(2, "GET", f"/{name}/a?x=1", ""),
        Request(3, "HEAD", f"/{name}/a", ""),
        Request(4, "GET", f"/{name}/b", ""),
    ]
    assert bucket.objects() == {"a": b"data"}


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
def test_a_fault_has_its_answer_and_its_effect(client, proxy, bucket, fault):
    answer, has_effect, has_late_effect = EFFECTS[fault]
    proxy.schedule = lambda request: fault if request.number == 1 else None
    found = client.send("PUT", "a", b"data" * 1000, timeout=0.5 if fault.is_timeout else 600)
    if answer is NOTHING:
        assert found is NOTHING
    else:
        status, code = answer
        assert found[0] == status
        assert f"<Code>{code}</Code>".encode() in found[1]
    assert (bucket.list_keys() == ["a"]) is has_effect
    proxy.settle()
    assert (bucket.list_keys() == ["a"]) is has_late_effect
    assert client.send("PUT", "b", b"")[0] == 200


def test_a_late_write_takes_effect_after_the_next_request_for_its_object(client, proxy, bucket):
    proxy.schedule = at_request(1, Fault.LATE_REQUEST)
    assert client.send("PUT", "a", b"data") is NOTHING
    assert client.send("GET", "b")[0] == 404
    assert client.send("GET", "a")[0] == 404
    assert client.send("GET", "a") == (200, b"data")


def test_half_of_a_body_arrives(client, proxy, bucket):
    bucket.put("a", b"x" * 1000)
    proxy.schedule = at_request(1, Fault.HALF_ANSWER)
    address = urlsplit(proxy.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        path = f"/{bucket.url.removeprefix('s3://')}/a"
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTHORIZATION}\r\n\r\n"
        connection.sendall(head.encode())
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert b"content-length: 1000\r\n" in received
    assert received.endswith(b"\r\n\r\n" + b"x" * 500)


def test_a_header_that_is_ignored_does_not_reach_the_server(s3_server, bucket):
    bucket.put("a", b"old")
    with running_proxy(s3_server.url, {"if-none-match"}) as proxy:
        client = Client(proxy, bucket)
        assert client.send("PUT", "a", b"new", If_None_Match="*")[0] == 200
        assert client.send("PUT", "a", b"newer", If_Match='"stale"')[0] == 412
    assert bucket.get("a") == b"new"


def test_a_request_is_held_until_its_fault_is_chosen(client, proxy, bucket):
    arrived, choice = Future(), Future()

    def hold(request):
        arrived.set_result(request)
        choice.set_result(Fault.LOST_ANSWER)
        return choice

    proxy.schedule = hold
    assert client.send("PUT", "a", b"data") is NOTHING
    assert arrived.result().method == "PUT"
    assert bucket.get("a") == b"data"


def requests(method, number):
    return [Request(each, method, "/bucket/key", "*") for each in range(1, number + 1)]


def test_a_schedule_has_its_fault_at_the_requests_that_it_names():
    faults = list(map(at_request(2, Fault.ERROR_AFTER, times=2), requests("PUT", 5)))
    assert faults == [None, Fault.ERROR_AFTER, Fault.ERROR_AFTER, None, None]


def test_only_a_conditional_write_is_in_conflict():
    choose = at_request(1, Fault.CONFLICT_AFTER)
    assert choose(Request(1, "PUT", "/bucket/key", "*")) is Fault.CONFLICT_AFTER
    assert choose(Request(1, "PUT", "/bucket/key", "")) is None
    assert choose(Request(1, "GET", "/bucket/key", "*")) is None


def test_a_schedule_has_one_fault_in_some_requests():
    choose = every(5, [Fault.LOST_ANSWER, Fault.ERROR_BEFORE])
    faults = list(map(choose, requests("PUT", 100)))
    per_five = [faults[start : start + 5] for start in range(0, 100, 5)]
    assert all(each.count(None) == 4 for each in per_five)
    assert {*faults} == {None, Fault.LOST_ANSWER, Fault.ERROR_BEFORE}
    assert len({each.index(next(filter(None, each))) for each in per_five}) > 2
