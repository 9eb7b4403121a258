"""Dataset versions: find one, and check its data against its metadata.json."""

import logging
import re
from contextlib import suppress
from itertools import islice

from src.errors import CorruptFileError, truncated_repr
from src.names import check_version, nearest
from src.records.canonical import parse_json, sha256
from src.records.dataset_version import DatasetVersion
from src.records.layout import DATA_FILE, DATASETS_FOLDER, METADATA_FILE, METADATA_LIMIT
from src.rendering.shell import quote
from src.storage import Location, StorePath, open_path
from src.training.hashing import HashDataset, count_and_hash

__all__ = [
    "DatasetMismatchError",
    "DatasetVersion",
    "check_dataset_metadata",
    "found_files",
    "resolve_dataset",
    "unpinned_reason",
]

ADD_COMMAND = "llm-train dataset add"
MAX_NAMES = 5  # of files that an error names

logger = logging.getLogger(__name__)


class DatasetMismatchError(ValueError):
    """Raised when data.jsonl differs from what the dataset's metadata.json records."""


def resolve_dataset(
    dataset_version: str,
    datasets_dir: Location = "artifacts/datasets",
    *,
    hash_dataset: HashDataset | None = None,
) -> DatasetVersion:
    """Find the exact dataset version that a run trains on.

    Reads data.jsonl once, in blocks of constant size; writes nothing.

    Args:
        dataset_version: Name of one folder below `datasets_dir`; a single path component.
        datasets_dir: Folder that holds `<dataset_version>/data.jsonl` and, optionally, a
            metadata.json that records `num_samples` and `dataset_hash` (SHA-256).
        hash_dataset: Counts and hashes data.jsonl; `count_and_hash` if `None`.

    Raises:
        FileNotFoundError: There is no such version, or it has no data.jsonl; names the nearest.
        DatasetMismatchError: The data differs from what its metadata.json records.
        CorruptFileError: The metadata.json cannot be parsed.
        FileChangedError: data.jsonl was written to meanwhile.
        ValueError: `dataset_version` is not a valid name.
    """
    folder = open_path(datasets_dir) / check_version("dataset_version", dataset_version)
    path = folder / DATA_FILE
    try:
        num_samples, digest = (hash_dataset or count_and_hash)(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(_not_found(path)) from error
    except CorruptFileError as error:  # a folder, or a circle of links
        raise FileNotFoundError(str(error)) from error
    metadata = (folder / METADATA_FILE).read_linked(METADATA_LIMIT)
    dataset = DatasetVersion(
        name=dataset_version,
        path=str(path),
        num_samples=num_samples,
        sha256=digest,
        metadata_sha256=None if metadata is None else sha256(metadata),
    )
    if metadata is not None:
        check_dataset_metadata(dataset, metadata, folder / METADATA_FILE)
    logger.info("%s: %s samples, sha256 %s.", path, f"{num_samples:,}", digest)
    return dataset


def check_dataset_metadata(dataset: DatasetVersion, data: bytes, source: object) -> None:
    """Check data.jsonl against its metadata.json.

    Only `dataset_version`, `num_samples` and a SHA-256 in `dataset_hash` are compared, and only if
    they are there.

    Args:
        dataset: The data.
        data: The bytes of the metadata.json.
        source: The metadata.json; used in errors.

    Raises:
        DatasetMismatchError: They differ.
        CorruptFileError: The metadata.json cannot be parsed.
    """
    metadata = parse_json(data, source)
    faults: list[tuple[str, object, object]] = []
    if "dataset_version" in metadata and metadata["dataset_version"] != dataset.name:
        faults.append(("dataset_version", metadata["dataset_version"], dataset.name))
    if "num_samples" in metadata:
        recorded = metadata["num_samples"]
        if isinstance(recorded, bool) or not isinstance(recorded, int):
            raise CorruptFileError(
                f"{source}: num_samples: expected an integer, found {truncated_repr(recorded)}. "
                "Left as found."
            )
        if recorded != dataset.num_samples:
            faults.append(("num_samples", recorded, dataset.num_samples))
    # A data pipeline may record another kind of digest, which cannot be compared.
    recorded = str(metadata.get("dataset_hash", "")).lower().removeprefix("sha256:")
    if re.fullmatch("[0-9a-f]{64}", recorded) and recorded != dataset.sha256:
        faults.append(("dataset_hash", recorded, dataset.sha256))
    if faults:
        raise DatasetMismatchError(
            f"{dataset.path}: does not match its {METADATA_FILE}:\n"
            + "".join(
                f"  {field}: recorded {truncated_repr(recorded)}, found {truncated_repr(found)}\n"
                for field, recorded, found in faults
            )
            + "Build the dataset again under a new version, or restore the recorded data."
        )


def _not_found(path: StorePath) -> str:
    folder = path.parent
    known: list[str] = []
    with suppress(OSError):
        known = folder.parent.folders(follow_links=True)
    if folder.name in known:
        return (
            f"{path}: no such file. {found_files(folder)} To add a file of JSON lines as a dataset "
            f"version: `{ADD_COMMAND} FILE NAME`."
        )
    return (
        f"{path}: no dataset version {folder.name!r}. Nearest: {nearest(folder.name, known)}. To "
        f"add one: `{ADD_COMMAND} FILE {folder.name}`."
    )


def found_files(folder: StorePath) -> str:
    """Return a sentence that names the first files of a folder."""
    names: list[str] = []
    with suppress(OSError):
        files = (file.key.removeprefix(f"{folder.key}/") for file in folder.files())
        names = list(islice(files, MAX_NAMES + 1))
    if not names:
        return "The folder has no regular files."
    more = ", ..." if len(names) > MAX_NAMES else ""
    return f"The folder has {', '.join(map(truncated_repr, names[:MAX_NAMES]))}{more}."


def unpinned_reason(dataset: DatasetVersion) -> str | None:
    """Return why a dataset can change unnoticed, and what to do; `None` if it cannot."""
    if dataset.metadata_sha256 is not None:
        return None
    root = dataset.path.removesuffix(f"/{DATASETS_FOLDER}/{dataset.name}/{DATA_FILE}")
    option = "" if root in ("artifacts", dataset.path) else f" --artifacts-dir {quote(root)}"
    return (
        f"{dataset.path}: the dataset has no {METADATA_FILE}, so nothing pins its data: a changed "
        "line makes the models trained on it a MISMATCH. To pin it: "
        f"`{ADD_COMMAND} {quote(dataset.path)} {dataset.name}{option}`."
    )
