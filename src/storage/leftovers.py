"""Temporary files that writers left in a folder when they were killed."""

import os
from collections.abc import Iterator
from pathlib import Path

from src.storage.folder import TEMPORARY_SUFFIX
from src.storage.locking import is_locked

__all__ = ["leftover_files"]


def leftover_files(root: Path) -> Iterator[Path]:
    """Yield the temporary files below `root` that no writer holds; no link is followed.

    A file of a writer that is between two of its steps can be yielded, too.
    """
    for here, _, names in os.walk(root):
        for name in names:
            if name.startswith(".") and name.endswith(TEMPORARY_SUFFIX):
                path = Path(here, name)
                if not _is_in_use(path):
                    yield path


def _is_in_use(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:  # its writer has finished
        return True
    except OSError:
        return False
    try:
        return is_locked(descriptor)
    finally:
        os.close(descriptor)
