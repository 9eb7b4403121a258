"""Reading of untrusted files: regular files only, of bounded size."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from src.errors import CorruptFileError, too_large, with_filename

__all__ = ["check_no_hole", "has_contents", "kind_of", "open_regular", "read_file", "refused_link"]

_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(path: Path, limit: int, *, folder: int | None = None) -> bytes | None:
    """Read a regular file into memory; return `None` if there is no file.

    Args:
        path: The file.
        limit: Its largest size in bytes.
        folder: The descriptor of the folder that holds the file. With it, a link is refused;
            without, links are followed.

    Raises:
        CorruptFileError: There is something other than a regular file, or the file is larger than
            `limit` bytes.
        OSError: The file cannot be read; names the file.
    """
    with _opened(path, folder) as descriptor:
        if descriptor is None:
            return None
        size = os.fstat(descriptor).st_size
        data = _read_up_to(limit, descriptor, size) if size <= limit else None
    if data is None or len(data) > limit:
        raise too_large(path, limit)
    return data


def has_contents(path: Path, data: bytes, *, folder: int) -> bool:
    """Return whether a file is there and has the bytes `data`; reads no larger file.

    Args:
        path: The file; a link is refused.
        data: The bytes.
        folder: The descriptor of the folder that holds the file.

    Raises:
        CorruptFileError: There is something other than a regular file.
        OSError: The file cannot be read; names the file.
    """
    with _opened(path, folder) as descriptor:
        if descriptor is None:
            return False
        size = os.fstat(descriptor).st_size
        return size == len(data) and _read_up_to(size, descriptor, size) == data


@contextmanager
def _opened(path: Path, folder: int | None) -> Iterator[int | None]:
    """Yield the descriptor of a regular file that is open for reading; `None` without a file."""
    with with_filename(path):
        try:
            descriptor = open_regular(path, folder=folder)
        except FileNotFoundError:
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _read_up_to(limit: int, descriptor: int, size: int) -> bytes:
    """Read an open file of about `size` bytes; stop at the first piece beyond `limit`."""
    pieces: list[bytes] = []
    done = 0
    while done <= limit and (piece := os.read(descriptor, max(size - done, 1 << 12))):
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)


# Do not wait for the writer of a FIFO, nor make a terminal the one that controls this process.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_regular(path: Path, *, folder: int | None = None) -> int:
    """Open a regular file for reading; a FIFO or device is refused without waiting for it.

    Args:
        path: The file.
        folder: See `read_file`.
    """
    try:
        if folder is None:
            # To open a FIFO or a device can have an effect on the process at its other end.
            _check_regular(path.stat().st_mode, path)
            descriptor = os.open(path, _FLAGS)
        else:
            descriptor = os.open(path.name, _FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        error.filename = str(path)
        if error.errno == errno.ELOOP:
            if folder is not None:
                raise refused_link(path, "a regular file") from error
            raise CorruptFileError(f"{path}: its links form a circle. Left as found.") from error
        if error.errno == errno.ENXIO:  # a socket
            raise _not_regular(path, "a socket or a device") from error
        raise
    try:
        _check_regular(os.fstat(descriptor).st_mode, path)
    except CorruptFileError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise _not_regular(path, kind_of(mode))


def kind_of(mode: int) -> str:
    """Return what a file of this mode is, e.g. `a FIFO`; for an error."""
    return _KINDS.get(stat.S_IFMT(mode), "a file of an unknown kind")


def refused_link(path: Path, expected: str) -> CorruptFileError:
    """Return the error for a link in place of `expected`."""
    return CorruptFileError(
        f"{path}: expected {expected}, found a link, which is not followed. Nothing was written; "
        "remove the link."
    )


def _not_regular(path: Path, found: str) -> CorruptFileError:
    return CorruptFileError(f"{path}: expected a regular file, found {found}. Left as found.")


def check_no_hole(file: FileIO, size: int, path: Path) -> None:
    """Check that all bytes of a file are stored: a sparse file can be larger than any disk."""
    try:
        hole = file.seek(0, os.SEEK_HOLE)
    except OSError:  # the file system cannot say, or the file is empty
        hole = size
    file.seek(0)
    if hole < size:
        raise CorruptFileError(
            f"{path}: a sparse file: no data is stored from byte {hole:,} on. Expected a file "
            "whose bytes are all stored. Left as found."
        )
