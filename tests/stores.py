"""An in-memory back end, which behaves as an object store does, and its faults."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import BytesIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from threading import Lock
from typing import Any, TypeVar
from uuid import uuid4

from src.digest import Digest, digest_of_files
from src.errors import CorruptFileError
from src.progress import ignore_progress
from src.storage import FileChangedError, Key, NewFolder, Reader, Stat, StorePath, Update
from src.storage.memo import memo_path
from src.storage.tree import copy_pieces, first_difference

__all__ = ["FAULTS", "MemoryStore", "delete"]

T = TypeVar("T")

FAULTS = ("none", "lost answers", "lost races")


class LostAnswerError(OSError):
    """Raised by the server for a request whose answer does not arrive."""


class LostRaceError(Exception):
    """Raised by the server for a conditional write whose condition does not hold."""


class MemoryServer:
    """The server of an object store: objects with a version, and conditional writes.

    With `loses_answers`, every second write is carried out and raises all the same.
    """

    def __init__(self, *, loses_answers: bool = False) -> None:
        self.name = uuid4().hex
        self.objects: dict[Key, tuple[bytes, int]] = {}
        self.loses_answers = loses_answers
        self._versions, self._writes = count(1), count()
        self._lock = Lock()

    def get(self, key: Key) -> tuple[bytes | None, int]:
        return self.objects.get(key, (None, 0))

    def put(self, key: Key, data: bytes, *, version: int | None = None) -> None:
        """Write an object; with `version`, only if the object has that version (0: is absent)."""
        with self._lock:
            if version is not None and self.get(key)[1] != version:
                raise LostRaceError
            self.objects[key] = (bytes(data), next(self._versions))
            if self.loses_answers and next(self._writes) % 2 == 0:
                raise LostAnswerError(f"{key}: connection closed without an answer")

    def delete(self, key: Key) -> None:
        del self.objects[key]


class MemoryBucket:
    """The objects of a server below a prefix, which their keys here do not have."""

    def __init__(self, server: MemoryServer, prefix: str) -> None:
        self.name, self._server, self._prefix = server.name, server, prefix

    @property
    def objects(self) -> dict[Key, tuple[bytes, int]]:
        """A copy: objects are written by `put`."""
        found = self._server.objects.items()
        return {k[len(self._prefix) :]: v for k, v in found if k.startswith(self._prefix)}

    def get(self, key: Key) -> tuple[bytes | None, int]:
        return self._server.get(self._prefix + key)

    def put(self, key: Key, data: bytes, *, version: int | None = None) -> None:
        self._server.put(self._prefix + key, data, version=version)

    def delete(self, key: Key) -> None:
        self._server.delete(self._prefix + key)


class MemoryStore:
    """A client of a `MemoryServer`; implements `Store`.

    Args:
        url: The root in messages.
        fault: One of `FAULTS`: nothing; the answer of every second write is lost; or every update
            loses its first race against a writer that writes the same bytes.
        server: The objects; a new server if `None`.
    """

    def __init__(
        self, url: str = "artifacts", fault: str = "none", server: MemoryBucket | None = None
    ) -> None:
        assert fault in FAULTS
        self.url = url
        self.loses_races = fault == "lost races"
        self.server: Any = server or MemoryServer(loses_answers=fault == "lost answers")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryStore) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.url)

    parallel_requests = 4

    def read(self, key: Key, limit: int) -> bytes | None:
        data, _ = self.server.get(key)
        if data is None and self._is_folder(key):
            raise CorruptFileError(
                f"{self._message(key)}: expected a regular file, found a folder. Left as found."
            )
        if data is not None and len(data) > limit:
            raise CorruptFileError(
                f"{self._message(key)}: larger than {limit:,} bytes. Left as found."
            )
        return data

    def stat(self, key: Key) -> Stat | None:
        data, version = self.server.get(key)
        return None if data is None else Stat(key, len(data), f"{self.server.name}-{version}")

    @contextmanager
    def open(self, key: Key) -> Iterator[Reader]:
        """Open one version of an object, which others may replace meanwhile."""
        file = self.stat(key)
        if file is None:
            self.read(key, 0)
            raise FileNotFoundError(2, "No such file or directory", self._message(key))
        yield MemoryReader(file, BytesIO(self.server.get(key)[0] or b""))

    def files(self, prefix: Key) -> Iterator[Stat]:
        for key, (data, _) in sorted(self.server.objects.items()):
            if not prefix or key.startswith(f"{prefix}/"):
                yield Stat(key, len(data), None)  # a list has no versions

    def folders(self, prefix: Key, *, follow_links: bool = False) -> list[str]:
        start = f"{prefix}/" if prefix else ""
        rests = [key[len(start) :] for key in self.server.objects if key.startswith(start)]
        return sorted({rest.partition("/")[0] for rest in rests if "/" in rest})

    def create(self, key: Key, data: bytes) -> bytes:
        try:
            self.server.put(key, data, version=0)
        except (LostAnswerError, LostRaceError):
            found, _ = self.server.get(key)
            assert found is not None
            return found
        return data

    def create_many(self, files: Mapping[Key, bytes]) -> set[Key]:
        done, stopped = set[Key](), set[Key]()
        for key, data in files.items():
            folder = key.rpartition("/")[0]
            if folder not in stopped and self.create(key, data) == data:
                done.add(key)
            else:
                stopped.add(folder)
        return done

    def replace(self, key: Key, data: bytes) -> None:
        try:
            self.server.put(key, data)
        except LostAnswerError:
            found, _ = self.server.get(key)
            if found != data:
                raise

    def update(self, key: Key, decide: Callable[[bytes | None], Update[T]]) -> T:
        loses_race = self.loses_races
        while True:
            data, version = self.server.get(key)
            update = decide(data)
            if update.data is None:
                return update.result
            new = b"".join(update.data)
            if loses_race:  # another writer is faster, with the same bytes, or deletes its file
                loses_race = False
                if data is None:
                    continue
                with suppress(LostRaceError):
                    self.server.put(key, data, version=version)
            try:
                self.server.put(key, new, version=version)
            except LostRaceError:
                continue
            except LostAnswerError:
                if self.server.get(key)[0] != new:
                    continue
            return update.result

    def digests(
        self,
        prefix: Key,
        *,
        use_memos: bool = False,
        progress: Callable[[int], None] = ignore_progress,
    ) -> dict[str, Digest]:
        found = {}
        for key, (data, _) in sorted(self.server.objects.items()):
            if key.startswith(f"{prefix}/"):
                progress(len(data))
                found[key.removeprefix(f"{prefix}/")] = Digest(len(data), sha256(data).hexdigest())
        return found

    def place(self, prefix: Key, files: Mapping[str, Digest]) -> Key:
        return f"{prefix}/{digest_of_files(files)}"

    def put_files(self, prefix: Key, folder: Path, files: Mapping[str, Digest]) -> None:
        for name, digest in files.items():
            pieces = copy_pieces(folder, name, digest)
            self.replace(f"{prefix}/{name}", b"".join(pieces))

    @contextmanager
    def new_folder(self, prefix: Key) -> Iterator[NewFolder]:
        """Create all objects at the end of the block, the one that was written first last."""
        folder = MemoryFolder()
        yield folder
        first = next(iter(folder.files), None)
        if first is not None and self.stat(f"{prefix}/{first}") is not None:
            raise FileExistsError(17, "File exists", self._message(prefix))
        for name, data in reversed(folder.files.items()):
            if self.create(f"{prefix}/{name}", data) != data:
                raise FileExistsError(17, "File exists", self._message(prefix))

    @contextmanager
    def local_files(self, prefix: Key, files: Mapping[str, Digest]) -> Iterator[Path]:
        found = self.digests(prefix)
        if found != files:
            raise CorruptFileError(first_difference(self._message(prefix), found, files))
        with TemporaryDirectory() as folder:
            for name in files:
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.server.get(f"{prefix}/{name}")[0] or b"")
            yield Path(folder)

    @contextmanager
    def local_file(self, key: Key, digest: Digest) -> Iterator[Path]:
        data, _ = self.server.get(key)
        if data is None:
            raise FileNotFoundError(2, "No such file or directory", self._message(key))
        if Digest.of(data) != digest:
            raise FileChangedError(f"{self._message(key)}: written to after it was hashed.")
        with TemporaryDirectory() as folder:
            path = Path(folder, key.rpartition("/")[2])
            path.write_bytes(data)
            yield path

    def local_folder(self, key: Key) -> Path:
        path = Path(gettempdir(), f"memory-{self.server.name}", key)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def memo(self, key: Key) -> Path | None:
        return memo_path(Path("/memory", self.server.name, key), outside=Path("/memory"))

    def probe(self) -> None:
        """Return immediately: conditional writes are always available."""

    def _is_folder(self, key: Key) -> bool:
        return any(each.startswith(f"{key}/") for each in self.server.objects)

    def _message(self, key: Key) -> str:
        return f"{self.url}/{key}"


class MemoryFolder:
    """The files of a folder that is being written."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def write(self, name: str, data: Iterable[bytes | memoryview]) -> None:
        if name in self.files:
            raise FileExistsError(17, "File exists", name)
        self.files[name] = b"".join(data)


class MemoryReader:
    """An open object."""

    def __init__(self, file: Stat, data: BytesIO) -> None:
        self.stat = file
        self.readinto: Any = data.readinto


def delete(path: StorePath) -> None:
    """Delete a file, as a user would: a `Store` has no such method."""
    if isinstance(path.store, MemoryStore):
        path.store.server.delete(path.key)
    else:
        Path(str(path)).unlink()
