"""Digests of files."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from src.errors import truncated_repr

__all__ = ["Digest", "digest_of_files", "digests_from_json", "digests_to_json"]

_SHA256 = re.compile("[0-9a-f]{64}")


class Digest(NamedTuple):
    """Size and SHA-256 of a file.

    Attributes:
        size: Its size in bytes.
        sha256: The SHA-256 of its bytes, as 64 hexadecimal digits.
    """

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> "Digest":
        """Return size and SHA-256 of the bytes of a file."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


def digest_of_files(files: Mapping[str, Digest]) -> str:
    """Return the SHA-256 of the names, sizes and digests of files; their order has no effect."""
    text = json.dumps(digests_to_json(files), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digests_to_json(files: Mapping[str, Digest]) -> dict[str, dict[str, int | str]]:
    """Return digests by path in the form that JSON files have."""
    return {name: {"sha256": each.sha256, "size": each.size} for name, each in files.items()}


def digests_from_json(value: object) -> dict[str, Digest]:
    """Parse digests by path.

    Raises:
        ValueError: A size is not an integer from 0, or a digest not one of SHA-256.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected digests by path, found {truncated_repr(value)}.")
    files: dict[str, Digest] = {}
    for name, each in value.items():
        size, sha256 = (
            (each.get("size"), each.get("sha256")) if isinstance(each, dict) else (None, None)
        )
        if (
            not isinstance(size, int)
            or isinstance(size, bool)
            or not isinstance(sha256, str)
            or not _SHA256.fullmatch(sha256)
        ):
            raise ValueError(f"{name}: expected size and sha256, found {truncated_repr(each)}.")
        files[name] = Digest(size, sha256)
    return files
