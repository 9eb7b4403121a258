"""Temporary files and folders that writers left when they were killed."""

import os
from collections.abc import Iterator
from pathlib import Path

from src.storage.folder import TEMPORARY_SUFFIX
from src.storage.locking import is_locked
from src.storage.new_folder import is_temporary

__all__ = ["leftover_files"]


def leftover_files(root: Path) -> Iterator[Path]:
    """Yield the temporary files and folders below `root` that no writer holds.

    No link is followed. A file of a writer that is between two of its steps can be yielded, too.
    """
    for here, folders, names in os.walk(root):
        temporary = [name for name in folders if is_temporary(name)]
        folders[:] = [name for name in folders if name not in temporary]
        temporary += [
            name for name in names if name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)
        ]
        for name in temporary:
            path = Path(here, name)
            if not _is_in_use(path):
                yield path


def _is_in_use(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:  # its writer has finished
        return True
    except OSError:  # a link, or a file of another user
        return False
    try:
        return is_locked(descriptor)
    finally:
        os.close(descriptor)
