"""A store over another one, the base: it keeps writes in memory and does not change the base."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TypeVar

from src.digest import Digest
from src.errors import CorruptFileError, too_large
from src.progress import ignore_progress
from src.storage.store import FileChangedError, Key, NewFolder, Reader, Stat, Store, Update

__all__ = ["NewFilesStore", "NotNewError", "OverlayStore"]

T = TypeVar("T")
_ANY_SIZE = sys.maxsize


class OverlayStore:
    """Implements `Store` in the memory of one process; the writes are lost with the object.

    Attributes:
        written: The bytes of each file that was written, by key; includes files that had the same
            bytes before.
        is_changed: Whether a write has created a file or changed its bytes.
    """

    def __init__(self, base: Store) -> None:
        self._base = base
        self.written: dict[Key, bytes] = {}
        self.is_changed = False
        self._lock = Lock()

    @property
    def url(self) -> str:
        """The root of the base."""
        return self._base.url

    @property
    def parallel_requests(self) -> int:
        """Those of the base."""
        return self._base.parallel_requests

    def read(self, key: Key, limit: int) -> bytes | None:
        """Return the bytes of a file; see `Store.read`."""
        if key not in self.written:
            self._check_no_folder(key)
            return self._base.read(key, limit)
        if len(self.written[key]) > limit:
            raise too_large(f"{self.url}/{key}", limit)
        return self.written[key]

    def stat(self, key: Key) -> Stat | None:
        """Return size and identity of a file; see `Store.stat`."""
        if key not in self.written:
            return self._base.stat(key)
        return _stat(key, self.written[key])

    @contextmanager
    def open(self, key: Key) -> Iterator[Reader]:
        """Open a file; see `Store.open`."""
        if key in self.written:
            data = self.written[key]
            yield _Reader(_stat(key, data), data)
            if self.written[key] != data:
                raise FileChangedError(
                    f"{self.url}/{key}: written to while it was being read. Wait until the writer "
                    "has finished, then run again."
                )
            return
        self._check_no_folder(key)
        with self._base.open(key) as file:
            yield file

    def files(self, prefix: Key) -> Iterator[Stat]:
        """Yield every file below a prefix; see `Store.files`."""
        found = {file.key: file for file in self._base.files(prefix)}
        for key, data in self.written.items():
            if not prefix or key.startswith(f"{prefix}/"):
                found[key] = _stat(key, data)
        yield from (found[key] for key in sorted(found))

    def folders(self, prefix: Key, *, follow_links: bool = False) -> list[str]:
        """Return the names of the folders directly below a prefix; see `Store.folders`."""
        start = f"{prefix}/" if prefix else ""
        rests = [key.removeprefix(start) for key in self.written if key.startswith(start)]
        new = {rest.partition("/")[0] for rest in rests if "/" in rest}
        return sorted(new.union(self._base.folders(prefix, follow_links=follow_links)))

    def create(self, key: Key, data: bytes) -> bytes:
        """Write a file unless it exists; see `Store.create`."""
        with self._lock:
            found = self.read(key, _ANY_SIZE)
            if found is None:
                self.is_changed = True
            if found in (None, data):
                self.written[key] = found = bytes(data)
        return found

    def create_many(self, files: Mapping[Key, bytes]) -> set[Key]:
        """Write many files unless they exist; see `Store.create_many`."""
        return {key for key, data in files.items() if self.create(key, data) == data}

    def replace(self, key: Key, data: bytes) -> None:
        """Write or replace a file; see `Store.replace`."""
        with self._lock:
            if self.read(key, _ANY_SIZE) != data:  # raises if it is no file
                self.is_changed = True
            self.written[key] = bytes(data)

    def update(self, key: Key, decide: Callable[[bytes | None], Update[T]]) -> T:
        """Read, modify and replace a file; see `Store.update`."""
        with self._lock:
            update = decide(self.read(key, _ANY_SIZE))
            if update.data is not None:
                self.is_changed = True
                self.written[key] = b"".join(update.data)
        return update.result

    def digests(
        self,
        prefix: Key,
        *,
        use_memos: bool = False,
        progress: Callable[[int], None] = ignore_progress,
    ) -> dict[str, Digest]:
        """Hash the files below a prefix; see `Store.digests`. Written files are not among them."""
        return self._base.digests(prefix, use_memos=use_memos, progress=progress)

    def place(self, prefix: Key, files: Mapping[str, Digest]) -> Key:
        """Return the folder for files with these contents; see `Store.place`."""
        return self._base.place(prefix, files)

    def put_files(self, prefix: Key, folder: Path, files: Mapping[str, Digest]) -> None:
        """Refuse: large files are not kept in memory."""
        raise NotImplementedError

    def new_folder(self, prefix: Key) -> AbstractContextManager[NewFolder]:
        """Refuse: large files are not kept in memory."""
        raise NotImplementedError

    def local_files(self, prefix: Key, files: Mapping[str, Digest]) -> AbstractContextManager[Path]:
        """Provide the files below a prefix; see `Store.local_files`."""
        return self._base.local_files(prefix, files)

    def local_file(self, key: Key, digest: Digest) -> AbstractContextManager[Path]:
        """Provide a file; see `Store.local_file`. Written files are not provided."""
        return self._base.local_file(key, digest)

    def local_folder(self, key: Key) -> Path:
        """Refuse: nothing is written."""
        raise NotImplementedError

    def memo(self, key: Key) -> Path | None:
        """Return the path of the memo about a file; see `Store.memo`."""
        return None if key in self.written else self._base.memo(key)

    def probe(self) -> None:
        """Return immediately: nothing is written."""

    def _check_no_folder(self, key: Key) -> None:
        if any(each.startswith(f"{key}/") for each in self.written):
            raise CorruptFileError(
                f"{self.url}/{key}: expected a regular file, found a folder. Left as found."
            )


class NotNewError(OSError):
    """Raised by a `NewFilesStore` for an operation that does more than create files."""


class NewFilesStore(OverlayStore):
    """An overlay whose `written` files can be written to the base by `create_many`."""

    def replace(self, key: Key, data: bytes) -> None:
        """Write a file unless it exists.

        Raises:
            NotNewError: It exists with other bytes.
        """
        if self.create(key, data) != data:
            raise NotNewError(f"{self.url}/{key}: exists with other bytes.")

    def local_folder(self, key: Key) -> Path:
        """Refuse: a lock in such a folder must be on the disk.

        Raises:
            NotNewError: Always.
        """
        raise NotNewError(f"{self.url}/{key}: cannot be kept in memory.")


def _stat(key: Key, data: bytes) -> Stat:
    return Stat(key, len(data), f"{key} {hashlib.sha256(data).hexdigest()}")


class _Reader:
    """An open file that was written; implements `Reader`."""

    def __init__(self, stat: Stat, data: bytes) -> None:
        self.stat = stat
        self._data = BytesIO(data)

    def readinto(self, buffer: memoryview, /) -> int:
        return self._data.readinto(buffer)
