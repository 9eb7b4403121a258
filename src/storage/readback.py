"""The outcome of a conditional write that ended with an error, by reading the file afterwards.

The error does not decide it. If a proxy or a library repeats a request, the server finds the bytes
of the first one and answers that another writer was faster; and an answer can be lost. So the
caller reads the file, and these functions, which do no I/O, classify what was found. The design is
that of `readback.rs` of Icechunk (https://github.com/earth-mover/icechunk).
"""

from enum import Enum

__all__ = ["Outcome", "outcome_of_swap"]


class Outcome(Enum):
    """The outcome of a write."""

    WRITTEN = "the file has these bytes, written by this process or another one"
    OVERTAKEN = "another writer was faster: the file has other bytes, or was deleted"
    NOT_WRITTEN = "the file is as it was; the write may still take effect, until another one does"


def outcome_of_swap(before: bytes | None, new: bytes, found: bytes | None) -> Outcome:
    """Classify a write whose condition was that the file had not been written since it was read.

    A file that must not exist is one that was not there when it was read.

    Args:
        before: The bytes that were read before the write; `None` if there was no file.
        new: The bytes that were to be written.
        found: The bytes of the file after the error; `None` if there is no file.
    """
    if found == new:
        return Outcome.WRITTEN
    return Outcome.NOT_WRITTEN if found == before else Outcome.OVERTAKEN
