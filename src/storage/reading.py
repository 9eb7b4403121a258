"""Reading of untrusted files: regular files only, of bounded size."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import CorruptFileError, with_filename

__all__ = ["has_contents", "kind_of", "open_regular", "read_file"]

_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(path: Path, limit: int) -> bytes | None:
    """Read a regular file into memory; return `None` if there is no file.

    Raises:
        CorruptFileError: There is something other than a regular file, or the file is larger than
            `limit` bytes.
        OSError: The file cannot be read; names the file.
    """
    with _opened(path) as descriptor:
        if descriptor is None:
            return None
        size = os.fstat(descriptor).st_size
        data = _read_up_to(limit, descriptor, size) if size <= limit else None
    if data is None or len(data) > limit:
        raise CorruptFileError(f"{path}: larger than {limit:,} bytes. Left as found.")
    return data


def has_contents(path: Path, data: bytes) -> bool:
    """Return whether a file is there and has the bytes `data`; reads no larger file.

    Raises:
        CorruptFileError: There is something other than a regular file.
        OSError: The file cannot be read; names the file.
    """
    with _opened(path) as descriptor:
        if descriptor is None:
            return False
        size = os.fstat(descriptor).st_size
        return size == len(data) and _read_up_to(size, descriptor, size) == data


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Yield the descriptor of a regular file that is open for reading; `None` without a file."""
    with with_filename(path):
        try:
            descriptor = open_regular(path)
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


def open_regular(path: Path) -> int:
    """Open a regular file for reading; a FIFO or device is refused without waiting for it."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CorruptFileError(f"{path}: its links form a circle. Left as found.") from error
        if error.errno == errno.ENXIO:  # a socket
            raise _not_regular(path, "a socket or a device") from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_regular(path, kind_of(mode))
    return descriptor


def kind_of(mode: int) -> str:
    """Return what a file of this mode is, e.g. `a FIFO`; for an error."""
    return _KINDS.get(stat.S_IFMT(mode), "a file of an unknown kind")


def _not_regular(path: Path, found: str) -> CorruptFileError:
    return CorruptFileError(f"{path}: expected a regular file, found {found}. Left as found.")
