"""Reading of files that anybody may have written: regular files only, of bounded size."""

import errno
import os
import stat
from pathlib import Path

from src.errors import CorruptFileError, with_filename

__all__ = ["open_regular", "read_file"]

_KINDS = {
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
    with with_filename(path):
        try:
            descriptor = open_regular(path)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(descriptor).st_size
            pieces: list[bytes] = []
            done = 0
            while size <= limit >= done and (
                piece := os.read(descriptor, max(size - done, 1 << 12))
            ):
                pieces.append(piece)
                done += len(piece)
        finally:
            os.close(descriptor)
    if max(size, done) > limit:
        raise CorruptFileError(f"{path}: larger than {limit:,} bytes. Left as found.")
    return b"".join(pieces)


def open_regular(path: Path) -> int:
    """Open a regular file for reading; a FIFO or device is refused without waiting for it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CorruptFileError(f"{path}: its links form a circle. Left as found.") from error
        if error.errno == errno.ENXIO:  # a socket
            raise _not_regular(path, "a socket or a device") from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_regular(path, _KINDS[stat.S_IFMT(mode)])
    return descriptor


def _not_regular(path: Path, found: str) -> CorruptFileError:
    return CorruptFileError(f"{path}: expected a regular file, found {found}. Left as found.")
