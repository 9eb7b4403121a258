"""Tests of ops.notify without a server; tests/e2e has those with one."""

import io

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from ops import notify
from tests.network import free_port


def test_a_server_that_cannot_be_reached_is_one_error_and_exit_code_1(capsys):
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert notify.main(["https://hooks.example/x"]) == 1
    assert capsys.readouterr() == (
        "",
        "error: Prefect server: ConnectError: All connection attempts failed\n",
    )


@pytest.mark.parametrize("url", ["not-a-url", "ftp://example.com", ""])
def test_a_value_that_is_not_a_url_is_a_usage_error(capsys, url):
    with pytest.raises(SystemExit) as caught:
        notify.main([url])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(
        f"error: URL: found {url!r}. Expected http://... or https://...\n"
    )


def test_the_url_can_be_read_from_stdin(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("https://hooks.example/x\n"))
    notified = []

    async def notify_failures(url):
        notified.append(url)

    monkeypatch.setattr(notify, "notify_failures", notify_failures)
    assert (notify.main(["-"]), notified) == (0, ["https://hooks.example/x"])
