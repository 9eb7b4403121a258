"""Settings with which an object store cannot be opened."""

import pytest

from src.storage.objects.address import Address
from src.storage.objects.errors import RefusedError
from src.storage.objects.opening import open_store, server_address

ADDRESS = Address("s3", "bucket", "team")


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word")


@pytest.mark.parametrize(
    "server",
    [
        "http://127.0.0.1:9000",
        "http://localhost:9000/",
        "https://[::1]:9000",
        "https://minio.example.com/path",
    ],
)
def test_the_address_of_a_server_has_a_scheme_a_host_and_perhaps_a_port(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    open_store(ADDRESS, max_retries=0)
    assert server_address("s3") == server


@pytest.mark.parametrize(
    "server",
    ["127.0.0.1:9000", "localhost", "ftp://host", "http://host:port", "http://host:1 ", "http://"],
)
def test_any_other_address_of_a_server_is_refused_with_its_variable(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    with pytest.raises(RefusedError) as caught:
        open_store(ADDRESS, max_retries=0)
    assert str(caught.value) == (
        f"s3://bucket/team: the address of the server is {server!r}. Expected one such as "
        "https://HOST:PORT or http://HOST:PORT in AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL or "
        "AWS_ENDPOINT."
    )


def test_the_address_of_a_server_is_named_without_credentials(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://name:word@host:port")
    with pytest.raises(RefusedError, match="the server is 'http://host:port'"):
        open_store(ADDRESS, max_retries=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "value\n"),
        ("AWS_SECRET_ACCESS_KEY", " value"),
        ("AWS_REGION", "value\n"),
        ("AWS_SESSION_TOKEN", "valu\xe9"),
    ],
)
def test_a_setting_with_a_line_end_is_named_without_its_value(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(RefusedError) as caught:
        open_store(ADDRESS, max_retries=0)
    assert str(caught.value) == (
        f"s3://bucket/team: {name} has a space or a line end at one of its ends, or a character "
        "that is not ASCII. Set it without."
    )


def test_a_profile_that_does_not_exist_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "tema")
    with pytest.raises(RefusedError) as caught:
        open_store(ADDRESS, max_retries=0)
    assert str(caught.value) == (
        "s3://bucket/team: no credentials of AWS: The config profile (tema) could not be found. "
        "Correct AWS_PROFILE, or ~/.aws/config and ~/.aws/credentials."
    )
