"""Many new files together: each is whole and durable, as with `create`, with fewer system calls.

A file gets its name when its data is on the disk: it is created with O_TMPFILE and linked to its
name (open(2), linkat(2)). So there is no temporary name to be locked, and a process that is killed
leaves nothing. A folder is synced once for all of its new names.

The files of a folder get their names in the order given, and none after one that could not be
written: a model must not have its metadata.json without its provenance.json.
"""

import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from src.errors import CorruptFileError
from src.storage.entry import Entry, open_entry
from src.storage.reading import has_contents
from src.storage.store import Key

__all__ = ["create_together"]

T = TypeVar("T")

FILES = 128  # that are open at the same time, with their folders
_UNNAMED = getattr(os, "O_TMPFILE", 0)  # only Linux has it
_FAILED = (OSError, CorruptFileError)


class _File(NamedTuple):
    """A file in its open folder.

    Attributes:
        key: The file.
        entry: Its name.
        descriptor: The open file without a name; `None` if the file is there.
    """

    key: Key
    entry: Entry
    descriptor: int | None


def create_together(
    root: Path, files: Mapping[Key, bytes], is_unfinished: Callable[[Entry], bool]
) -> set[Key]:
    """Write files unless they exist.

    Args:
        root: The folder that the keys are relative to; no link below it is followed.
        files: The bytes of each file.
        is_unfinished: Whether another process has left an unfinished file for a name. Such a name
            is left to `create`.

    Returns:
        The files that have these bytes now, durably. Each of the others has other bytes, or could
        not be written.
    """
    keys, done, failed = list(files), set[Key](), set[str]()
    for start in range(0, len(keys), FILES):
        some = {key: files[key] for key in keys[start : start + FILES]}
        done |= _create(root, some, is_unfinished, failed)
    return done


def _create(
    root: Path,
    files: Mapping[Key, bytes],
    is_unfinished: Callable[[Entry], bool],
    failed: set[str],
) -> set[Key]:
    """Write some of the files; `failed` are the folders with one that could not be written."""
    with ExitStack() as stack:
        folders = _open_folders(root, map(posixpath.dirname, files), stack)
        written = []
        for key, data in files.items():
            folder = posixpath.dirname(key)
            if folder in folders and folder not in failed:
                with suppress(*_FAILED):
                    if not is_unfinished(name := Entry(root / key, folders[folder])):
                        written.append(_File(key, name, _write(name, data, stack)))
                        continue
            failed.add(folder)
        synced = _in_order(_sync, written, failed)
        linked = _in_order(_link, synced, failed)
        names = {each.entry.folder: each.entry for each in linked}  # one in each folder
        durable = {folder for folder in names if _succeeds(Entry.sync_folder, names[folder])}
        return {each.key for each in linked if each.entry.folder in durable}


def _open_folders(root: Path, folders: Iterable[str], stack: ExitStack) -> dict[str, int]:
    """Open folders, and create those that are missing, durably; without those that cannot be."""
    outer: dict[Path, Entry] = {}  # by path, a name in each folder that holds new folders

    def on_made(entry: Entry) -> None:
        if entry.path.parent not in outer:
            descriptor = os.dup(entry.folder)
            stack.callback(os.close, descriptor)
            outer[entry.path.parent] = Entry(entry.path, descriptor)

    opened = {}
    for folder in dict.fromkeys(folders):
        key = posixpath.join(folder, "x")
        with suppress(*_FAILED):
            entry = stack.enter_context(open_entry(root, key, make=True, on_made=on_made))
            opened[folder] = entry.folder
    is_durable = all(_succeeds(Entry.sync_folder, entry) for entry in outer.values())
    return opened if is_durable else {}


def _write(entry: Entry, data: bytes, stack: ExitStack) -> int | None:
    """Write a file without a name; return its descriptor, or `None` if the file is there.

    Raises:
        FileExistsError: It is there with other bytes.
        OSError: It cannot be written; also if the file system has no files without a name.
    """
    if entry.exists():
        if has_contents(entry.path, data, folder=entry.folder):
            return None
        raise FileExistsError(entry.path)
    if not _UNNAMED:
        raise OSError("no O_TMPFILE")
    descriptor = os.open(".", _UNNAMED | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=entry.folder)
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    return descriptor


def _sync(file: _File) -> None:
    if file.descriptor is not None:
        os.fsync(file.descriptor)


def _link(file: _File) -> None:
    if file.descriptor is not None:
        os.link(
            f"/proc/self/fd/{file.descriptor}",
            file.entry.path.name,
            dst_dir_fd=file.entry.folder,
            follow_symlinks=True,
        )


def _in_order(
    action: Callable[[_File], None], files: Iterable[_File], failed: set[str]
) -> list[_File]:
    """Return the files for which an action succeeds; in each folder, up to the first failure."""
    done, stopped = [], set[str]()
    for each in files:
        folder = posixpath.dirname(each.key)
        if folder not in stopped and _succeeds(action, each):
            done.append(each)
        else:
            stopped.add(folder)
    failed |= stopped
    return done


def _succeeds(action: Callable[[T], None], argument: T) -> bool:
    try:
        action(argument)
    except OSError:
        return False
    return True
