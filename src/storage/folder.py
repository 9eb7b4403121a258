"""The folder back end: a store in a local POSIX file system.

Writing a file: write to a temporary file in the same folder, fsync, move the file to its name
(link for `create`, rename otherwise), fsync the folder. A temporary file is named after its target
and locked by its writer; the next writer takes over the temporary file of one that was killed.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple, TypeVar

from src.errors import CorruptFileError, with_filename
from src.storage.memo import memo_path
from src.storage.reading import has_contents, kind_of, open_regular, read_file
from src.storage.store import FileChangedError, Key, Reader, Stat, Update

__all__ = ["FolderStore"]

T = TypeVar("T")

LOCK_SUFFIX = ".lock"
TEMPORARY_SUFFIX = ".tmp"
LOCK_TIMEOUT_SECONDS = 60.0
LOCK_POLL_SECONDS = 0.005
# A file that changed less than this before it was looked at could change again without a new time
# stamp: git's rule for racy files (https://git-scm.com/docs/racy-git).
RACY_NS = 2 * 10**9
CREATE_LIMIT = 1 << 26  # bytes of an existing file that `create` returns
UPDATE_LIMIT = 1 << 30  # bytes of a file that is read in order to be updated


class FolderStore:
    """Files below one folder; implements `Store`.

    A write through a link that leads out of the root is refused; reading through one is allowed,
    because datasets may be on other disks. `files` does not follow links to folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = "" if root == Path() else str(root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FolderStore) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def read(self, key: Key, limit: int) -> bytes | None:
        """Implement `Store.read`."""
        return read_file(self._path(key), limit)

    def stat(self, key: Key) -> Stat | None:
        """Implement `Store.stat`."""
        path = self._path(key)
        try:
            status = path.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        return _stat(key, status) if stat.S_ISREG(status.st_mode) else None

    @contextmanager
    def open(self, key: Key) -> Iterator[Reader]:
        """Implement `Store.open`."""
        path = self._path(key)
        try:
            descriptor = open_regular(path)
        except NotADirectoryError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        with with_filename(path), FileIO(descriptor) as file:
            before = os.fstat(file.fileno())
            yield _OpenFile(_stat(key, before), _bounded(file, before.st_size, path))
            if _size_and_times(before) != _size_and_times(os.fstat(file.fileno())):
                raise _changed(path)

    def files(self, prefix: Key) -> Iterator[Stat]:
        """Implement `Store.files`."""
        folder = self._path(prefix)
        found = [
            str(Path(here, name).relative_to(self.root))
            for here, _, names in os.walk(folder, onerror=_raise_unless_missing)
            for name in names
            if not name.endswith((LOCK_SUFFIX, TEMPORARY_SUFFIX))
        ]
        for key in sorted(found):
            if (file := self.stat(key)) is not None:
                yield file

    def folders(self, prefix: Key) -> list[str]:
        """Implement `Store.folders`."""
        try:
            with os.scandir(self._path(prefix)) as entries:
                return sorted(entry.name for entry in entries if _is_folder(entry))
        except OSError as error:
            _raise_unless_missing(error)
            return []

    def create(self, key: Key, data: bytes) -> bytes:
        """Implement `Store.create`."""
        path = self._make_folder(key)
        with with_filename(path):
            found = read_file(path, CREATE_LIMIT)
            if found is None or _temporary(path).exists():
                with _locked_temporary(path) as temporary:
                    found = read_file(path, CREATE_LIMIT)
                    if found is None:
                        temporary.write([data])
                        os.link(temporary.path, path)
                        found = data
            # Needed even if nothing was written: an earlier writer may have been killed just here.
            _sync_folder(path.parent)
        return found

    def replace(self, key: Key, data: bytes) -> None:
        """Implement `Store.replace`."""
        path = self._make_folder(key)
        with with_filename(path):
            if not has_contents(path, data) or _temporary(path).exists():
                with _locked_temporary(path) as temporary:
                    temporary.write([data])
                    os.replace(temporary.path, path)
            _sync_folder(path.parent)

    def update(self, key: Key, decide: Callable[[bytes | None], Update[T]]) -> T:
        """Implement `Store.update`; locks the file `<key>.lock`, which is not removed."""
        path = self._make_folder(key)
        with with_filename(path), _locked(path):
            update = decide(read_file(path, UPDATE_LIMIT))
            if update.data is not None or _temporary(path).exists():
                with _locked_temporary(path) as temporary:
                    if update.data is not None:
                        temporary.write(update.data)
                        os.replace(temporary.path, path)
            _sync_folder(path.parent)
        return update.result

    def memo(self, key: Key) -> Path | None:
        """Implement `Store.memo`."""
        # Before Python 3.13, `Path.resolve` raises if links form a circle.
        path, root = (os.path.realpath(each) for each in (self._path(key), self.root))
        return memo_path(path, outside=root)

    def probe(self) -> None:
        """Implement `Store.probe`: check for hard links and file locks."""
        path = self._make_folder(".probe")
        with with_filename(path), _locked_temporary(path) as temporary:
            temporary.write([b"probe"])
            path.unlink(missing_ok=True)  # left by a probe that was killed
            os.link(temporary.path, path)
            path.unlink()

    def _path(self, key: Key) -> Path:
        return self.root / key

    def _confined(self, key: Key) -> Path:
        """Return the path of `key` with all links resolved.

        It lies inside the first folder of the key, which lies inside the root: a link from
        `evaluations/` to `models/` would let one file replace another.

        Raises:
            ValueError: A link leads out of the root or of that folder, or links form a circle.
        """
        path, top = self._path(key), key.partition("/")[0]
        folders = [self.root, self._path(top)] if "/" in key else [self.root]
        try:
            real = path.resolve()
            with suppress(FileNotFoundError, NotADirectoryError):
                real.stat()
            left = next((each for each in folders if each.resolve() not in real.parents), None)
        except (OSError, RuntimeError) as error:
            # Since Python 3.13 `resolve` returns a circle unchanged, and only `stat` fails.
            if isinstance(error, OSError) and error.errno != errno.ELOOP:
                raise
            raise ValueError(f"{path}: its links form a circle. Nothing was written.") from error
        if left is not None:
            raise ValueError(
                f"{path}: leads out of {left}, to {real}. Nothing was written; remove the link."
            )
        return real

    def _make_folder(self, key: Key) -> Path:
        """Create the folder of `key`, durably, and return the confined path of `key`."""
        path = self._confined(key)
        with with_filename(path):
            missing = []
            folder = path.parent
            while not folder.is_dir():
                missing.append(folder)
                folder = folder.parent
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                _sync_folder(folder.parent)
        return path


class _OpenFile(NamedTuple):
    stat: Stat
    readinto: Callable[[memoryview], int]


def _bounded(file: FileIO, size: int, path: Path) -> Callable[[memoryview], int]:
    """Return the `readinto` of a file that raises after more than `size` bytes.

    A file in /proc, or one that grows, may never end.
    """
    done = 0

    def readinto(buffer: memoryview) -> int:
        nonlocal done
        read = file.readinto(buffer)
        if read is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
        done += read
        if done > size:
            raise _changed(path)
        return read

    return readinto


def _changed(path: Path) -> FileChangedError:
    return FileChangedError(
        f"{path}: written to while it was being read. Wait until the writer has finished, then run "
        "again."
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        _raise_unless_missing(error)
        return False


def _raise_unless_missing(error: OSError) -> None:
    """Raise `error` unless it says that there is no such folder, or that links form a circle."""
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        raise error


def _size_and_times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _stat(key: Key, status: os.stat_result) -> Stat:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    identity = None
    if max(times) + RACY_NS < time.time_ns():
        values = (status.st_size, *times, status.st_ino, status.st_dev)
        identity = "-".join(map(str, values))
    return Stat(key, status.st_size, identity)


@dataclass(frozen=True, slots=True)
class _LockedFile:
    """An open file and its exclusive lock.

    Attributes:
        path: The path it was opened at.
        descriptor: The descriptor, which its owner closes.
        is_new: Whether this process created the file.
        is_writable: Whether the file is open for writing.
    """

    path: Path
    descriptor: int
    is_new: bool
    is_writable: bool

    def write(self, data: Iterable[bytes | memoryview]) -> None:
        """Replace the contents of the file, durably."""
        with open(self.descriptor, "wb", closefd=False) as file:
            file.truncate()
            file.writelines(data)
        os.fsync(self.descriptor)

    def is_at_path(self) -> bool:
        """Return whether the path still names this file."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.lstat())
        except FileNotFoundError:
            return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`: the file `<path>.lock`.

    The lock file is never removed: two waiters could then lock different inodes of one name.

    Raises:
        CorruptFileError: The lock file is not a regular file with one name.
        TimeoutError: The lock was held for `LOCK_TIMEOUT_SECONDS`.
    """
    with _exclusive(path.with_name(path.name + LOCK_SUFFIX), is_shared=True) as lock:
        if not lock.is_new and os.fstat(lock.descriptor).st_nlink > 1:
            raise _refused(lock.path, "a file with one name", "a hard link")
        yield


@contextmanager
def _exclusive(path: Path, *, is_shared: bool = False) -> Iterator[_LockedFile]:
    """Open or create a file and hold an exclusive lock on it.

    The kernel releases the lock when the process dies.

    Args:
        path: The file; a link is not followed, and a FIFO is not waited for.
        is_shared: Whether every user may lock the file, if it is created.

    Raises:
        CorruptFileError: There is something other than a regular file.
        PermissionError: There is a file that this user can neither write nor read.
        TimeoutError: The lock was held for `LOCK_TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        file = _open_or_create(path, is_shared=is_shared)
        try:
            if _try_lock(file.descriptor):
                # The file may have been moved or removed while this process waited.
                if file.is_at_path():
                    try:
                        yield file
                    finally:  # closing is not enough if a process was forked meanwhile
                        fcntl.flock(file.descriptor, fcntl.LOCK_UN)
                    return
            elif time.monotonic() > deadline:
                raise TimeoutError(
                    f"{path}: locked by another process for more than {LOCK_TIMEOUT_SECONDS:g} s. "
                    "Nothing was written; find that process, then try again."
                )
            else:
                time.sleep(LOCK_POLL_SECONDS)
        finally:
            os.close(file.descriptor)


def _open_or_create(path: Path, *, is_shared: bool) -> _LockedFile:
    """Open a regular file, for writing if possible, without a lock yet; the caller closes it."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    while True:
        with suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            if is_shared:
                with suppress(PermissionError):  # some file systems have no modes
                    os.fchmod(descriptor, 0o666)
            return _LockedFile(path, descriptor, is_new=True, is_writable=True)
        with suppress(FileNotFoundError):  # removed meanwhile
            try:
                descriptor, is_writable = _open_existing(path, flags | os.O_WRONLY), True
            except PermissionError:  # a local file system locks a file that is open for reading
                descriptor, is_writable = _open_existing(path, flags | os.O_RDONLY), False
            return _LockedFile(path, descriptor, is_new=False, is_writable=is_writable)


def _open_existing(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise _refused(path, "a regular file", kind_of(path.lstat().st_mode)) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _refused(path, "a regular file", kind_of(mode))
    return descriptor


def _refused(path: Path, expected: str, found: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path}: expected {expected}, found {found}. Nothing was written; remove it."
    )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")


@contextmanager
def _locked_temporary(path: Path) -> Iterator[_LockedFile]:
    """Open the temporary file of `path` and lock it; remove it on exit unless it was moved.

    Takes over the temporary file of a writer that was killed. Only the holder of the lock may move
    or remove the file. A file of another user, or one with a second name, is not written to: it is
    replaced by a new one.
    """
    while True:
        with _exclusive(_temporary(path)) as temporary:
            status = os.fstat(temporary.descriptor)
            # A process killed right after `link` leaves a file with two names.
            is_own = status.st_nlink == 1 and status.st_uid == os.geteuid()
            if temporary.is_new or (is_own and temporary.is_writable):
                try:
                    yield temporary
                finally:
                    if temporary.is_at_path():
                        temporary.path.unlink()
                return
            temporary.path.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
