"""Write many new files together: whole and durable as by `create`, with fewer system calls.

A file gets its name after its data is on the disk: it is opened without a name (O_TMPFILE of
open(2)), synced, and linked to its name (linkat(2)). So no temporary name needs a lock, and a
process that is killed leaves no unfinished file. A folder is synced once for all of its new names.

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

MAX_OPEN_FILES = 128  # at the same time; up to as many folders are open besides
_UNNAMED = getattr(os, "O_TMPFILE", 0)  # 0 on systems other than Linux
_ERRORS = (OSError, CorruptFileError)


class _File(NamedTuple):
    """A file in its open folder.

    Attributes:
        key: The key of the file.
        entry: Its name in the folder.
        descriptor: The open file without a name; `None` if the file exists with these bytes.
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
        is_unfinished: Returns whether another process has left an unfinished file for a name. Such
            a file is not written here, because only `create` can take it over.

    Returns:
        The files that have these bytes now, durably. The others exist with other bytes, are
        unfinished, or could not be written; no error is raised for them.
    """
    keys, done, failed = list(files), set[Key](), set[str]()
    for start in range(0, len(keys), MAX_OPEN_FILES):
        some = {key: files[key] for key in keys[start : start + MAX_OPEN_FILES]}
        done |= _create(root, some, is_unfinished, failed)
    return done


def _create(
    root: Path,
    files: Mapping[Key, bytes],
    is_unfinished: Callable[[Entry], bool],
    failed: set[str],
) -> set[Key]:
    """Write all data, sync all data, link all names, sync all folders; return what is durable.

    `failed` are the folders with a file that could not be written.
    """
    with ExitStack() as stack:
        folders = _open_folders(root, map(posixpath.dirname, files), stack)
        written = []
        for key, data in files.items():
            folder = posixpath.dirname(key)
            if folder in folders and folder not in failed:
                with suppress(*_ERRORS):
                    if not is_unfinished(name := Entry(root / key, folders[folder])):
                        written.append(_File(key, name, _write(name, data, stack)))
                        continue
            failed.add(folder)
        synced = _in_order(_sync, written, failed)
        linked = _in_order(_link, synced, failed)
        entries = {each.entry.folder: each.entry for each in linked}  # one for each folder
        durable = {folder for folder in entries if _succeeds(Entry.sync_folder, entries[folder])}
        return {each.key for each in linked if each.entry.folder in durable}


def _open_folders(root: Path, folders: Iterable[str], stack: ExitStack) -> dict[str, int]:
    """Open folders; create those that are missing, durably.

    Returns:
        The descriptor of each folder that could be opened; none if a new folder is not durable.
    """
    outer: dict[Path, Entry] = {}  # for each folder that holds new ones, an entry to sync it by

    def on_made(entry: Entry) -> None:
        if entry.path.parent not in outer:
            descriptor = os.dup(entry.folder)
            stack.callback(os.close, descriptor)
            outer[entry.path.parent] = Entry(entry.path, descriptor)

    opened = {}
    for folder in dict.fromkeys(folders):
        key = posixpath.join(folder, "x")
        with suppress(*_ERRORS):
            entry = stack.enter_context(open_entry(root, key, make=True, on_made=on_made))
            opened[folder] = entry.folder
    is_durable = all(_succeeds(Entry.sync_folder, entry) for entry in outer.values())
    return opened if is_durable else {}


def _write(entry: Entry, data: bytes, stack: ExitStack) -> int | None:
    """Write a file without a name.

    Returns:
        Its descriptor, which `stack` closes; `None` if the file exists with these bytes.

    Raises:
        FileExistsError: The file exists with other bytes.
        OSError: It cannot be written, or the file system has no files without a name.
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
