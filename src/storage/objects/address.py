"""Addresses of object stores, and the keys below them."""

import re
from dataclasses import dataclass

__all__ = ["SCHEMES", "Address", "is_valid_key", "parse_address", "without_credentials"]

SCHEMES = ("s3", "gs", "az")
"""The schemes of object stores: S3, Google Cloud Storage, Azure."""
_URL = re.compile("(?P<scheme>[a-z0-9+.-]+)://(?P<bucket>[^/]*)(?:/(?P<prefix>.*))?", re.DOTALL)
_BUCKET = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_NAME = re.compile(r"(?!\.{1,2}$)[^\x00-\x1f\x7f/\\\ud800-\udfff]+")  # a file or a folder
_NAME_IN_ADDRESS = re.compile(r"(?!\.{1,2}$)[^\x00-\x1f\x7f/\\?#%\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of the files in an object store.

    Attributes:
        scheme: `s3`, `gs` or `az`.
        bucket: The bucket, or the container of Azure.
        prefix: The prefix of the keys of all files, without `/` at its ends; may be empty.
    """

    scheme: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """The address as text."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def parse_address(url: str) -> Address:
    """Parse an address such as `s3://bucket/prefix`.

    Raises:
        ValueError: The address is not valid.
    """
    match = _URL.fullmatch(url)
    scheme, bucket, prefix = match.group("scheme", "bucket", "prefix") if match else ("", "", "")
    segments = (prefix or "").rstrip("/").split("/") if prefix else []
    if (
        scheme not in SCHEMES
        or not _BUCKET.fullmatch(bucket)
        or not all(map(_NAME_IN_ADDRESS.fullmatch, segments))
    ):
        raise ValueError(
            f"{without_credentials(url)[:200]!r}: expected the address of an object store: "
            "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, without a user "
            "name, a query or the characters ? # % \\."
        )
    return Address(scheme, bucket, "/".join(segments))


def without_credentials(url: str) -> str:
    """Return an address, perhaps not a valid one, for a message.

    Without what is before an `@` or after a `?` or `#`: passwords, which may contain any of these
    characters, and signatures.
    """
    match = re.match("[^:/@?#]*:/+", url)
    start = match[0] if match else ""
    return start + re.split("[?#]", url[len(start) :].rpartition("@")[2])[0]


def is_valid_key(key: str) -> bool:
    """Return whether a key names one object below an address."""
    return all(map(_NAME.fullmatch, key.split("/")))
