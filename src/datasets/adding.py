"""Adding a dataset version: freeze a file of JSON lines under a name.

This is the part of the data pipeline: everything else only reads below datasets/.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from src.artifacts import Artifacts
from src.datasets.lines import LineCheck
from src.errors import truncated_repr
from src.names import check_version
from src.records.canonical import canonical_json
from src.records.dataset_version import DatasetVersion
from src.records.layout import DATA_FILE, METADATA_FILE, METADATA_LIMIT
from src.storage import Location, StorePath
from src.training.dataset import check_dataset_metadata, found_files
from src.training.hashing import HashDataset, count_and_hash

__all__ = ["AddedDataset", "DatasetVersionConflict", "Outcome", "add_dataset"]

GENERATOR = "llm-train dataset add/1"
MAX_SOURCE = 10_000  # characters


class DatasetVersionConflict(ValueError):
    """Raised when a dataset version exists with other data. Nothing was changed."""


class Outcome(StrEnum):
    """What `add_dataset` did."""

    ADDED = "added"
    PINNED = "pinned"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True, slots=True)
class AddedDataset:
    """A dataset version that exists with the data that was given.

    Attributes:
        dataset_version: Its name.
        path: Location of its data.jsonl.
        num_samples: The number of lines.
        dataset_hash: SHA-256 of the bytes, as 64 hexadecimal digits.
        outcome: `added`; `pinned` if the same data was there without a metadata.json, which was
            added; `unchanged` if both were there.
        num_crlf: The number of lines that end with CR LF.
        first_crlf: The numbers of the first of these.
    """

    dataset_version: str
    path: str
    num_samples: int
    dataset_hash: str
    outcome: Outcome
    num_crlf: int
    first_crlf: list[int]


def add_dataset(
    pieces: Iterable[bytes],
    name: str,
    artifacts_dir: Location = "artifacts",
    *,
    source: str | None = None,
    place: str = "data",
    hash_dataset: HashDataset = count_and_hash,
) -> AddedDataset:
    """Add a dataset version, whole or not at all, in one pass and constant memory.

    Afterwards `datasets/<name>/` holds data.jsonl, with the bytes of `pieces`, and metadata.json
    with `dataset_version`, `num_samples`, `config` and `dataset_hash`, the SHA-256 of these bytes.
    If the version exists with the same data, nothing is changed, except that a missing
    metadata.json is added.

    Args:
        pieces: The bytes of a file with one JSON object per line.
        name: Name of the version.
        artifacts_dir: The artifacts root.
        source: Where the data comes from, in words; recorded in `config`.
        place: Name of the file, for errors.
        hash_dataset: Counts and hashes the data of a version that exists.

    Raises:
        InvalidLinesError: Lines are not JSON objects in UTF-8; names up to 20 of them.
        DatasetVersionConflict: The version exists with other data, or its folder with other files.
        DatasetMismatchError: The version exists, and differs from its metadata.json.
        ValueError: `name` is not a valid name, or `source` is not valid text.
        OSError: The data cannot be read or written.
    """
    folder = Artifacts.open(artifacts_dir).datasets / check_version("dataset version", name)
    _check_source(source)
    check = LineCheck(place)

    def metadata() -> bytes:
        config = {"generator": GENERATOR, "source": source}
        return canonical_json(
            {
                "config": {key: value for key, value in config.items() if value is not None},
                "dataset_hash": check.sha256,
                "dataset_version": name,
                "num_samples": check.num_lines,
            }
        )

    checked = check.checked(pieces)
    outcome = Outcome.ADDED
    if not _create(folder, checked, metadata):
        deque(checked, maxlen=0)
        is_pinned = _check_same(folder, check, place, hash_dataset)
        outcome = Outcome.UNCHANGED if is_pinned else Outcome.PINNED
        if not is_pinned:
            (folder / METADATA_FILE).create(metadata())
    return AddedDataset(
        dataset_version=name,
        path=str(folder / DATA_FILE),
        num_samples=check.num_lines,
        dataset_hash=check.sha256,
        outcome=outcome,
        num_crlf=check.num_crlf,
        first_crlf=check.first_crlf,
    )


def _check_source(source: str | None) -> None:
    if source is not None and (len(source) > MAX_SOURCE or not _is_unicode(source)):
        raise ValueError(
            f"source: expected at most {MAX_SOURCE:,} characters of text in UTF-8, found "
            f"{truncated_repr(source)}. Describe in other words where the data comes from."
        )


def _is_unicode(text: str) -> bool:
    """Return whether text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8
        return False
    return True


def _create(folder: StorePath, data: Iterable[bytes], metadata: Callable[[], bytes]) -> bool:
    """Write the files of a version; return whether it was new."""
    if (folder / DATA_FILE).stat() is not None:
        return False
    try:
        with folder.new_folder() as files:
            files.write(DATA_FILE, data)
            files.write(METADATA_FILE, [metadata()])
    except FileExistsError as error:
        if (folder / DATA_FILE).stat() is not None:  # added by another process meanwhile
            return False
        raise DatasetVersionConflict(
            f"{folder}: exists without a {DATA_FILE}. {found_files(folder)} Nothing was changed; "
            "move the folder away, or choose another name."
        ) from error
    return True


def _check_same(folder: StorePath, check: LineCheck, place: str, hash_dataset: HashDataset) -> bool:
    """Check that a version has the data that was checked; return whether it has a metadata.json."""
    path = folder / DATA_FILE
    num_samples, digest = hash_dataset(path)
    if digest != check.sha256:
        raise DatasetVersionConflict(
            f"{path}: dataset version {folder.name!r} exists with other data. Nothing was changed; "
            f"choose another name.\n"
            f"  exists: {num_samples:,} samples, sha256 {digest}\n"
            f"  {place}: {check.num_lines:,} samples, sha256 {check.sha256}"
        )
    metadata = (folder / METADATA_FILE).read_linked(METADATA_LIMIT)
    if metadata is None:
        return False
    found = DatasetVersion(name=folder.name, path=str(path), num_samples=num_samples, sha256=digest)
    check_dataset_metadata(found, metadata, folder / METADATA_FILE)
    return True
