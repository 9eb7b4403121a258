"""Storage of artifacts by key: the one seam between the core and the disk.

The core reads and writes through `StorePath`; only the modules of this package open files below
an artifacts root. A further back end is one module that implements `Store`, and one line in
`open_store`.
"""

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from src.errors import truncated_repr
from src.storage.folder import FolderStore
from src.storage.objects.address import SCHEMES, without_credentials
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
    "SCHEMES",
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
    "open_store",
    "plain_path",
    "read_file",
    "without_credentials",
]

_SETTINGS = ("AWS_", "AZURE_", "GOOGLE_")  # prefixes of variables with settings
_LOST_SLASH = tuple(f"{scheme}:/" for scheme in SCHEMES)

Location = str | os.PathLike[str] | StorePath
"""What a caller of the core may pass: a path of the file system, an address, or a `StorePath`."""


def is_url(location: Location) -> bool:
    """Return whether a location is an address such as `s3://bucket/prefix`, and not a folder."""
    return "://" in (str(location) if isinstance(location, StorePath) else os.fspath(location))


def open_path(location: Location) -> StorePath:
    """Return the root of the store at `location`; a `StorePath` is returned unchanged.

    Every write below the returned path stays inside `location`. Nothing is created before the
    first write.

    Raises:
        ValueError: `location` is not a valid address, or an address that was converted to a `Path`
            and so lost a slash; or the libraries for object stores are not installed.
    """
    if isinstance(location, StorePath):
        return location
    text = os.fspath(location)
    if text.startswith(_LOST_SLASH) and not is_url(text):
        shown = without_credentials(text)
        raise ValueError(
            f"{shown}: expected an address such as s3://bucket/prefix, with two slashes. Pass it "
            f"as text, not as a Path. A folder of this name is ./{shown}."
        )
    return StorePath(open_store(text) if is_url(text) else FolderStore(Path(text)))


def open_store(url: str) -> Store:
    """Return the object store at an address; no request is sent.

    Raises:
        ValueError: The address is not valid, or the libraries are not installed; see `open_path`.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        meant = scheme.strip().lower()
        raise ValueError(
            f"{without_credentials(url)}: expected a folder, or an address such as "
            "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; found the scheme "
            f"{truncated_repr(scheme)}." + (f" Write {meant}://..." if meant in SCHEMES else "")
        )
    if not (find_spec("obstore") and find_spec("boto3")):
        raise ValueError(
            f"{without_credentials(url)}: the libraries for object stores are not installed. Run "
            "`pip install --require-hashes -r requirements/cloud.lock`."
        )
    settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
    return _open_bucket(url, frozenset(settings.items()))


@lru_cache(maxsize=64)
def _open_bucket(url: str, settings: frozenset[tuple[str, str]]) -> Store:  # noqa: ARG001
    """Return the store at an address; the same one each time, to reuse its connections.

    Args:
        url: The address.
        settings: The variables with settings: with other ones, the address is opened again.
    """
    from src.storage.bucket import BucketStore  # slow to import
    from src.storage.objects.client import ObjectClient

    return BucketStore(ObjectClient(url))


def open_file(location: Location) -> StorePath:
    """Return the path of one file, in a store whose root is the folder that holds the file."""
    if isinstance(location, StorePath):
        return location
    text = os.fspath(location)
    folder, name = os.path.split(text.rstrip("/"))
    if is_url(text) and not is_url(f"{folder}/"):
        open_store(text)  # raises if there is no such back end
        raise ValueError(
            f"{without_credentials(text)}: expected the address of a file, found that of a bucket."
        )
    return open_path(folder) / name


def plain_path(path: StorePath) -> Path | StorePath:
    """Return a `Path` if the store is a folder; a path in an object store is returned unchanged."""
    return path if is_url(path) else Path(str(path))
