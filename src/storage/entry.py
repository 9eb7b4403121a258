"""Files by name in a folder that is held open: no link can lead a read or a write elsewhere.

A path that was checked can lead to another place when it is used. A descriptor cannot, so every
folder below the root is opened in the one before it, without following links: `openat(2)`.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from src.errors import CorruptFileError
from src.storage.reading import refused_link

__all__ = ["Entry", "open_entry"]

# A folder need not be listed to be entered; systems without O_PATH ask for that right, too.
_OUTSIDE = {"", ".", ".."}
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


class Entry(NamedTuple):
    """A name in an open folder. The methods are the calls of `os` of the same name.

    Attributes:
        path: The path of the file, for errors.
        folder: The descriptor of the folder that holds the file.
    """

    path: Path
    folder: int

    def sibling(self, name: str) -> "Entry":
        """Return the entry of another name in the same folder."""
        return Entry(self.path.with_name(name), self.folder)

    def open(self, flags: int, mode: int = 0o666) -> int:
        """Open the file and return its descriptor; a link is not followed."""
        with _named(self.path):
            return os.open(
                self.path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.folder
            )

    @contextmanager
    def opened_folder(self) -> Iterator[int]:
        """Open a folder, so that it can be listed, and yield its descriptor.

        Raises:
            CorruptFileError: It is a link.
            NotADirectoryError: It is a file.
        """
        try:
            descriptor = self.open(os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _not_a_folder(self, error) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def siblings(self) -> list["Entry"]:
        """Return the entries of the folder that holds this one, in any order."""
        with _named(self.path.parent):
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.folder)
            try:
                with os.scandir(descriptor) as found:
                    return [self.sibling(each.name) for each in found]
            finally:
                os.close(descriptor)

    def lstat(self) -> os.stat_result:
        """Return the status of the file, or of a link."""
        with _named(self.path):
            return os.stat(self.path.name, dir_fd=self.folder, follow_symlinks=False)

    def exists(self) -> bool:
        """Return whether there is a file, or a link."""
        try:
            self.lstat()
        except FileNotFoundError:
            return False
        return True

    def unlink(self) -> None:
        """Remove the file."""
        with _named(self.path):
            os.unlink(self.path.name, dir_fd=self.folder)

    def link(self, target: "Entry") -> None:
        """Add a second name, `target`, to the file."""
        with _named(target.path):
            os.link(
                self.path.name,
                target.path.name,
                src_dir_fd=self.folder,
                dst_dir_fd=target.folder,
                follow_symlinks=False,
            )

    def replace(self, target: "Entry") -> None:
        """Move the file to `target`."""
        with _named(target.path):
            os.replace(
                self.path.name, target.path.name, src_dir_fd=self.folder, dst_dir_fd=target.folder
            )

    def sync_folder(self) -> None:
        """Write the names in the folder to the disk."""
        with _named(self.path.parent):
            _sync(".", self.folder)


@contextmanager
def open_entry(
    root: Path,
    key: str,
    *,
    make: bool = False,
    on_made: Callable[[Entry], None] = Entry.sync_folder,
    opened_root: int | None = None,
) -> Iterator[Entry]:
    """Open the folder of a file; no link below `root` is followed.

    Args:
        root: The folder that all keys are relative to; may be a link.
        key: The file, as names separated by `/`.
        make: Whether to create missing folders, and the root.
        opened_root: The descriptor of the root, if it is open already.
        on_made: Called for each folder below the root that was created, while the folder that holds
            it is open; by default it makes the folder durable.

    Raises:
        CorruptFileError: There is a link in place of a folder.
        FileNotFoundError: A folder is missing.
        NotADirectoryError: There is a file in place of a folder.
        ValueError: `key` leads out of `root`.
    """
    parts = key.split("/")
    if not _OUTSIDE.isdisjoint(parts):
        raise ValueError(f"{root / key}: leads out of {root}. Nothing was read or written.")
    if opened_root is not None:
        descriptor = os.dup(opened_root)
    else:
        if make and not root.is_dir():
            _make_folders(Path(os.path.realpath(root)))
        descriptor = os.open(root, _FOLDER)
    try:
        for depth, folder in enumerate(parts[:-1], start=1):
            outer = descriptor
            try:
                descriptor = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
            except OSError as error:
                path = root.joinpath(*parts[:depth])
                descriptor = _open_folder(Entry(path, outer), error, on_made if make else None)
            os.close(outer)
        yield Entry(root / key, descriptor)
    finally:
        os.close(descriptor)


def _open_folder(entry: Entry, error: OSError, on_made: Callable[[Entry], None] | None) -> int:
    """Handle the error of opening a folder: create and open the folder, or raise."""
    with _named(entry.path):
        if on_made is not None and error.errno == errno.ENOENT:
            with suppress(FileExistsError):
                os.mkdir(entry.path.name, dir_fd=entry.folder)
            on_made(entry)
            return entry.open(_FOLDER)
        raise _not_a_folder(entry, error)


def _not_a_folder(entry: Entry, error: OSError) -> OSError | CorruptFileError:
    """Return the error for a folder that cannot be opened, which says so if it is a link."""
    # Linux answers ENOTDIR for a link; POSIX asks for ELOOP. A folder is there if it was exchanged
    # for a link meanwhile, and back.
    if error.errno in (errno.ENOTDIR, errno.ELOOP) and (
        stat.S_IFMT(entry.lstat().st_mode) in (stat.S_IFLNK, stat.S_IFDIR)
    ):
        return refused_link(entry.path, "a folder")
    return error


def _make_folders(folder: Path) -> None:
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(str(folder.parent))


def _sync(folder: str, inside: int | None = None) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=inside)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the whole path in an error, rather than a name in a folder."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
