"""Memos: facts about files that this user verified on this host.

A memo is a small file in the user's cache folder (`$XDG_CACHE_HOME`, by default `~/.cache`), so a
user who can write to an artifacts root cannot forge one. Memos only save time: without one the
fact is verified again. A memo starts with the SHA-256 of the rest, so a torn one is not used.
"""

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

from src.errors import CorruptFileError

__all__ = ["memo_path", "read_facts", "read_memo", "unwritten_memos", "write_facts", "write_memo"]

FOLDER = "llm-training-pipeline"
LIMIT = 1 << 12  # bytes

logger = logging.getLogger(__name__)


_UNWRITTEN: dict[Path, bytes] | None = None


@contextmanager
def unwritten_memos() -> Iterator[None]:
    """Keep the memos that this process writes in the block in memory, until the block ends."""
    global _UNWRITTEN
    before, _UNWRITTEN = _UNWRITTEN, {}
    try:
        yield
    finally:
        _UNWRITTEN = before


def memo_path(path: str | Path, *, outside: str | Path) -> Path | None:
    """Return the path of the memo about `path`.

    Returns `None` if the user has no cache folder, or if that folder lies inside `outside`.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # noqa: PTH117  # a relative path is ignored, by the specification
        base = os.path.expanduser("~/.cache")  # noqa: PTH111  # never raises
    real = os.path.realpath(base)
    if not os.path.isabs(base) or f"{real}/".startswith(f"{outside}/"):  # noqa: PTH117
        return None
    return Path(base, FOLDER, sha256(os.fsencode(path)).hexdigest())


def read_memo(path: Path | None) -> bytes | None:
    """Return the contents of a memo; `None` if there is none that this user wrote."""
    if path is None:
        return None
    if _UNWRITTEN is not None and path in _UNWRITTEN:
        return _UNWRITTEN[path]
    try:
        with open(path, "rb", opener=_open_own) as file:
            checksum, _, data = file.read(LIMIT).partition(b"\n")
    except (OSError, CorruptFileError):
        return None
    return data if checksum == _checksum(data) else None


def read_facts(path: Path | None, identity: str | None) -> list[str]:
    """Return the facts of a memo about the file of this identity; empty if there is none."""
    about, *facts = (read_memo(path) or b"").decode(errors="replace").split("\n")
    return facts if identity is not None and about == identity else []


def write_facts(path: Path | None, identity: str, *facts: object) -> None:
    """Replace a memo by facts about the file of this identity; see `write_memo`."""
    write_memo(path, "\n".join([identity, *map(str, facts)]).encode())


def _checksum(data: bytes) -> bytes:
    return sha256(data).hexdigest().encode()


def write_memo(path: Path | None, data: bytes) -> None:
    """Replace a memo. If that fails, log one warning per process and reason, and continue.

    The memo is overwritten in place, which is several times as fast as a temporary file and a
    rename: the checksum reveals one that was only partly written.
    """
    if path is None:
        return
    if _UNWRITTEN is not None:
        _UNWRITTEN[path] = data
        return
    contents = _checksum(data) + b"\n" + data
    try:
        try:
            descriptor = _open_own(str(path), os.O_WRONLY | os.O_CREAT)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _open_own(str(path), os.O_WRONLY | os.O_CREAT)
        try:
            os.write(descriptor, contents)
            os.ftruncate(descriptor, len(contents))
        finally:
            os.close(descriptor)
    except (OSError, CorruptFileError) as error:
        _warn_once(str(path.parent), getattr(error, "strerror", None) or str(error))


def _open_own(path: str, flags: int) -> int:
    """Open a regular file that only this user can write and that has no other name."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    is_own = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not (is_own and stat.S_ISREG(status.st_mode) and status.st_nlink == 1):
        os.close(descriptor)
        raise CorruptFileError(f"{path} is not a regular file that only this user can write")
    return descriptor


@cache
def _warn_once(folder: str, reason: str) -> None:
    logger.warning("%s: memos cannot be written: %s. Continuing without them.", folder, reason)
