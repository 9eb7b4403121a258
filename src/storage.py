"""Bytes on disk: the one module that writes.

A reader of any file written here sees the old bytes or the new ones, never a mixture, also after
a process was killed or the power failed at any point in between. Everything else in the core
decides what the bytes are and leaves the writing to these functions.

Every write names a `root` and never leaves it: a path that a link leads out of `root` is refused.
"""

import errno
import fcntl
import hashlib
import json
import math
import os
import reprlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Contents",
    "CorruptFileError",
    "canonical_json",
    "confine",
    "create",
    "locked",
    "naming",
    "parse_json",
    "read",
    "read_sealed",
    "replace",
    "sha256",
    "shown",
    "update",
]

LOCK_SUFFIX = ".lock"
LOCK_TIMEOUT_SECONDS = 60.0
LOCK_POLL_SECONDS = 0.005

Contents = tuple[Iterable[bytes | memoryview], bytes | None]
"""The bytes of a file, in pieces, and the seal to be kept with them."""

_SEAL = "user.llm-training-pipeline.sha256"


class CorruptFileError(ValueError):
    """A file that this software wrote, or relies on, no longer says what it must say."""


def canonical_json(value: object) -> bytes:
    """Give the one form in which a value is written and hashed.

    UTF-8 JSON with sorted keys, two spaces of indentation and a final newline; floats in Python's
    shortest round-trip form. The same value gives the same bytes on every machine and release, so
    `sha256sum` of a file is the digest of its value.

    Raises:
        ValueError: The value holds NaN, an infinity, text that is not valid Unicode, something
            that JSON has no form for, or is nested too deeply.
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a JSON value: {error}") from error
    return text.encode() + b"\n"


def sha256(data: bytes) -> str:
    """Give the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def shown(value: object) -> str:
    """Give a value for an error message: its `repr`, cut where it is long or deep."""
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 200


def parse_json(data: bytes, source: Path, *, trusted: bool = False) -> dict[str, Any]:
    """Read one JSON object, strictly.

    Args:
        data: The bytes of the file.
        source: The file they came from, for the error.
        trusted: Whether `data` is known to be what `canonical_json` gave: this is not checked.

    Raises:
        CorruptFileError: Not UTF-8, not JSON, not an object, a key given twice, a number that is
            not finite; names the file and the place.
    """
    try:
        text = data.decode()
        value = json.loads(text, **({} if trusted else _STRICT))
        if "\\u" in text and not trusted:
            json.dumps(value, ensure_ascii=False).encode()  # an escaped lone surrogate fails here
    except UnicodeDecodeError as error:
        place = f"byte {error.start}"
        raise CorruptFileError(f"{source}: {place}: not UTF-8 text. Left as found.") from error
    except json.JSONDecodeError as error:
        what = f"not valid JSON ({error.msg})" if data.strip() else "the file is empty"
        place = f"line {error.lineno}, column {error.colno}"
        raise CorruptFileError(f"{source}: {place}: {what}. Left as found.") from error
    except RecursionError as error:
        raise CorruptFileError(f"{source}: nested too deeply. Left as found.") from error
    except UnicodeEncodeError as error:
        what = "an escape that is half of a character (a lone surrogate)"
        raise CorruptFileError(f"{source}: {what}. Left as found.") from error
    except CorruptFileError as error:
        raise CorruptFileError(f"{source}: {error}. Left as found.") from error
    except ValueError as error:
        what = f"a whole number of more than {sys.get_int_max_str_digits():,} digits"
        raise CorruptFileError(f"{source}: {what}. Left as found.") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise CorruptFileError(f"{source}: expected a JSON object, found a {kind}. Left as found.")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise CorruptFileError(f"the key {shown(twice)} is given twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise CorruptFileError(f"the number {text[:50]} is not finite")
    return number


_STRICT: dict[str, Any] = {
    "object_pairs_hook": _unique_keys,
    "parse_float": _finite,
    "parse_constant": _finite,
}


def read(path: Path) -> bytes | None:
    """Read a whole file; `None` where there is none."""
    with naming(path):
        try:
            with open(path, "rb", buffering=0) as file:
                return file.readall()
        except FileNotFoundError:
            return None


def read_sealed(path: Path) -> tuple[bytes | None, bytes | None]:
    """Read a whole file, as `read` does, and the seal that `update` wrote it with.

    A seal is a few bytes that come to their place in one rename with the file. They are no part of
    it (an extended attribute): a copy has none, and the file can be changed under its seal.

    Returns:
        The bytes; and the seal: empty where there is none, `None` where none can be kept.
    """
    with naming(path):
        try:
            with open(path, "rb", buffering=0) as file:
                return file.readall(), _seal(file.fileno())
        except FileNotFoundError:
            return None, None


def _seal(descriptor: int) -> bytes | None:
    try:
        return os.getxattr(descriptor, _SEAL)
    except OSError as error:
        return b"" if error.errno == errno.ENODATA else None
    except AttributeError:  # not on Linux
        return None


def confine(path: Path, root: Path) -> Path:
    """Follow every link in `path` and give the real path, which lies inside `root`.

    Raises:
        ValueError: A link leads out of `root`.
    """
    try:
        real = path.resolve()
        with suppress(FileNotFoundError, NotADirectoryError):
            real.stat()
        inside = real.is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:
        # Since Python 3.13 `resolve` gives a circle back as it is, and only `stat` tells.
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            raise
        raise ValueError(f"{path}: its links run in a circle. Nothing was written.") from error
    if not inside:
        raise ValueError(
            f"{path}: leads out of {root}, to {real}. Nothing was written; remove the link."
        )
    return real


def create(path: Path, data: bytes, *, root: Path) -> bytes:
    """Write a file that must never change once it is there.

    Afterwards `path` holds `data`, or, untouched, what it held before. Whichever it is, it is on
    the disk for good when this returns. Folders on the way are made.

    Returns:
        The bytes now at `path`; equal to `data` if this call wrote them or an earlier one had.

    Raises:
        OSError: The disk is full, read-only or the like; names the file. Nothing is left behind.
        ValueError: A link leads out of `root`.
    """
    path = _make_room(path, root)
    with naming(path):
        if (found := read(path)) is None or _temporary(path).exists():
            with _only_writer(path) as draft:
                if (found := read(path)) is None:
                    draft.fill([data])
                    os.link(draft.path, path)
                    found = data
        # Also when nothing was written: whoever did may have been killed just before this line.
        _sync_folder(path.parent)
    return found


def replace(path: Path, data: bytes, *, root: Path) -> None:
    """Write a file that may be written again: afterwards `path` holds `data`, whole.

    Raises:
        OSError, ValueError: As `create`; the old bytes are then still there.
    """
    path = _make_room(path, root)
    with naming(path):
        if read(path) != data or _temporary(path).exists():
            with _only_writer(path) as draft:
                draft.fill([data])
                os.replace(draft.path, path)
        _sync_folder(path.parent)


def update(
    path: Path,
    change: Callable[[bytes | None, bytes | None], Contents | None],
    *,
    root: Path,
) -> None:
    """Read a file, decide, and write it back, with every other writer locked out meanwhile.

    Args:
        path: The file. `<path>.lock` stays beside it.
        change: Gets the file's bytes and seal, as `read_sealed` does, and gives the new ones
            (`None` to leave it alone). Whatever it raises leaves the file as it was. Where the
            file system refuses the seal, the file is written without.
        root: The folder that no write may leave.

    Raises:
        TimeoutError: The lock was held by others for `LOCK_TIMEOUT_SECONDS`.
        OSError, ValueError: As `create`; the old bytes are then still there.
    """
    path = _make_room(path, root)
    with naming(path), locked(path):
        contents = change(*read_sealed(path))
        if contents is not None or _temporary(path).exists():
            with _only_writer(path) as draft:
                if contents is not None:
                    draft.fill(*contents)
                    os.replace(draft.path, path)
        _sync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, the file `<path>.lock`, which stays.

    Unlinking it would let two waiters hold locks on different inodes of one name.

    Raises:
        TimeoutError: Others held it for `LOCK_TIMEOUT_SECONDS`.
    """
    with _lent(path.with_name(path.name + LOCK_SUFFIX)) as lock:
        with suppress(PermissionError):  # another user made it, and has done this
            os.fchmod(lock.descriptor, 0o666)
        yield


def _held(lock: Path) -> TimeoutError:
    return TimeoutError(
        f"{lock}: another process has held this lock for more than {LOCK_TIMEOUT_SECONDS:g} s. "
        "Nothing was written; find out which, then try again."
    )


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


@dataclass(frozen=True)
class _Draft:
    """A file that no reader looks at, lent to one writer."""

    path: Path
    descriptor: int

    def fill(self, data: Iterable[bytes | memoryview], seal: bytes | None = None) -> None:
        with open(self.descriptor, "wb", closefd=False) as file:
            file.truncate()
            file.writelines(data)
        if seal:
            with suppress(AttributeError, OSError):  # without it the file is as good, and slower
                os.setxattr(self.descriptor, _SEAL, seal)
        os.fsync(self.descriptor)

    def is_at_its_path(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.lstat())
        except FileNotFoundError:
            return False


@contextmanager
def _lent(path: Path) -> Iterator[_Draft]:
    """Lend a file, made where there is none, to one writer at a time.

    The lock is on the file itself. The kernel lets go of it when its process dies.

    Raises:
        TimeoutError: Others held it for `LOCK_TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        draft = _Draft(path, os.open(path, flags, 0o666))
        try:
            if _lock(draft.descriptor):
                # While this process waited, the file may have been moved or removed.
                if draft.is_at_its_path():
                    try:
                        yield draft
                    finally:  # to close it is not enough if a process was forked meanwhile
                        fcntl.flock(draft.descriptor, fcntl.LOCK_UN)
                    return
            elif time.monotonic() > deadline:
                raise _held(path)
            else:
                time.sleep(LOCK_POLL_SECONDS)
        finally:
            os.close(draft.descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _only_writer(path: Path) -> Iterator[_Draft]:
    """Lend a temporary file beside `path` to one writer at a time, and leave nothing of it.

    After a writer was killed, the next one takes over what it left. Only who holds the file may
    move or remove its name.
    """
    while True:
        with _lent(_temporary(path)) as draft:
            # It may have been linked to its final name by a process killed right after.
            if os.fstat(draft.descriptor).st_nlink == 1:
                try:
                    yield draft
                finally:
                    if draft.is_at_its_path():
                        draft.path.unlink()
                return
            draft.path.unlink()


def _make_room(path: Path, root: Path) -> Path:
    """Make the folder that `path` lies in, durably, and give the real path."""
    path = confine(path, root)
    with naming(path):
        missing = []
        folder = path.parent
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)
    return path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an I/O error that knows no file name (a failed read or fsync) that of `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
