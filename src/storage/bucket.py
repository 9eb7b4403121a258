"""The bucket back end: a store in an object store (S3, Google Cloud Storage, Azure).

There are no locks. A file is written on the condition that it does not exist, or that it was not
written since it was read. Of several writers one succeeds; the others read the file and decide
again. After an error of such a write the file is read: see `src.storage.readback`. A write that
arrives late has no effect, because its condition no longer holds.

Files of more than `PART_BYTES` are uploaded in parts, without a condition. They are weights, below
a name that is the digest of their contents, and the first file of a new folder.
"""

import errno
import os
import posixpath
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from src.digest import Digest, digest_of_files
from src.errors import CorruptFileError
from src.progress import ignore_progress
from src.storage.file_cache import FileCache
from src.storage.memo import memo_path, read_facts, read_memo, write_facts, write_memo
from src.storage.objects.client import PART_BYTES, ObjectClient, ObjectInfo, StoredObject
from src.storage.objects.errors import RefusedError, UnknownOutcomeError
from src.storage.readback import Outcome, outcome_of_swap
from src.storage.stopping import stoppable_threads
from src.storage.store import FileChangedError, Key, NewFolder, Reader, Stat, Update
from src.storage.tree import copy_pieces, first_difference, hash_reader

__all__ = ["BucketStore"]

T = TypeVar("T")

CREATE_LIMIT = 1 << 26  # bytes of an existing file that `create` returns
UPDATE_LIMIT = 1 << 30  # bytes of a file that is read in order to be updated
PARTS_AHEAD = 4


class BucketStore:
    """Files below one address; implements `Store`.

    `put_files` writes to a folder that is named by the digest of its contents; see `place`.
    """

    def __init__(self, client: ObjectClient) -> None:
        self._client = client
        self._is_usable = False

    @property
    def url(self) -> str:
        """The address, e.g. `s3://bucket/prefix`."""
        return self._client.url

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BucketStore):
            return False
        return self._client.qualified_url == other._client.qualified_url

    def __hash__(self) -> int:
        return hash(self._client.qualified_url)

    parallel_requests = 16

    # --- Reading ---------------------------------------------------------------------------------

    def read(self, key: Key, limit: int) -> bytes | None:
        """Implement `Store.read`."""
        found = self._client.get(key, limit)
        return None if found is None else found.data

    def stat(self, key: Key) -> Stat | None:
        """Implement `Store.stat`."""
        info = self._client.head(key)
        return None if info is None else _stat(info)

    @contextmanager
    def open(self, key: Key) -> Iterator[Reader]:
        """Implement `Store.open`: all bytes are those of one write."""
        first = self._client.get_first_part(key)
        if first is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._message(key))
        with closing(_pieces(self._client, first)) as pieces:
            yield _ObjectReader(_stat(first.info), pieces)

    def files(self, prefix: Key) -> Iterator[Stat]:
        """Implement `Store.files`; the identities are `None`."""
        for info in self._client.list(prefix):
            yield Stat(info.key, info.size, None)

    def folders(self, prefix: Key, *, follow_links: bool = False) -> list[str]:  # noqa: ARG002
        """Implement `Store.folders`."""
        return list(self._client.folders(prefix))

    # --- Writing ---------------------------------------------------------------------------------

    def create(self, key: Key, data: bytes) -> bytes:
        """Implement `Store.create`."""
        self._check_usable()
        backoff = self._client.backoff()
        while True:
            try:
                self._client.put(key, data, None)
            except UnknownOutcomeError as error:
                found = self._client.get(key, CREATE_LIMIT)
                if found is not None:
                    return found.data
                backoff.wait(error)
            else:
                return data

    def create_many(self, files: Mapping[Key, bytes]) -> set[Key]:
        """Implement `Store.create_many`: several folders at the same time."""
        folders: dict[str, list[Key]] = {}
        for key in files:
            folders.setdefault(posixpath.dirname(key), []).append(key)

        def create(keys: list[Key]) -> list[Key]:
            done: list[Key] = []
            for key in keys:
                try:
                    if self.create(key, files[key]) != files[key]:
                        break  # no metadata.json beside the provenance.json of another run
                except (OSError, CorruptFileError):
                    break
                done.append(key)
            return done

        self._check_usable()
        with stoppable_threads(self.parallel_requests) as submit:
            created = [submit(create, keys) for keys in folders.values()]
            return {key for each in created for key in each.result()}

    def replace(self, key: Key, data: bytes) -> None:
        """Implement `Store.replace`; a write that arrives late does not undo a later one."""
        self.update(key, lambda _: Update(None, [data]))

    def update(self, key: Key, decide: Callable[[bytes | None], Update[T]]) -> T:
        """Implement `Store.update`, by compare-and-swap."""
        found = self._client.get(key, UPDATE_LIMIT)
        backoff = self._client.backoff()  # after the first answer, so with the longer time limit
        while True:
            before, tag = (None, None) if found is None else (found.data, found.info.tag)
            update = decide(before)
            if update.data is None:
                return update.result
            new = b"".join(update.data)
            if new == before:
                return update.result
            self._check_usable()
            try:
                self._client.put(key, new, tag)
            except UnknownOutcomeError as error:
                found = self._client.get(key, UPDATE_LIMIT)
                outcome = outcome_of_swap(before, new, found and found.data)
                if outcome is Outcome.WRITTEN:
                    return update.result
                backoff.wait(self._too_slow(key) if outcome is Outcome.OVERTAKEN else error)
            else:
                return update.result

    # --- Many files ------------------------------------------------------------------------------

    def place(self, prefix: Key, files: Mapping[str, Digest]) -> Key:
        """Implement `Store.place`: a folder that is named after the contents of the files."""
        return f"{prefix}/{digest_of_files(files)}"

    def digests(
        self,
        prefix: Key,
        *,
        use_memos: bool = False,
        progress: Callable[[int], None] = ignore_progress,
    ) -> dict[str, Digest]:
        """Implement `Store.digests`."""
        return {
            info.key.removeprefix(f"{prefix}/"): self._digest(info.key, use_memos, progress)
            for info in self._client.list(prefix)
        }

    def _digest(self, key: Key, use_memos: bool, progress: Callable[[int], None]) -> Digest:
        memo = self.memo(key) if use_memos else None
        info = self._client.head(key) if use_memos else None
        if info is not None and (known := _known_digest(memo, info)) is not None:
            return known
        with self.open(key) as file:
            found = hash_reader(file, progress)
        if file.stat.identity is not None:
            write_facts(memo, file.stat.identity, *found)
        return found

    def put_files(self, prefix: Key, folder: Path, files: Mapping[str, Digest]) -> None:
        """Implement `Store.put_files`.

        `prefix` is the place of these files, so no other file below it is removed. Files that this
        user has hashed since they were written, and that are as expected, are not uploaded again.
        """
        self._check_usable()
        for name, digest in files.items():
            key = f"{prefix}/{name}"
            info = self._client.head(key)
            if info is not None and _known_digest(self.memo(key), info) == digest:
                continue
            if digest.size <= PART_BYTES:
                with closing(copy_pieces(folder, name, digest)) as data:
                    self.replace(key, b"".join(data))
            else:
                pieces = partial(copy_pieces, folder, name, digest)
                self._client.upload(key, pieces, digest.size)

    @contextmanager
    def new_folder(self, prefix: Key) -> Iterator[NewFolder]:
        """Implement `Store.new_folder`.

        The files are kept in a temporary folder on this host until the end of the block. Then they
        are uploaded, the one that was written first last: with it, the folder is complete. If an
        upload fails, some of the others remain, and a second try with the same bytes completes the
        folder.
        """
        with tempfile.TemporaryDirectory(prefix="llm-train-") as spool:
            folder = _Spool(Path(spool), self._refuse_existing(prefix))
            yield folder
            if not folder.files:
                return
            first, *others = folder.files
            self._check_only(prefix, others)
            for name in others:
                data = Path(spool, name).read_bytes()
                if self.create(f"{prefix}/{name}", data) != data:
                    raise self._exists(prefix)
            self._put_new(f"{prefix}/{first}", Path(spool, first))

    def _refuse_existing(self, prefix: Key) -> Callable[[str], None]:
        """Return a function that raises if the folder has the given file, its first one."""

        def check(name: str) -> None:
            if self._client.head(f"{prefix}/{name}") is not None:
                raise self._exists(prefix)

        return check

    def _check_only(self, prefix: Key, names: Iterable[str]) -> None:
        """Raise if the folder has files of other names, or if `prefix` is a file."""
        found = {info.key for info in self._client.list(prefix)}
        if found - {f"{prefix}/{name}" for name in names} or self._client.head(prefix):
            raise self._exists(prefix)

    def _put_new(self, key: Key, path: Path) -> None:
        """Write the first file of a new folder.

        A large file has no condition: of two writers with different bytes, both have to be stopped
        before, by another file of the folder that has the digest of this one.
        """
        size = path.stat().st_size
        if size > PART_BYTES:
            self._client.upload(key, lambda: _file_pieces(path), size)
        else:
            data = path.read_bytes()
            if self.create(key, data) != data:
                raise self._exists(posixpath.dirname(key))

    def _exists(self, prefix: Key) -> FileExistsError:
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._message(prefix))

    @contextmanager
    def local_files(self, prefix: Key, files: Mapping[str, Digest]) -> Iterator[Path]:
        """Implement `Store.local_files`: copies in the user's cache folder."""
        found = {
            info.key.removeprefix(f"{prefix}/"): info.size for info in self._client.list(prefix)
        }
        expected = {name: digest.size for name, digest in files.items()}
        if found != expected:
            raise CorruptFileError(first_difference(self._message(prefix), found, expected))
        with self._copies(prefix, files) as folder:
            yield folder

    @contextmanager
    def local_file(self, key: Key, digest: Digest) -> Iterator[Path]:
        """Implement `Store.local_file`: a copy in the user's cache folder."""
        info = self._client.head(key)
        if info is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._message(key))
        prefix, name = posixpath.split(key)
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(self._copies(prefix, {name: digest}))
            except CorruptFileError as error:
                raise FileChangedError(
                    f"{self._message(key)}: written to after it was hashed. Nothing was copied."
                ) from error
            yield folder / name

    @contextmanager
    def _copies(self, prefix: Key, files: Mapping[str, Digest]) -> Iterator[Path]:
        def fetch(name: str) -> Iterator[bytes]:
            key = f"{prefix}/{name}" if prefix else name
            first = self._client.get_first_part(key)
            if first is None:
                raise CorruptFileError(
                    f"{self._message(key)}: no such file. Restore it from a backup."
                )
            yield from _pieces(self._client, first)

        with ExitStack() as stack:
            base = self._cache_folder("files")
            if base is None:
                base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llm-train-")))
            try:
                folder = stack.enter_context(FileCache(base).provide(files, fetch))
            except CorruptFileError as error:
                raise CorruptFileError(f"{self._message(prefix)}/{error}") from error
            yield folder

    def local_folder(self, key: Key) -> Path:
        """Implement `Store.local_folder`: a folder in the user's cache folder, of this host."""
        name = sha256(self._client.qualified_url.encode()).hexdigest()[:16]
        base = self._cache_folder("work") or Path(tempfile.gettempdir(), f"llm-train-{os.getuid()}")
        folder = base / name / key
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.resolve()

    def _cache_folder(self, name: str) -> Path | None:
        """Return a folder next to the memos; `None` if the user has no cache folder."""
        memo = self.memo("")
        return None if memo is None else memo.parent / name

    def memo(self, key: Key) -> Path | None:
        """Implement `Store.memo`."""
        return memo_path(f"{self._client.qualified_url}/{key}", outside=self.url)

    # --- Probe -----------------------------------------------------------------------------------

    def probe(self) -> None:
        """Implement `Store.probe`: check that the server obeys the conditions of writes.

        Some servers ignore them and answer that the file was written: the entries of all writers
        but the last one would be lost silently. Writes a file below `.probe/`, and deletes it by
        one request: it is left if the credentials do not allow that, or the server is away.

        Raises:
            RefusedError: The server does not obey one of the conditions; names it.
            OSError: The server does not answer.
        """
        key = f".probe/{uuid4().hex}"
        client = self._client

        def is_written(data: bytes, tag: str | None) -> bool:
            """Write, and return whether the server accepted it; repeat after network errors."""
            backoff = client.backoff()
            while True:
                try:
                    client.put(key, data, tag)
                except UnknownOutcomeError as error:
                    found = client.get(key, 1 << 10)
                    if found is not None and found.data == data:
                        return True
                    if error.is_precondition_failed:
                        return False
                    backoff.wait(error)
                else:
                    return True

        def require(is_met: bool, fault: str) -> None:
            if not is_met:
                raise RefusedError(
                    f"{self.url}: {fault}. Without conditional writes, concurrent runs lose each "
                    "other's models. Nothing was written; use another server, or a newer version "
                    "of it."
                )

        try:
            is_created = is_written(b"1", None)
            require(is_created, "the server does not create a file if there is none")
            first = client.get(key, 1 << 10)
            is_new = is_written(b"2", None)
            require(not is_new, "the server replaces a file that must not exist")
            tag = first.info.tag if first else ""
            require(is_written(b"3", tag), "the server does not replace a file that is unchanged")
            is_stale = is_written(b"4", tag)
            require(not is_stale, "the server replaces a file that was written since it was read")
        finally:
            client.try_delete(key)

    def _check_usable(self) -> None:
        """Probe the server before the first write of this user on this host."""
        if self._is_usable:
            return
        bucket = self._client.qualified_bucket
        memo = memo_path(f"{bucket} obeys conditions", outside=self.url)
        if read_memo(memo) is None:
            self.probe()
            write_memo(memo, bucket.encode())
        self._is_usable = True

    def _too_slow(self, key: Key) -> TimeoutError:
        return TimeoutError(
            f"{self._message(key)}: other writers were faster each time. Nothing was written; run "
            "again."
        )

    def _message(self, key: Key) -> str:
        return f"{self.url}/{key}" if key else self.url


class _ObjectReader:
    """An open object; implements `Reader`."""

    def __init__(self, stat: Stat, pieces: Iterator[bytes]) -> None:
        self.stat = stat
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        """Implement `Reader.readinto`."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size


def _pieces(client: ObjectClient, first: StoredObject) -> Generator[bytes, None, None]:
    """Yield the bytes of an object; up to `PARTS_AHEAD` parts are fetched ahead, in threads."""
    yield first.data
    starts = range(len(first.data), first.info.size, PART_BYTES)  # a list could be too large
    if not starts:
        return
    with stoppable_threads(PARTS_AHEAD) as submit:
        parts: deque[Any] = deque()
        for start in starts:
            parts.append(submit(client.get_part, first.info, start))
            if len(parts) == PARTS_AHEAD:
                yield parts.popleft().result()
        while parts:
            yield parts.popleft().result()


class _Spool:
    """The files of a folder that is being written, on this host; implements `NewFolder`."""

    def __init__(self, folder: Path, check_first: Callable[[str], None]) -> None:
        self._folder = folder
        self._check_first = check_first
        self.files: list[str] = []

    def write(self, name: str, data: Iterable[bytes | memoryview]) -> None:
        """Implement `NewFolder.write`."""
        if name in self.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        if not self.files:
            self._check_first(name)
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.writelines(data)
        self.files.append(name)


def _file_pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def _stat(info: ObjectInfo) -> Stat:
    return Stat(info.key, info.size, info.identity)


def _known_digest(memo: Path | None, info: ObjectInfo) -> Digest | None:
    known = read_facts(memo, info.identity)
    if len(known) == 2 and known[0].isdecimal():
        return Digest(int(known[0]), known[1])
    return None
