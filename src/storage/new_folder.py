"""A new folder of files, outside of any artifacts root, that appears whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from src.digest import Digest
from src.errors import with_filename
from src.storage.entry import open_entry
from src.storage.tree import copy_pieces

__all__ = ["NewFolder", "new_folder"]


class NewFolder:
    """A folder that is being written.

    Args:
        path: Its temporary path, until all files are written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, name: str, data: Iterable[bytes]) -> None:
        """Write a file durably; folders in its name are created.

        Raises:
            FileExistsError: The folder has a file of this name.
        """
        with with_filename(self._path / name), open_entry(self._path, name, make=True) as entry:
            with open(entry.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.writelines(data)
                file.flush()
                os.fsync(file.fileno())
            entry.sync_folder()

    def copy(self, source: Path, name: str, digest: Digest, target: str) -> None:
        """Copy the file `name` below the folder `source` to the file `target`; see `write`.

        Raises:
            CorruptFileError: It is not a regular file, or its path has a link.
            FileChangedError: It does not have this digest.
        """
        with closing(copy_pieces(source, name, digest)) as pieces:
            self.write(target, pieces)


@contextmanager
def new_folder(path: Path) -> Iterator[NewFolder]:
    """Yield a folder beside `path`, which becomes `path` at the end of the block.

    If the block raises, the folder is removed. A process that is killed leaves it: its name is
    `.<name>.<random digits>.tmp`.

    Args:
        path: Does not exist, or is an empty folder other than the working directory.

    Raises:
        FileNotFoundError: The parent folder of `path` does not exist.
        ValueError: `path` exists and is not an empty folder, or is the working directory.
    """
    real = Path(os.path.realpath(path))
    if real == Path.cwd():
        raise ValueError(f"{path}: expected a new folder, found the working directory.")
    if os.path.lexists(real) and not (real.is_dir() and not any(real.iterdir())):
        raise _not_empty(path)
    if not real.parent.is_dir():
        raise FileNotFoundError(f"{real.parent}: no such folder. Create it first.")
    temporary = real.with_name(f".{real.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield NewFolder(temporary)
        try:
            os.replace(temporary, real)  # of folders, it replaces only an empty one
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise _not_empty(path) from error
            raise
        with open_entry(real.parent, real.name) as entry:
            entry.sync_folder()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _not_empty(path: Path) -> ValueError:
    return ValueError(f"{path}: expected a new or an empty folder, found other files.")
