"""The steps of a copy: each writes some files to the destination, and is harmless if repeated.

A step compares the bytes that it copies with their digests, and never replaces a file.
"""

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from src.digest import Digest
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
]

PIECE_BYTES = 1 << 20

OnBytes = Callable[[int], None]
"""Receives the number of bytes that were copied since the last call."""


class CopyConflict(ValueError):
    """Raised when the destination has a file with other bytes. It is left as found."""


class Step(Protocol):
    """Some files of one kind that are to be copied."""

    @property
    def kind(self) -> str:
        """The folder of the artifacts root that holds them, or `registry`."""
        ...

    @property
    def num_files(self) -> int:
        """Their number."""
        ...

    @property
    def num_bytes(self) -> int:
        """Their size in bytes."""
        ...

    def write(self, on_bytes: OnBytes) -> None:
        """Copy them, unless they are there with the same bytes.

        Raises:
            CopyConflict: A file is there with other bytes.
            CorruptFileError, DatasetMismatchError: A file of the source is not as recorded.
            FileChangedError: A file of the source was written to meanwhile.
            OSError: A file cannot be read or written; no partial file is visible.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyFile:
    """A file of the record, which fits into memory.

    Attributes:
        source: Its path.
        target: The path that it is copied to.
        digest: Its contents.
        is_linked: Whether it may be a link, as the files of datasets.
    """

    kind: str
    source: StorePath
    target: StorePath
    digest: Digest
    is_linked: bool = False

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
        read = self.source.read_linked if self.is_linked else self.source.read
        data = read(self.digest.size)
        if data is None or Digest.of(data) != self.digest:
            raise _changed(self.source)
        if self.target.create(data) != data:
            raise _exists(self.target)
        on_bytes(len(data))


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyWeights:
    """The weights of a model.

    Attributes:
        source: Their folder; see `weights_folder`.
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
    """A dataset version: data.jsonl, in pieces, and metadata.json, whole or not at all.

    Attributes:
        source: Its folder.
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
    """A data.jsonl that is read, counted and hashed."""

    def __init__(self, path: StorePath, on_bytes: OnBytes) -> None:
        self._path, self._on_bytes = path, on_bytes
        self._digest = hashlib.sha256()
        self._num_lines, self._last = 0, ord("\n")

    def pieces(self) -> Generator[bytes, None, None]:
        """Yield the bytes."""
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
        """Return what was read, as a dataset version."""
        return DatasetVersion(
            name=folder.name,
            path=str(self._path),
            num_samples=self._num_lines + (self._last != ord("\n")),
            sha256=self._digest.hexdigest(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyRegistry:
    """The registry, as it was when the copy was planned."""

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
            if found not in (None, self.data):
                raise _exists(self.target)
            return Update(None, [self.data] if found is None else None)

        self.target.update(decide)
        on_bytes(len(self.data))


def _changed(path: StorePath) -> FileChangedError:
    return FileChangedError(
        f"{path}: written to after the copy began. Run the copy again: it continues."
    )


def _exists(path: StorePath) -> CopyConflict:
    return CopyConflict(
        f"{path}: written by another process after the copy began, with other bytes. Left as "
        "found. Copy to another root, or remove what differs."
    )
