import pytest

from src.storage.objects.address import (
    Address,
    is_valid_key,
    parse_address,
    without_credentials,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket", Address("s3", "bucket", "")),
        ("s3://bucket/", Address("s3", "bucket", "")),
        ("s3://bucket/team/artifacts", Address("s3", "bucket", "team/artifacts")),
        ("s3://bucket/team/artifacts/", Address("s3", "bucket", "team/artifacts")),
        ("gs://my.bucket_1/a b/é", Address("gs", "my.bucket_1", "a b/é")),
        ("az://container/x", Address("az", "container", "x")),
    ],
)
def test_an_address_has_a_scheme_a_bucket_and_a_prefix(text, address):
    assert parse_address(text) == address
    assert parse_address(address.url) == address


@pytest.mark.parametrize(
    "text",
    [
        "http://bucket/x",
        "file:///x",
        "S3://bucket/x",
        "s3:/bucket/x",
        "s3://",
        "s3:///x",
        "s3://-bucket/x",
        "s3://buc ket/x",
        "s3://name:word@bucket/x",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/./x",
        "s3://bucket/x?versionId=1",
        "s3://bucket/x#y",
        "s3://bucket/%2e%2e",
        "s3://bucket/a\\b",
        "s3://bucket/a\nb",
        "s3://bucket/a\0",
    ],
)
def test_any_other_address_is_refused_with_what_is_possible(text):
    with pytest.raises(ValueError, match="expected the address of an object store: s3://BUCKET"):
        parse_address(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/team", "s3://bucket/team"),
        ("s3://name:word@bucket/team", "s3://bucket/team"),
        ("s3://name:wo/rd@bucket/team", "s3://bucket/team"),
        ("s3:/name:word@bucket/team", "s3:/bucket/team"),
        ("s3://bucket/team?X-Amz-Signature=word", "s3://bucket/team"),
    ],
)
def test_a_message_names_an_address_without_what_may_be_credentials(url, shown):
    assert without_credentials(url) == shown


def test_the_error_for_an_address_with_credentials_does_not_have_them():
    with pytest.raises(ValueError) as caught:
        parse_address("s3://name:word@bucket/x?sig=secret")
    assert str(caught.value).startswith("'s3://bucket/x': expected the address")


@pytest.mark.parametrize("key", ["a", "a/b c/é.json", ".probe/x", "weights/100%?#.bin"])
def test_the_names_of_a_key_are_those_of_files(key):
    assert is_valid_key(key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a/../b", "a/.", "a\nb", "a\\b"])
def test_a_key_that_leads_elsewhere_is_not_valid(key):
    assert not is_valid_key(key)
