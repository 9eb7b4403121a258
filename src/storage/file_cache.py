"""Local copies of objects, in the user's cache folder, named after the SHA-256 of their bytes.

<cache>/<SHA-256>           a copy
<cache>/use-<random>/       the files of one use: hard links to copies, in a folder that is locked

A copy is hashed each time before it is used. Each use has separate links, so another process may
delete a copy meanwhile. If the copies take more than `LLM_TRAIN_CACHE_GB` gigabytes (10^9 bytes; by
default 50), those that were not used for the longest time are deleted.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from src.digest import Digest
from src.errors import CorruptFileError, truncated_repr
from src.storage.locking import try_lock
from src.storage.reading import open_regular
from src.storage.store import FileChangedError

__all__ = ["FileCache"]

LIMIT_VARIABLE = "LLM_TRAIN_CACHE_GB"
DEFAULT_LIMIT_GB = 50.0
PIECE_BYTES = 1 << 20

Fetch = Callable[[str], Iterable[bytes]]
"""Receives the name of a file; returns its bytes in pieces."""


class FileCache:
    """The copies in one folder, which several processes may share.

    Args:
        folder: The folder; created when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def provide(self, files: Mapping[str, Digest], fetch: Fetch) -> Iterator[Path]:
        """Provide files as a folder, for reading, until the end of the block.

        Afterwards the cache has a copy of each file, unless the limit is smaller.

        Args:
            files: The digest of each file, by its path in the folder.
            fetch: Returns the bytes of a file; called for each file without an intact copy.

        Raises:
            CorruptFileError: A fetched file has another digest, or a path leads out of the folder;
                names the file.
            FileChangedError: On exit: a file was written to meanwhile.
            OSError: There is no space, or the folder cannot be written to.
            ValueError: `LLM_TRAIN_CACHE_GB` is not a valid number.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._delete_abandoned()
        with self._new_folder() as folder:
            for name, digest in files.items():
                if not {"", ".", ".."}.isdisjoint(name.split("/")):
                    raise CorruptFileError(f"{truncated_repr(name)}: not a path below a folder.")
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._link(name, digest, path, fetch)
            self._shrink(_limit(), {each.sha256 for each in files.values()})
            before = {name: _state(folder / name) for name in files}
            yield folder
            for name, digest in files.items():
                self._check_unaltered(folder / name, digest, before[name])

    @contextmanager
    def _new_folder(self) -> Iterator[Path]:
        """Provide a new folder, locked until the end of the block; then remove it."""
        while True:
            folder = Path(tempfile.mkdtemp(prefix="use-", dir=self._folder))
            with suppress(FileNotFoundError):  # deleted before it could be locked
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if try_lock(descriptor) and os.path.samestat(
                        os.fstat(descriptor), folder.stat()
                    ):
                        break
                except FileNotFoundError:
                    pass
                os.close(descriptor)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def _link(self, name: str, digest: Digest, path: Path, fetch: Fetch) -> None:
        """Create `path` as a link to the copy; fetch the file if the copy is missing or altered."""
        copy = self._folder / digest.sha256
        if copy.is_dir() and not copy.is_symlink():
            shutil.rmtree(copy)
        try:
            os.link(copy, path, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if _has_digest(path, digest):
                os.utime(path)
                return
            copy.unlink(missing_ok=True)
            path.unlink()
        self._fetch(name, digest, path, fetch)
        with suppress(FileExistsError):  # another process was faster
            os.link(path, copy)

    def _check_unaltered(self, path: Path, digest: Digest, before: object) -> None:
        """Check a file that was in use; another process may have set the times of its copy."""
        if _state(path) == before or _has_digest(path, digest):
            return
        (self._folder / digest.sha256).unlink(missing_ok=True)
        raise FileChangedError(f"{path}: written to while it was in use. Run again.")

    def _fetch(self, name: str, digest: Digest, path: Path, fetch: Fetch) -> None:
        found, size = hashlib.sha256(), 0
        with open(path, "xb") as file:
            for piece in fetch(name):
                size += len(piece)
                if size > digest.size:
                    break
                found.update(piece)
                file.write(piece)
        if Digest(size, found.hexdigest()) != digest:
            path.unlink()
            actual = "a larger file" if size > digest.size else found.hexdigest()
            raise CorruptFileError(
                f"{name}: expected sha256 {digest.sha256}, found {actual}. Left as found; restore "
                "it from a backup."
            )
        path.chmod(0o444)

    def _shrink(self, limit: int, used: set[str]) -> None:
        """Delete unused copies, the least recently used first, down to `limit` bytes in all."""
        copies = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # deleted by another process
                    if len(entry.name) == 64 and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        copies.append((status.st_mtime_ns, status.st_size, entry.name))
        total = sum(size for _, size, _ in copies)
        for _, size, name in sorted(copies):
            if total <= limit:
                return
            if name not in used:
                (self._folder / name).unlink(missing_ok=True)
                total -= size

    def _delete_abandoned(self) -> None:
        """Delete the folders of uses whose process was killed: they are no longer locked."""
        for folder in self._folder.glob("use-*"):
            with suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    if try_lock(descriptor):
                        shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(descriptor)


def _has_digest(path: Path, digest: Digest) -> bool:
    """Return whether a path is a regular file with these bytes; no link is followed."""
    found = hashlib.sha256()
    try:
        if path.is_symlink():
            return False
        descriptor = open_regular(path)
    except (CorruptFileError, FileNotFoundError):
        return False
    with open(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_size != digest.size:
            return False
        while piece := file.read(PIECE_BYTES):
            found.update(piece)
    return found.hexdigest() == digest.sha256


def _state(path: Path) -> tuple[int, int] | None:
    """Return size and time of the last change of a file; `None` without one."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _limit() -> int:
    """Return the number of bytes that the copies may take.

    Raises:
        ValueError: `LLM_TRAIN_CACHE_GB` is set, and is not a number from 0.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e9:
        raise ValueError(f"{LIMIT_VARIABLE}: expected a number of gigabytes, found {text[:50]!r}.")
    return int(limit * 1e9)
