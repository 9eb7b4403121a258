"""What a read says about a conditional write that ended with an error.

The error itself says little: a server that is asked again, by a proxy or a library, finds the bytes
of the first try and answers that another writer was faster; and an answer can be lost. So the file
is read, and these functions, which do no I/O, decide. The shape is that of `readback.rs` of
Icechunk (https://github.com/earth-mover/icechunk).
"""

from enum import Enum

__all__ = ["Outcome", "outcome_of_create", "outcome_of_swap"]


class Outcome(Enum):
    """What has become of a write."""

    WRITTEN = "the file has these bytes, written by this process or another one"
    OVERTAKEN = "another writer was faster, with other bytes"
    NOT_WRITTEN = "the file is as it was before; the write may still arrive, and then has no effect"


def outcome_of_create(new: bytes, found: bytes | None) -> Outcome:
    """Classify a write on the condition that there is no file.

    Args:
        new: The bytes that were to be written.
        found: The bytes of the file after the error; `None` if there is no file.
    """
    return outcome_of_swap(None, new, found)


def outcome_of_swap(before: bytes | None, new: bytes, found: bytes | None) -> Outcome:
    """Classify a write on the condition that the file was not written since it was read.

    Args:
        before: The bytes that were read before the write; `None` if there was no file.
        new: The bytes that were to be written.
        found: The bytes of the file after the error; `None` if there is no file.
    """
    if found == new:
        return Outcome.WRITTEN
    return Outcome.NOT_WRITTEN if found == before else Outcome.OVERTAKEN
