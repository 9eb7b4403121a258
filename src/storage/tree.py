"""A folder of files as one value: what is in it, and copying it. No link is followed."""

import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from io import FileIO
from pathlib import Path

from src.digest import Digest
from src.errors import CorruptFileError
from src.progress import ignore_progress
from src.storage.entry import Entry, open_entry
from src.storage.reading import check_no_hole, kind_of, open_regular
from src.storage.store import FileChangedError, Key, Reader

__all__ = [
    "copy_pieces",
    "first_difference",
    "hash_file",
    "hash_reader",
    "remove_empty_folders",
    "scan",
]

MAX_FILES = 10_000
MAX_NAME = 1024  # characters of a path below the folder
PIECE_BYTES = 1 << 20


def scan(root: Path, key: Key) -> dict[str, os.stat_result]:
    """Return the files below a folder, by their path in it; nothing if there is no folder.

    Raises:
        CorruptFileError: There is something other than a regular file or a folder, more than
            10,000 files, or a name that is not printable text.
        OSError: A folder cannot be listed.
    """
    found: dict[str, os.stat_result] = {}
    try:
        with open_entry(root, key) as entry, entry.opened_folder() as folder:
            for name, status in _walk(folder, entry.path, ""):
                found[name] = status
                if len(found) > MAX_FILES:
                    raise CorruptFileError(f"{entry.path}: more than {MAX_FILES:,} files.")
    except FileNotFoundError:
        return {}
    return dict(sorted(found.items()))


def _walk(folder: int, path: Path, start: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        whole = start + name
        if not whole.isprintable() or len(whole) > MAX_NAME or "\\" in whole:
            raise CorruptFileError(
                f"{path}: expected names of at most {MAX_NAME} printable characters, found "
                f"{whole[:200]!r}."
            )
        if stat.S_ISDIR(status.st_mode):
            with Entry(path / name, folder).opened_folder() as inner:
                yield from _walk(inner, path / name, f"{whole}/")
        elif stat.S_ISREG(status.st_mode):
            yield whole, status
        else:
            raise CorruptFileError(
                f"{path / name}: expected a regular file, found {kind_of(status.st_mode)}."
            )


def hash_file(root: Path, key: Key, progress: Callable[[int], None] = ignore_progress) -> Digest:
    """Return size and SHA-256 of a file; `progress` is called after each read with its size.

    Raises:
        FileNotFoundError: There is no such file.
        CorruptFileError: It is not a regular file, or a link is on the way to it.
        FileChangedError: It was written to meanwhile.
    """
    with open_entry(root, key) as entry:
        descriptor = open_regular(entry.path, folder=entry.folder)
    digest, buffer = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
    with FileIO(descriptor) as file:
        before = os.fstat(descriptor)
        check_no_hole(file, before.st_size, root / key)
        while read := file.readinto(buffer):
            digest.update(buffer[:read])
            progress(read)
        _check_unchanged(before, descriptor, root / key)
    return Digest(before.st_size, digest.hexdigest())


def hash_reader(file: Reader, progress: Callable[[int], None] = ignore_progress) -> Digest:
    """Return size and SHA-256 of an open file; `progress` is called as by `hash_file`."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
    while read := file.readinto(buffer):
        digest.update(buffer[:read])
        progress(read)
    return Digest(file.stat.size, digest.hexdigest())


def copy_pieces(root: Path, key: Key, expected: Digest) -> Generator[bytes, None, None]:
    """Yield the contents of a file in pieces.

    Raises:
        CorruptFileError: It is not a regular file, or a link is on the way to it.
        FileChangedError: It does not have the expected size and SHA-256; raised after the last
            piece.
    """
    with open_entry(root, key) as entry:
        descriptor = open_regular(entry.path, folder=entry.folder)
    digest, size = hashlib.sha256(), 0
    with open(descriptor, "rb", buffering=0) as file:
        while size <= expected.size and (piece := file.read(PIECE_BYTES)):
            digest.update(piece)
            size += len(piece)
            yield piece
    if Digest(size, digest.hexdigest()) != expected:
        raise FileChangedError(f"{root / key}: written to after it was hashed. Nothing was copied.")


def first_difference(
    folder: object, found: Mapping[str, Digest | int], expected: Mapping[str, Digest | int]
) -> str:
    """Return a message about the first file, by name, that differs; there must be one.

    Args:
        folder: The folder, for the message.
        found: The contents, or only the sizes in bytes, of the files that are there.
        expected: Those of the files that must be there.
    """
    name = min(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )
    if name not in found:
        return f"{folder}/{name}: no such file. Restore it from a backup."
    if name not in expected:
        return f"{folder}/{name}: not a file of the model. Left as found; remove it."
    expected_text, found_text = (
        f"{each:,} bytes" if isinstance(each, int) else f"sha256 {each.sha256}"
        for each in (expected[name], found[name])
    )
    return (
        f"{folder}/{name}: expected {expected_text}, found {found_text.removeprefix('sha256 ')}. "
        "Left as found; restore it from a backup."
    )


def remove_empty_folders(root: Path, key: Key) -> None:
    """Remove the folders below a folder that have no file."""
    for here, _, _ in os.walk(root / key, topdown=False):
        if here != str(root / key):
            try:
                Path(here).rmdir()
            except OSError:
                continue


def _check_unchanged(before: os.stat_result, descriptor: int, path: Path) -> None:
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FileChangedError(f"{path}: written to while it was being read.")
