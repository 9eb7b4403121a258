"""The steps of a copy: each writes some files to the destination, and can be repeated.

A step compares the bytes that it copies with their digests. No file is replaced, except a registry
by one that continues it.
"""

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from src.digest import Digest
from src.errors import CorruptFileError
from src.records.canonical import is_same_json, parse_json
from src.records.dataset_version import DatasetVersion
from src.records.layout import DATA_FILE, METADATA_FILE
from src.storage import FileChangedError, StorePath, Update
from src.training.dataset import check_dataset_metadata

__all__ = [
    "CopyConflict",
    "CopyDataset",
    "CopyFile",
    "CopyRegistry",
    "CopyWeights",
    "OnBytes",
    "Step",
    "is_continued",
]

PIECE_BYTES = 1 << 20

OnBytes = Callable[[int], None]
"""Receives the number of bytes that were copied since the last call."""


class CopyConflict(ValueError):
    """Raised when the destination has a file with other bytes. It is left as found."""


class Step(Protocol):
    """Files of one kind that are copied together."""

    @property
    def kind(self) -> str:
        """The folder of the artifacts root that holds them, or `registry`."""
        ...

    @property
    def num_files(self) -> int:
        """The number of the files."""
        ...

    @property
    def num_bytes(self) -> int:
        """The size of the files in bytes."""
        ...

    def write(self, on_bytes: OnBytes) -> None:
        """Copy the files, unless the destination has them with the same bytes.

        Raises:
            CopyConflict: The destination has a file with other bytes.
            CorruptFileError, DatasetMismatchError: A file of the source is not as recorded.
            FileChangedError: A file of the source was written to meanwhile.
            OSError: A file cannot be read or written; no partial file is visible.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyFile:
    """Copy a file of the record, which fits into memory.

    Attributes:
        kind: See `Step.kind`.
        source: The path of the file.
        target: The path that it is copied to.
        digest: The size and SHA-256 of the file when the copy was planned.
        follow_links: Whether the source may be a link, as the files of datasets may.
    """

    kind: str
    source: StorePath
    target: StorePath
    digest: Digest
    follow_links: bool = False

    @property
    def num_files(self) -> int:
        """Implement `Step.num_files`."""
        return 1

    @property
    def num_bytes(self) -> int:
        """Implement `Step.num_bytes`."""
        return self.digest.size

    def write(self, on_bytes: OnBytes) -> None:
        """Implement `Step.write`."""
        read = self.source.read_linked if self.follow_links else self.source.read
        data = read(self.digest.size)
        if data is None or Digest.of(data) != self.digest:
            raise _changed(self.source)
        if self.target.create(data) != data:
            raise _conflict(self.target)
        on_bytes(len(data))


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyWeights:
    """Copy the weights of a model.

    Attributes:
        source: The folder of the weights; see `weights_folder`.
        target: The folder that they are copied to.
        files: The weights by path in their folder, as the statement of the model lists them.
    """

    source: StorePath
    target: StorePath
    files: Mapping[str, Digest]
    kind: str = "models"

    @property
    def num_files(self) -> int:
        """Implement `Step.num_files`."""
        return len(self.files)

    @property
    def num_bytes(self) -> int:
        """Implement `Step.num_bytes`."""
        return sum(each.size for each in self.files.values())

    def write(self, on_bytes: OnBytes) -> None:
        """Implement `Step.write`."""
        with self.source.local_files(self.files) as folder:
            self.target.put_files(folder, self.files)
        on_bytes(self.num_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyDataset:
    """Copy a dataset version: data.jsonl, of any size, and metadata.json; both or none.

    Attributes:
        source: The folder of the version.
        target: The folder that it is copied to.
        size: The size of data.jsonl in bytes.
        metadata: The bytes of metadata.json; `None` if there is no such file.
    """

    source: StorePath
    target: StorePath
    size: int
    metadata: bytes | None
    kind: str = "datasets"

    @property
    def num_files(self) -> int:
        """Implement `Step.num_files`."""
        return 1 if self.metadata is None else 2

    @property
    def num_bytes(self) -> int:
        """Implement `Step.num_bytes`."""
        return self.size + len(self.metadata or b"")

    def write(self, on_bytes: OnBytes) -> None:
        """Implement `Step.write`."""
        data = _Data(self.source / DATA_FILE, on_bytes)
        try:
            with self.target.new_folder() as folder, closing(data.pieces()) as pieces:
                folder.write(DATA_FILE, pieces)
                if self.metadata is not None:
                    check_dataset_metadata(
                        data.version(self.source), self.metadata, self.source / METADATA_FILE
                    )
                    folder.write(METADATA_FILE, [self.metadata])
        except FileExistsError as error:
            raise CopyConflict(
                f"{self.target}: found files that were not there before, or that are not those of "
                f"the dataset. Expected a new dataset version. Left as found; remove the folder, "
                "or copy to another root."
            ) from error
        on_bytes(len(self.metadata or b""))


class _Data:
    """Reads a data.jsonl in pieces; counts its lines and hashes it meanwhile."""

    def __init__(self, path: StorePath, on_bytes: OnBytes) -> None:
        self._path, self._on_bytes = path, on_bytes
        self._digest = hashlib.sha256()
        self._num_lines, self._last = 0, ord("\n")

    def pieces(self) -> Generator[bytes, None, None]:
        """Yield the bytes in pieces of up to 1 MiB."""
        buffer = memoryview(bytearray(PIECE_BYTES))
        with self._path.open() as file:
            while read := file.readinto(buffer):
                piece = bytes(buffer[:read])
                self._digest.update(piece)
                self._num_lines += piece.count(b"\n")
                self._last = piece[-1]
                yield piece
                self._on_bytes(read)

    def version(self, folder: StorePath) -> DatasetVersion:
        """Return the dataset version that was read; after the last of `pieces`."""
        return DatasetVersion(
            name=folder.name,
            path=str(self._path),
            num_samples=self._num_lines + (self._last != ord("\n")),
            sha256=self._digest.hexdigest(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyRegistry:
    """Copy the registry as it was when the copy was planned.

    Attributes:
        target: The registry of the destination.
        data: The registry of the source.
    """

    target: StorePath
    data: bytes
    kind: str = "registry"

    @property
    def num_files(self) -> int:
        """Implement `Step.num_files`."""
        return 1

    @property
    def num_bytes(self) -> int:
        """Implement `Step.num_bytes`."""
        return len(self.data)

    def write(self, on_bytes: OnBytes) -> None:
        """Implement `Step.write`."""

        def decide(found: bytes | None) -> Update[None]:
            if not is_continued(found, self.data, self.target):
                raise _conflict(self.target)
            return Update(None, None if found == self.data else [self.data])

        self.target.update(decide)
        on_bytes(len(self.data))


def is_continued(found: bytes | None, data: bytes, path: StorePath) -> bool:
    """Return whether a registry begins with all entries of another one, and has its other fields.

    Args:
        found: The registry of the destination; `None` if there is none.
        data: The registry of the source.
        path: The path of the registry of the destination, for errors.
    """
    if found in (None, data):
        return True
    try:
        before, after = parse_json(found or b"", path), parse_json(data, path)
    except CorruptFileError:
        return False
    entries, all_entries = before.pop("models", None), after.pop("models", None)
    if not isinstance(entries, list) or not isinstance(all_entries, list):
        return False
    return is_same_json([before, entries], [after, all_entries[: len(entries)]])


def _changed(path: StorePath) -> FileChangedError:
    return FileChangedError(
        f"{path}: written to after the copy began. Run the copy again: it continues."
    )


def _conflict(path: StorePath) -> CopyConflict:
    return CopyConflict(
        f"{path}: written by another process after the copy began, with other bytes. Left as "
        "found. Copy to another root, or remove what differs."
    )
