"""Tests of requests to servers that answer anything."""

from datetime import UTC, datetime

import pytest

from ops import answer
from ops.answer import AnswerError, LoginError, Server, expected_form
from tests.network import answering, free_port, json_answer

SECRET = "hunter2"
OK = b"HTTP/1.0 200 OK\r\n"


def ask(response):
    """Return the JSON that a server answers with these bytes."""
    with answering(lambda _: [response]) as (url, _):
        return Server(f"{url}/api").get("/x").json()


def test_a_value_is_returned_with_the_time_of_the_server():
    date = "Sun, 29 Nov 2026 10:00:00 GMT"
    with answering(lambda _: [json_answer({"a": 1}, date=date)]) as (url, requests):
        found = Server(f"{url}/api/", {"Authorization": "Basic x"}).post("/y", name="z")
    assert found.json() == {"a": 1}
    assert found.date == datetime(2026, 11, 29, 10, tzinfo=UTC)
    [(path, headers)] = requests
    assert path == "/api/y"
    assert (headers["Authorization"], headers["Accept-Encoding"]) == ("Basic x", "identity")


@pytest.mark.parametrize("date", [None, "x", "Sun, 99 Nov 2026 10:00:00 GMT", "\x01", "0" * 5000])
def test_a_time_that_is_not_valid_is_none(date):
    with answering(lambda _: [json_answer(1, date=date)]) as (url, _):
        assert Server(url).get("/").date is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_an_error_of_its_kind(status):
    with pytest.raises(LoginError) as caught:
        ask(json_answer({}, status=status))
    assert str(caught.value) == f"{status}: the login is refused."


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (json_answer({}, 500), "answered HTTP status 500. Expected 200."),
        (json_answer({}, 302), "answered HTTP status 302. Expected 200."),
        (OK + b"\r\n<html>", "not the API of a Prefect server."),
        (OK + b"\r\n" + b"[" * 10**5, "not the API of a Prefect server."),
        (OK + b"\r\n\xff\xfe", "not the API of a Prefect server."),
        (OK + b"\r\n", "not the API of a Prefect server."),
        (b"\x00\xff", "no server answers: RemoteProtocolError."),
        (b"", "no server answers: RemoteProtocolError."),
        (OK + b"Content-Length: 9\r\n\r\n1", "no server answers: RemoteProtocolError."),
    ],
)
def test_a_response_that_is_not_json_of_a_server_is_an_error(response, error):
    with pytest.raises(AnswerError) as caught:
        ask(response)
    assert str(caught.value) == error


def test_an_answer_without_an_end_is_read_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(answer, "LIMIT", 10**6)

    def endless(_):
        yield OK + b"\r\n"
        while True:
            yield b" " * 10**5

    with (
        answering(endless) as (url, _),
        pytest.raises(AnswerError, match="its answer is larger than 1,000,000 bytes"),
    ):
        Server(url).get("/")


def test_a_port_without_a_server_is_an_error():
    with pytest.raises(AnswerError, match=r"^no server answers: .*[Cc]onnection refused"):
        Server(f"http://127.0.0.1:{free_port()}").get("/")


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"http://user:{SECRET}@127.0.0.1:99999/api", {}),
        (f"http://user:p@{SECRET}:x@host/api", {}),
        (f"ftp://user:{SECRET}@host/api", {}),
        (f"{SECRET}", {}),
        ("http://127.0.0.1:1", {"Authorization": f"Bearer {SECRET}\n"}),
        ("http://127.0.0.1:1", {"Authorization": f"Bearer {SECRET}é"}),
        ("http://127.0.0.1:1", {SECRET + ":": "a"}),
    ],
)
def test_no_error_has_the_credentials(url, headers):
    with pytest.raises(AnswerError) as caught:
        Server(url, headers).get("/")
    assert SECRET not in str(caught.value)


def test_a_file_of_certificates_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(AnswerError, match=r"^no server answers: FileNotFoundError\.$"):
        Server("https://127.0.0.1:1", verify=str(tmp_path / "none")).get("/")


def test_a_value_of_another_form_is_one_error():
    for value in (1, {}, [], {"name": None}):
        with pytest.raises(AnswerError) as caught, expected_form():
            [each["name"][0] for each in [value]]
        assert str(caught.value) == (
            "the server answers in an unknown form: not the API of a Prefect server."
        )
