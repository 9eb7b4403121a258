"""Exceptions that every part of the core raises, and helpers for their messages."""

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CorruptFileError", "too_large", "truncated_repr", "with_filename"]


class CorruptFileError(ValueError):
    """Raised when a file cannot be parsed, was altered, or is not a regular file."""


def too_large(path: object, limit: int) -> CorruptFileError:
    """Return the error for a file of more than `limit` bytes."""
    return CorruptFileError(f"{path}: larger than {limit:,} bytes. Left as found.")


def truncated_repr(value: object) -> str:
    """Return `repr(value)`, truncated where it is long or deeply nested."""
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 200


@contextmanager
def with_filename(path: object) -> Iterator[None]:
    """Add `path` to an `OSError` that has no filename, such as a failed read or fsync."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
