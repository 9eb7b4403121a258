"""Storage of artifacts by key: the one seam between the core and the disk.

The core reads and writes through `StorePath`; only the modules of this package open files below
an artifacts root. A further back end is one module that implements `Store`, and one line in
`open_path`.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from src.storage.folder import FolderStore
from src.storage.reading import read_file
from src.storage.store import (
    FileChangedError,
    Key,
    NewFolder,
    Reader,
    Stat,
    Store,
    StorePath,
    Update,
)

__all__ = [
    "FileChangedError",
    "FolderStore",
    "Key",
    "Location",
    "NewFolder",
    "Reader",
    "Stat",
    "Store",
    "StorePath",
    "Update",
    "is_url",
    "open_file",
    "open_path",
    "read_file",
]

Location = str | os.PathLike[str] | StorePath
"""What a caller of the core may pass as a path: a path of the file system, or a `StorePath`."""


def open_path(location: Location) -> StorePath:
    """Return the root of the store at `location`; a `StorePath` is returned unchanged.

    Every write below the returned path stays inside `location`. Nothing is created before the
    first write.

    Raises:
        ValueError: `location` is an address that is not valid, or the libraries for object stores
            are not installed.
    """
    if isinstance(location, StorePath):
        return location
    text = os.fspath(location)
    if is_url(text):
        return StorePath(_open_bucket(text))
    return StorePath(FolderStore(Path(text)))


def _open_bucket(url: str) -> Store:
    if not (find_spec("obstore") and find_spec("boto3")):
        raise ValueError(
            f"{url}: the libraries for object stores are not installed. Run `make .venv/cloud`, or "
            "`pip install --require-hashes -r requirements/cloud.lock`."
        )
    from src.storage.bucket import BucketStore  # slow to import
    from src.storage.objects.client import ObjectClient

    return BucketStore(ObjectClient(url))


def open_file(location: Location) -> StorePath:
    """Return the path of one file, in a store whose root is the folder that holds the file."""
    if isinstance(location, StorePath):
        return location
    folder, name = os.path.split(os.fspath(location).rstrip("/"))
    return open_path(folder) / name


def is_url(location: str) -> bool:
    """Return whether a location is an address, e.g. of an object store, and no path."""
    return "://" in location
