"""The contract of a back end, and the path type that the core works with.

`Store` is the whole surface that a back end has to implement. Keys are text such as
`models/model_v1/metadata.json`, relative to the root of the store and separated by `/`.

Guarantees of every back end:

- A reader sees a whole file or no file, also after a writer was killed or the power failed.
- After `create`, `replace` or `update` returns, the write is durable.
- No write leaves the root of the store.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from src.digest import Digest
from src.errors import too_large
from src.progress import ignore_progress

__all__ = [
    "FileChangedError",
    "Key",
    "NewFolder",
    "Reader",
    "Stat",
    "Store",
    "StorePath",
    "Update",
]

Key = str
T = TypeVar("T")


class FileChangedError(OSError):
    """Raised when a file was written to while it was being read."""


class Stat(NamedTuple):
    """A file as the store lists it.

    Attributes:
        key: Its key.
        size: Its size in bytes.
        identity: Text that changes whenever the bytes change; `None` if unknown, for example
            because the file changed less than two seconds ago, or because a list of objects does
            not have it.
    """

    key: Key
    size: int
    identity: str | None


class Update(NamedTuple, Generic[T]):
    """Decision of a callback of `Store.update`.

    Attributes:
        result: Returned to the caller of `update`.
        data: The new bytes, in pieces; `None` leaves the file unchanged.
    """

    result: T
    data: Iterable[bytes | memoryview] | None = None


class Reader(Protocol):
    """An open file, read from start to end."""

    @property
    def stat(self) -> Stat:
        """The file when it was opened."""
        ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Read up to `len(buffer)` bytes into `buffer`; return their number, 0 at the end."""
        ...


class NewFolder(Protocol):
    """A folder that is being written, and that no reader sees."""

    def write(self, name: str, data: Iterable[bytes | memoryview], /) -> None:
        """Write a file of any size.

        Raises:
            FileExistsError: The folder has a file of this name.
        """
        ...


class Store(Protocol):
    """A back end: files by key below one root.

    Every method raises `OSError` if the store cannot be reached, refuses, or fails. The methods
    that read or write a file raise `CorruptFileError` if the key is not a regular file.
    """

    @property
    def url(self) -> str:
        """The root as a user wrote it, for messages; contains no credentials."""
        ...

    @property
    def parallel_requests(self) -> int:
        """The number of requests to send at the same time; 1 if more would not save time."""
        ...

    def read(self, key: Key, limit: int) -> bytes | None:
        """Return the bytes of a file; `None` if there is no file.

        Raises:
            CorruptFileError: The file is larger than `limit` bytes, or a link is on the way to it:
                what a link shows could be a file that is none of the project's.
        """
        ...

    def stat(self, key: Key) -> Stat | None:
        """Return size and identity of a file; `None` if there is no file."""
        ...

    def open(self, key: Key) -> AbstractContextManager[Reader]:
        """Open a file of any size for reading; links are followed, as data may be elsewhere.

        Raises:
            FileNotFoundError: There is no file.
            FileChangedError: On exit: the file was written to while it was open. A back end whose
                reader sees one version of the file to the end does not raise it.
        """
        ...

    def files(self, prefix: Key) -> Iterator[Stat]:
        """Yield every file below `prefix`, in the order of the keys."""
        ...

    def folders(self, prefix: Key, *, follow_links: bool = False) -> list[str]:
        """Return the names of the folders directly below `prefix`, sorted.

        Args:
            prefix: A folder; there are no names if it does not exist.
            follow_links: Whether the folder may be a link, as that of the datasets.

        Raises:
            CorruptFileError: The folder is a link, and `follow_links` is false.
        """
        ...

    def create(self, key: Key, data: bytes) -> bytes:
        """Write a file unless it exists; an existing file is never changed.

        Returns:
            The bytes that the file now has: `data`, or those that were there before.

        Raises:
            CorruptFileError: A link is on the way to the file.
        """
        ...

    def create_many(self, files: Mapping[Key, bytes]) -> set[Key]:
        """Write many files unless they exist, faster than one by one.

        Those of a folder are written in the order given, and none after one that could not be.

        Returns:
            The files that have these bytes now, as durably as by `create`. The others exist with
            other bytes, or could not be written in this way; no error is raised for them. Call
            `create` for each to write it, or to get its bytes or its error.
        """
        ...

    def replace(self, key: Key, data: bytes) -> None:
        """Write a file, or replace all of its bytes.

        Raises:
            CorruptFileError: A link is on the way to the file.
        """
        ...

    def update(self, key: Key, decide: Callable[[bytes | None], Update[T]]) -> T:
        """Read, modify and replace a file; concurrent updates are applied one after the other.

        Args:
            key: The file.
            decide: Receives the bytes of the file, `None` if there is no file, and returns the
                new bytes and a result. It must be repeatable: a back end calls it again if
                another writer was faster, and with the bytes that it returned before if the answer
                to their write was lost. An exception it raises leaves the file unchanged.

        Returns:
            The result of the decision that was applied.

        Raises:
            CorruptFileError: A link is on the way to the file.
            TimeoutError: Other writers kept the file locked, or were faster, for too long.
        """
        ...

    def digests(
        self,
        prefix: Key,
        *,
        use_memos: bool = False,
        progress: Callable[[int], None] = ignore_progress,
    ) -> dict[str, Digest]:
        """Return size and SHA-256 of every file below `prefix`, by its path below it.

        Args:
            prefix: A folder; there are no files if it does not exist.
            use_memos: Whether a file that is unchanged since this user hashed it is not read.
            progress: Called after each read with its size in bytes.

        Raises:
            CorruptFileError: There is something other than a regular file or a folder.
            FileChangedError: A file was written to meanwhile.
        """
        ...

    def place(self, prefix: Key, files: Mapping[str, Digest]) -> Key:
        """Return the folder, at or below `prefix`, that holds files with these contents.

        It is `prefix` itself in a back end where a lock keeps other writers out. Hosts without a
        common lock must never write different bytes to one name, so in other back ends it is
        `prefix/<digest_of_files(files)>`. Readers find it by the statement that lists the files.

        Args:
            prefix: A folder.
            files: Size and SHA-256 by path in the folder.
        """
        ...

    def put_files(self, prefix: Key, folder: Path, files: Mapping[str, Digest]) -> None:
        """Copy files of a local folder to `prefix`.

        Other files below `prefix` are removed in a back end where `place` is `prefix` itself.
        Readers may see some of the files before the call returns. They become visible together by
        the statement that lists them, which is written afterwards.

        Args:
            prefix: The folder that the files are copied to: the `place` of `files`.
            folder: The local folder.
            files: The files by their path in `folder`; all others are not copied.

        Raises:
            CorruptFileError: One of them is not a regular file.
            FileChangedError: One of them has other contents than `files` says.
        """
        ...

    def new_folder(self, prefix: Key) -> AbstractContextManager[NewFolder]:
        """Provide a folder that becomes `prefix` at the end of the block.

        All of its files become visible together. In a back end where that is not possible, the
        file that was written first becomes visible last; a writer that was killed leaves some of
        the others, and the next writer of the same bytes completes the folder. If the block raises,
        no file is written.

        Raises:
            FileExistsError: There is a file below `prefix`, now or at the end of the block. In a
                back end where files do not become visible together: the file that was written
                first, a file of another name, or one with other bytes. It is left as found.
            CorruptFileError: A link is on the way to the folder.
        """
        ...

    def local_files(self, prefix: Key, files: Mapping[str, Digest]) -> AbstractContextManager[Path]:
        """Provide the files below `prefix` as a local folder, for reading.

        Args:
            prefix: A folder.
            files: Size and SHA-256 of the files that must be in it; there must be no others.

        Raises:
            CorruptFileError: There are other files, or other contents; names the first such file.
            FileChangedError: On exit: a file was written to meanwhile.
        """
        ...

    def local_file(self, key: Key, digest: Digest) -> AbstractContextManager[Path]:
        """Provide a file as a local file with an absolute path, for reading.

        It is a copy with these contents, or the file itself, whose contents are compared only if
        it was written to during the block. Links are followed, as data may be elsewhere.

        Args:
            key: The file.
            digest: Its expected size and SHA-256.

        Raises:
            FileNotFoundError: There is no file.
            FileChangedError: It has another size or other contents; or, on exit, it was written to
                meanwhile.
        """
        ...

    def local_folder(self, key: Key) -> Path:
        """Return a folder on this host for the work on `key`; it exists afterwards."""
        ...

    def memo(self, key: Key) -> Path | None:
        """Return the path of the memo about a file; see `src.storage.memo`.

        The path is in the user's cache folder, never below the root; `None` if the user has no
        such folder.
        """
        ...

    def probe(self) -> None:
        """Check that the store can keep its guarantees.

        Raises:
            OSError: It cannot; names what is missing.
        """
        ...


@dataclass(frozen=True, slots=True)
class StorePath:
    """A key in a store; `path / "name"` appends to the key, `str(path)` is its location."""

    store: Store
    key: Key = ""

    def __truediv__(self, name: str) -> "StorePath":
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name}: expected a key below {self}, found a path that leaves it.")
        return StorePath(self.store, posixpath.join(self.key, name))

    def __str__(self) -> str:
        return posixpath.join(self.store.url, self.key) if self.key else self.store.url or "."

    @property
    def name(self) -> str:
        """The last part of the key."""
        return posixpath.basename(self.key)

    @property
    def parent(self) -> "StorePath":
        """The folder that holds this file."""
        return StorePath(self.store, posixpath.dirname(self.key))

    def read(self, limit: int) -> bytes | None:
        """Read the file; see `Store.read`."""
        return self.store.read(self.key, limit)

    def read_linked(self, limit: int) -> bytes | None:
        """Read the file as `read` does, but follow links; for the files of datasets.

        Raises:
            CorruptFileError: The file is larger than `limit` bytes.
            FileChangedError: The file was written to meanwhile.
        """
        try:
            with self.open() as file:
                if file.stat.size > limit:
                    raise too_large(self, limit)
                data = memoryview(bytearray(file.stat.size))
                done = 0
                while read := file.readinto(data[done:]):
                    done += read
        except FileNotFoundError:
            return None
        return data[:done].tobytes()

    def stat(self) -> Stat | None:
        """Return size and identity of the file; see `Store.stat`."""
        return self.store.stat(self.key)

    def open(self) -> AbstractContextManager[Reader]:
        """Open the file for reading; see `Store.open`."""
        return self.store.open(self.key)

    def files(self) -> Iterator[Stat]:
        """Yield the files below this path; see `Store.files`."""
        return self.store.files(self.key)

    def folders(self, *, follow_links: bool = False) -> list[str]:
        """Return the names of the folders below this path; see `Store.folders`."""
        return self.store.folders(self.key, follow_links=follow_links)

    def create(self, data: bytes) -> bytes:
        """Write the file unless it exists; see `Store.create`."""
        return self.store.create(self.key, data)

    def replace(self, data: bytes) -> None:
        """Write or replace the file; see `Store.replace`."""
        self.store.replace(self.key, data)

    def update(self, decide: Callable[[bytes | None], Update[T]]) -> T:
        """Read, modify and replace the file; see `Store.update`."""
        return self.store.update(self.key, decide)

    def digests(
        self, *, use_memos: bool = False, progress: Callable[[int], None] = ignore_progress
    ) -> dict[str, Digest]:
        """Hash the files below this path; see `Store.digests`."""
        return self.store.digests(self.key, use_memos=use_memos, progress=progress)

    def place(self, files: Mapping[str, Digest]) -> "StorePath":
        """Return the folder that holds files with these contents; see `Store.place`."""
        return StorePath(self.store, self.store.place(self.key, files))

    def put_files(self, folder: Path, files: Mapping[str, Digest]) -> None:
        """Copy files to this path; see `Store.put_files`."""
        self.store.put_files(self.key, folder, files)

    def new_folder(self) -> AbstractContextManager[NewFolder]:
        """Provide a folder that becomes this path; see `Store.new_folder`."""
        return self.store.new_folder(self.key)

    def local_files(self, files: Mapping[str, Digest]) -> AbstractContextManager[Path]:
        """Provide the files below this path; see `Store.local_files`."""
        return self.store.local_files(self.key, files)

    def local_file(self, digest: Digest) -> AbstractContextManager[Path]:
        """Provide the file as a local file; see `Store.local_file`."""
        return self.store.local_file(self.key, digest)

    def local_folder(self) -> Path:
        """Return a folder on this host for the work on this path; see `Store.local_folder`."""
        return self.store.local_folder(self.key)

    def memo(self) -> Path | None:
        """Return the path of the memo about the file; see `Store.memo`."""
        return self.store.memo(self.key)
