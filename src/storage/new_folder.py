"""A new folder of files, which appears whole or not at all."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from src.digest import Digest
from src.errors import CorruptFileError, with_filename
from src.storage.entry import Entry, open_entry
from src.storage.locking import try_lock
from src.storage.tree import copy_pieces

__all__ = ["LocalFolder", "create_folder", "is_temporary", "new_folder"]

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.tmp")


class LocalFolder:
    """A folder that is being written; implements `NewFolder`.

    Args:
        path: Its temporary path, until all files are written.
        descriptor: The open folder.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, name: str, data: Iterable[bytes | memoryview]) -> None:
        """Write a file durably; folders in its name are created.

        Raises:
            FileExistsError: The folder has a file of this name.
        """
        opened = open_entry(self._path, name, make=True, opened_root=self._descriptor)
        with with_filename(self._path / name), opened as entry:
            with open(entry.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.writelines(data)
                file.flush()
                os.fsync(file.fileno())
            entry.sync_folder()

    def copy(self, source: Path, name: str, digest: Digest, target: str) -> None:
        """Copy the file `name` below the folder `source` to the file `target`; see `write`.

        Raises:
            CorruptFileError: It is not a regular file, or its path has a link.
            FileChangedError: It does not have this digest.
        """
        with closing(copy_pieces(source, name, digest)) as pieces:
            self.write(target, pieces)


@contextmanager
def new_folder(path: Path) -> Iterator[LocalFolder]:
    """Yield a folder outside of any artifacts root; see `create_folder`.

    Args:
        path: Does not exist, or is an empty folder other than the working directory; links are
            followed.

    Raises:
        FileNotFoundError: The parent folder of `path` does not exist.
        ValueError: `path` exists and is not an empty folder, or is the working directory.
    """
    real = Path(os.path.realpath(path))
    if real == Path.cwd():
        raise ValueError(f"{path}: expected a new folder, found the working directory.")
    if not real.parent.is_dir():
        raise FileNotFoundError(f"{real.parent}: no such folder. Create it first.")
    try:
        with open_entry(real.parent, real.name) as entry, create_folder(entry) as folder:
            yield folder
    except FileExistsError as error:
        if error.filename != str(real):
            raise
        reason = "expected a new or an empty folder, found other files."
        raise ValueError(f"{path}: {reason}") from error


@contextmanager
def create_folder(entry: Entry) -> Iterator[LocalFolder]:
    """Yield a folder beside `entry`, which becomes `entry` at the end of the block, durably.

    If the block raises, the folder is removed. A process that is killed leaves it, as
    `.<name>.<random digits>.tmp`; the next call for the same entry removes it.

    Args:
        entry: Does not exist, or is an empty folder.

    Raises:
        FileExistsError: `entry` exists and is not an empty folder.
    """
    _check_absent(entry)
    _remove_abandoned(entry)
    with _temporary_folder(entry) as (temporary, descriptor):
        yield LocalFolder(temporary.path, descriptor)
        try:
            temporary.replace(entry)  # of folders, it replaces only an empty one
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise _exists_error(entry) from error
            raise
        entry.sync_folder()


def is_temporary(name: str) -> bool:
    """Return whether a folder of this name is being written, or was when a process was killed."""
    return _TEMPORARY.fullmatch(name) is not None


def _check_absent(entry: Entry) -> None:
    """Raise FileExistsError if there is something other than an empty folder."""
    if entry.exists():
        try:
            with entry.opened_folder() as descriptor, os.scandir(descriptor) as files:
                is_empty = next(files, None) is None
        except NotADirectoryError as error:
            raise _exists_error(entry) from error
        if not is_empty:
            raise _exists_error(entry)


def _exists_error(entry: Entry) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(entry.path))


@contextmanager
def _temporary_folder(entry: Entry) -> Iterator[tuple[Entry, int]]:
    """Create a folder, and yield it and its locked descriptor; remove it if the block raises."""
    while True:
        temporary = entry.sibling(f".{entry.path.name}.{secrets.token_hex(4)}.tmp")
        os.mkdir(temporary.path.name, dir_fd=entry.folder)
        with ExitStack() as opened:
            try:
                descriptor = _locked(temporary, opened)
                if descriptor is not None:
                    yield temporary, descriptor
                    return
            except BaseException:
                _remove(temporary)
                raise
            _remove(temporary)


def _locked(folder: Entry, opened: ExitStack) -> int | None:
    """Open and lock a new folder; return `None` if another process found it abandoned before."""
    try:
        descriptor = opened.enter_context(folder.opened_folder())
    except FileNotFoundError:
        return None
    return descriptor if try_lock(descriptor) and folder.exists() else None


def _remove_abandoned(entry: Entry) -> None:
    """Remove the temporary folders of processes that were killed: their lock is free."""
    for each in entry.siblings():
        match = _TEMPORARY.fullmatch(each.path.name)
        if match and match["name"] == entry.path.name:
            with suppress(OSError, CorruptFileError), each.opened_folder() as descriptor:
                if try_lock(descriptor):
                    _remove(each)


def _remove(folder: Entry) -> None:
    shutil.rmtree(folder.path.name, ignore_errors=True, dir_fd=folder.folder)
