"""The folder back end: a store in a local POSIX file system.

Writing a file: write to a temporary file in the same folder, fsync, move the file to its name
(link for `create`, rename otherwise), fsync the folder. A temporary file is named after its target
and locked by its writer; the next writer takes over the temporary file of one that was killed.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar

from src.digest import Digest
from src.errors import CorruptFileError, with_filename
from src.progress import ignore_progress
from src.storage.entry import Entry, open_entry
from src.storage.locking import is_locked, lock, unlock
from src.storage.memo import memo_path, read_facts, write_facts
from src.storage.new_folder import create_folder, is_temporary
from src.storage.reading import check_no_hole, has_contents, kind_of, open_regular, read_file
from src.storage.store import FileChangedError, Key, NewFolder, Reader, Stat, Update
from src.storage.together import create_together
from src.storage.tree import (
    copy_pieces,
    first_difference,
    hash_file,
    hash_reader,
    remove_empty_folders,
    scan,
)

__all__ = ["FolderStore"]

T = TypeVar("T")

LOCK_SUFFIX = ".lock"
TEMPORARY_SUFFIX = ".tmp"
LOCK_TIMEOUT_SECONDS = 60.0
# A file that changed less than this before it was looked at could change again without a new time
# stamp: git's rule for racy files (https://git-scm.com/docs/racy-git).
RACY_NS = 2 * 10**9
PRIVATE = 0o600
CREATE_LIMIT = 1 << 26  # bytes of an existing file that `create` returns
UPDATE_LIMIT = 1 << 30  # bytes of a file that is read in order to be updated


class FolderStore:
    """Files below one folder; implements `Store`.

    Below the root, only what is for data, which may be on another disk, follows links: `open`,
    `stat`, `files` (but not to folders), and `folders` on request.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = "" if root == Path() else str(root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FolderStore) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    parallel_requests = 1

    def read(self, key: Key, limit: int) -> bytes | None:
        """Implement `Store.read`."""
        try:
            with open_entry(self.root, key) as entry:
                return read_file(entry.path, limit, folder=entry.folder)
        except FileNotFoundError:
            return None

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
            check_no_hole(file, before.st_size, path)
            yield _OpenFile(_stat(key, before), _bounded(file, before.st_size, path))
            if _size_and_times(before) != _size_and_times(os.fstat(file.fileno())):
                raise _changed(path)

    def files(self, prefix: Key) -> Iterator[Stat]:
        """Implement `Store.files`."""
        found = []
        for here, folders, names in os.walk(self._path(prefix), onerror=_raise_unless_missing):
            folders[:] = [name for name in folders if not is_temporary(name)]
            found += [
                str(Path(here, name).relative_to(self.root))
                for name in names
                if not name.endswith((LOCK_SUFFIX, TEMPORARY_SUFFIX))
            ]
        for key in sorted(found):
            if (file := self.stat(key)) is not None:
                yield file

    def folders(self, prefix: Key, *, follow_links: bool = False) -> list[str]:
        """Implement `Store.folders`."""
        try:
            if prefix and not follow_links:
                with open_entry(self.root, prefix) as entry, entry.opened_folder() as descriptor:
                    return _folders(descriptor)
            return _folders(self._path(prefix))
        except OSError as error:
            _raise_unless_missing(error)
            return []

    def create(self, key: Key, data: bytes) -> bytes:
        """Implement `Store.create`."""
        with self._entry(key) as entry:
            found = read_file(entry.path, CREATE_LIMIT, folder=entry.folder)
            if found is None or _temporary(entry).exists():
                with _locked_temporary(entry) as temporary:
                    found = read_file(entry.path, CREATE_LIMIT, folder=entry.folder)
                    if found is None:
                        temporary.write([data])
                        found = data
                        try:
                            temporary.entry.link(entry)
                        except FileExistsError:  # written by `create_many`, which takes no lock
                            found = read_file(entry.path, CREATE_LIMIT, folder=entry.folder)
                            if found is None:
                                raise
            # Needed even if nothing was written: an earlier writer may have been killed just here.
            entry.sync_folder()
        return found

    def create_many(self, files: Mapping[Key, bytes]) -> set[Key]:
        """Implement `Store.create_many`."""
        return create_together(self.root, files, lambda entry: _temporary(entry).exists())

    def replace(self, key: Key, data: bytes) -> None:
        """Implement `Store.replace`."""
        with self._entry(key) as entry:
            is_there = has_contents(entry.path, data, folder=entry.folder)
            if not is_there or _temporary(entry).exists():
                with _locked_temporary(entry) as temporary:
                    temporary.write([data])
                    temporary.entry.replace(entry)
            entry.sync_folder()

    def update(self, key: Key, decide: Callable[[bytes | None], Update[T]]) -> T:
        """Implement `Store.update`; locks the file `<key>.lock`, which is not removed."""
        with self._entry(key) as entry, _locked(entry):
            update = decide(read_file(entry.path, UPDATE_LIMIT, folder=entry.folder))
            if update.data is not None or _temporary(entry).exists():
                with _locked_temporary(entry) as temporary:
                    if update.data is not None:
                        temporary.write(update.data)
                        temporary.entry.replace(entry)
            entry.sync_folder()
        return update.result

    def digests(
        self,
        prefix: Key,
        *,
        use_memos: bool = False,
        progress: Callable[[int], None] = ignore_progress,
    ) -> dict[str, Digest]:
        """Implement `Store.digests`."""
        found = {}
        for name, status in scan(self.root, prefix).items():
            key = f"{prefix}/{name}" if prefix else name
            file = _stat(key, status)
            memo = self.memo(key) if use_memos and file.identity else None
            digest = _known_digest(memo, file)
            if digest is None:
                digest = hash_file(self.root, key, progress)
                write_facts(memo, str(file.identity), *digest)
            found[name] = digest
        return found

    def place(self, prefix: Key, files: Mapping[str, Digest]) -> Key:  # noqa: ARG002
        """Implement `Store.place`: `prefix` itself."""
        return prefix

    def put_files(self, prefix: Key, folder: Path, files: Mapping[str, Digest]) -> None:
        """Implement `Store.put_files`."""
        for name in scan(self.root, prefix).keys() - files.keys():
            with open_entry(self.root, f"{prefix}/{name}") as entry:
                entry.unlink()
        remove_empty_folders(self.root, prefix)
        for name, digest in files.items():
            key = f"{prefix}/{name}"
            with (
                self._entry(key) as entry,
                _locked_temporary(entry) as temporary,
                closing(copy_pieces(folder, name, digest)) as pieces,
            ):
                temporary.write(pieces)
                temporary.entry.replace(entry)
                entry.sync_folder()

    @contextmanager
    def new_folder(self, prefix: Key) -> Iterator[NewFolder]:
        """Implement `Store.new_folder`."""
        with self._entry(prefix) as entry, create_folder(entry) as folder:
            yield folder

    @contextmanager
    def local_files(self, prefix: Key, files: Mapping[str, Digest]) -> Iterator[Path]:
        """Implement `Store.local_files`: the folder itself."""
        before = scan(self.root, prefix)
        found = self.digests(prefix)
        if found != files:
            raise CorruptFileError(first_difference(self._path(prefix), found, files))
        yield self._path(prefix).resolve()
        after = scan(self.root, prefix)
        for name in before.keys() | after.keys():
            one, other = before.get(name), after.get(name)
            if one is None or other is None or _size_and_times(one) != _size_and_times(other):
                raise _changed(self._path(f"{prefix}/{name}"))

    @contextmanager
    def local_file(self, key: Key, digest: Digest) -> Iterator[Path]:
        """Implement `Store.local_file`: the file itself."""
        path = self._path(key)
        with self.open(key) as file:  # raises if it is no regular file
            size = file.stat.size
        if size != digest.size:
            raise FileChangedError(
                f"{path}: expected {digest.size:,} bytes, found {size:,}: written to after it was "
                "hashed. Run again."
            )
        before = _size_and_times(path.stat())
        yield path.resolve()
        if _size_and_times(path.stat()) != before:
            with self.open(key) as file:  # unlike `hash_file`, follows links
                found = hash_reader(file)
            if found != digest:
                raise _changed(path)

    def local_folder(self, key: Key) -> Path:
        """Implement `Store.local_folder`: the folder itself."""
        with self._entry(f"{key}/x") as entry:
            return entry.path.parent.resolve()

    def memo(self, key: Key) -> Path | None:
        """Implement `Store.memo`."""
        # Before Python 3.13, `Path.resolve` raises if links form a circle.
        path, root = (os.path.realpath(each) for each in (self._path(key), self.root))
        return memo_path(path, outside=root)

    def probe(self) -> None:
        """Implement `Store.probe`: try file locks, fsync, hard links and renames."""
        with self._entry(".probe") as entry, _locked_temporary(entry) as temporary:
            _check_excludes(temporary)
            temporary.write([b"probe"])
            if entry.exists():  # left by a probe that was killed
                entry.unlink()
            temporary.entry.link(entry)
            entry.unlink()
            temporary.entry.replace(entry)
            entry.sync_folder()
            entry.unlink()

    def _path(self, key: Key) -> Path:
        return self.root / key

    @contextmanager
    def _entry(self, key: Key) -> Iterator[Entry]:
        """Open the folder of a file that is to be written; create it if necessary."""
        with with_filename(self._path(key)), open_entry(self.root, key, make=True) as entry:
            yield entry


def _known_digest(memo: Path | None, file: Stat) -> Digest | None:
    known = read_facts(memo, file.identity)
    if len(known) == 2 and known[0].isdecimal():
        return Digest(int(known[0]), known[1])
    return None


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


def _folders(folder: Path | int) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if _is_folder(entry) and not is_temporary(entry.name)
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
        entry: The name it was opened by.
        descriptor: The descriptor, which its owner closes.
        is_new: Whether this process created the file.
        is_writable: Whether the file is open for writing.
    """

    entry: Entry
    descriptor: int
    is_new: bool
    is_writable: bool

    def write(self, data: Iterable[bytes | memoryview]) -> None:
        """Replace the contents of the file, durably, and set the mode of a new file."""
        with open(self.descriptor, "wb", closefd=False) as file:
            file.truncate()
            file.writelines(data)
        with suppress(PermissionError):  # some file systems have no modes
            os.fchmod(self.descriptor, 0o666 & ~_umask())
        os.fsync(self.descriptor)

    def is_at_path(self) -> bool:
        """Return whether the name is still that of this file."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.entry.lstat())
        except FileNotFoundError:
            return False


@contextmanager
def _locked(entry: Entry) -> Iterator[None]:
    """Keep other writers of a file waiting, by an exclusive lock on `<name>.lock`.

    The lock file is never removed: two waiters could then lock different inodes of one name.

    Raises:
        CorruptFileError: The lock file is not a regular file with one name.
        TimeoutError: The lock was held for `LOCK_TIMEOUT_SECONDS`.
    """
    with _exclusive(entry.sibling(entry.path.name + LOCK_SUFFIX)) as file:
        if not file.is_new and os.fstat(file.descriptor).st_nlink > 1:
            raise _refused(file.entry, "a file with one name", "a hard link")
        yield
    os.sched_yield()  # to a process that waits: this one could be faster to lock again, every time


@contextmanager
def _exclusive(entry: Entry) -> Iterator[_LockedFile]:
    """Open or create a file and hold an exclusive lock on it.

    The kernel releases the lock when the process dies.

    Args:
        entry: The file; a link is not followed, and a FIFO is not waited for.

    Raises:
        CorruptFileError: There is something other than a regular file.
        PermissionError: There is a file that this user can neither write nor read.
        TimeoutError: The lock was held for `LOCK_TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        file = _open_or_create(entry)
        try:
            if not lock(file.descriptor, deadline - time.monotonic()):
                raise TimeoutError(
                    f"{entry.path}: locked by other processes for more than "
                    f"{LOCK_TIMEOUT_SECONDS:g} s. Nothing was written; find those processes, then "
                    "try again."
                )
            try:
                # The file may have been moved or removed while this process waited.
                if file.is_at_path():
                    yield file
                    return
            finally:
                unlock(file.descriptor)
        finally:
            os.close(file.descriptor)


def _open_or_create(entry: Entry) -> _LockedFile:
    """Open a regular file, for writing if possible, without a lock yet; the caller closes it."""
    flags = os.O_NONBLOCK | os.O_NOCTTY
    while True:
        with suppress(FileExistsError):
            descriptor = entry.open(flags | os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
            _share(descriptor, entry.folder)
            return _LockedFile(entry, descriptor, is_new=True, is_writable=True)
        with suppress(FileNotFoundError):  # removed meanwhile
            try:
                descriptor, is_writable = _open_existing(entry, flags | os.O_WRONLY), True
            except PermissionError:  # a local file system locks a file that is open for reading
                descriptor, is_writable = _open_existing(entry, flags | os.O_RDONLY), False
            return _LockedFile(entry, descriptor, is_new=False, is_writable=is_writable)


def _share(descriptor: int, folder: int) -> None:
    """Open a new file to those who can write to its folder, who may lock it, and to no others.

    A process that is not root cannot do so for an owner or a group of the folder that it is not.
    """
    status = os.fstat(folder)
    mode = PRIVATE
    if status.st_uid != os.geteuid():
        with suppress(PermissionError):
            os.fchown(descriptor, status.st_uid, -1)
    if status.st_mode & stat.S_IWGRP:
        with suppress(PermissionError):
            os.fchown(descriptor, -1, status.st_gid)
            mode |= 0o060
    if status.st_mode & stat.S_IWOTH:
        mode |= 0o066
    if mode != PRIVATE:
        with suppress(PermissionError):  # some file systems have no modes
            os.fchmod(descriptor, mode)


def _open_existing(entry: Entry, flags: int) -> int:
    try:
        descriptor = entry.open(flags)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise _refused(entry, "a regular file", kind_of(entry.lstat().st_mode)) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _refused(entry, "a regular file", kind_of(mode))
    return descriptor


def _check_excludes(file: _LockedFile) -> None:
    """Check that a locked file cannot be locked a second time; some file systems ignore locks."""
    descriptor = file.entry.open(os.O_RDWR)
    try:
        if is_locked(descriptor):
            return
    finally:
        os.close(descriptor)
    raise OSError(errno.ENOLCK, "File locks do not exclude other processes", str(file.entry.path))


def _refused(entry: Entry, expected: str, found: str) -> CorruptFileError:
    return CorruptFileError(
        f"{entry.path}: expected {expected}, found {found}. Nothing was written; remove it."
    )


def _umask() -> int:
    with suppress(OSError):  # Linux
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    with _UMASK_LOCK:
        umask = os.umask(0o077)
        os.umask(umask)
    return umask


_UMASK_LOCK = Lock()


def _temporary(entry: Entry) -> Entry:
    return entry.sibling(f".{entry.path.name}{TEMPORARY_SUFFIX}")


@contextmanager
def _locked_temporary(entry: Entry) -> Iterator[_LockedFile]:
    """Open the temporary file of `entry` and lock it; remove it on exit unless it was moved.

    Takes over the temporary file of a writer that was killed. Only the holder of the lock may move
    or remove the file. A file of another user, or one with a second name, is not written to: it is
    replaced by a new one.
    """
    while True:
        with _exclusive(_temporary(entry)) as temporary:
            status = os.fstat(temporary.descriptor)
            # A process killed right after `link` leaves a file with two names.
            is_own = status.st_nlink == 1 and status.st_uid == os.geteuid()
            if temporary.is_new or (is_own and temporary.is_writable):
                try:
                    yield temporary
                finally:
                    if temporary.is_at_path():
                        temporary.entry.unlink()
                return
            temporary.entry.unlink()
