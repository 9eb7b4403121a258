"""Dataset versions: finding one, and making sure that its data is what it says it is."""

import hashlib
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src.storage import CorruptFileError, naming, parse_json, read, sha256, shown
from src.versions import check_version, nearest

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = [
    "DatasetChangedError",
    "DatasetMismatchError",
    "DatasetVersion",
    "HashDataset",
    "check_record",
    "count_and_hash",
    "resolve_dataset",
]

BLOCK_BYTES = 1 << 22
PIECE_BYTES = 1 << 18  # counting holds the interpreter: not for long, or the hashing has to wait
BUFFERS = 4
PROGRESS_SECONDS = 3.0

logger = logging.getLogger(__name__)

HashDataset = Callable[[Path], tuple[int, str]]
"""Gets the path of a data.jsonl; gives its number of lines and the SHA-256 of its bytes."""


class DatasetMismatchError(ValueError):
    """data.jsonl is not the data that the dataset's metadata.json describes."""


class DatasetChangedError(OSError):
    """data.jsonl was written to while it was being read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetVersion:
    """The exact data a run trains on.

    Attributes:
        name: Name of the dataset version's folder.
        path: Its data.jsonl.
        num_samples: Lines in data.jsonl; the last one counts with or without a line end.
        sha256: SHA-256 of the bytes of data.jsonl, as 64 hexadecimal digits.
        record_sha256: SHA-256 of the metadata.json beside it; `None` where there is none.
    """

    name: str
    path: Path
    num_samples: int
    sha256: str
    record_sha256: str | None = None


def resolve_dataset(
    dataset_version: str,
    datasets_dir: str | Path = "artifacts/datasets",
    *,
    hash_dataset: HashDataset | None = None,
) -> DatasetVersion:
    """Find the exact dataset version a run will train on.

    Reads data.jsonl once, in blocks, whatever its size; writes nothing.

    Args:
        dataset_version: Name of one folder below `datasets_dir`; a single path component.
        datasets_dir: Folder holding `<dataset_version>/data.jsonl` and, optionally, a
            metadata.json that records its `num_samples` and `dataset_hash` (SHA-256).
        hash_dataset: Counts and hashes data.jsonl; `count_and_hash` where `None`.

    Raises:
        FileNotFoundError: No such version, or no data.jsonl in it; names the nearest there are.
        DatasetMismatchError: The data differs from what its metadata.json records.
        CorruptFileError: That metadata.json cannot be read.
        DatasetChangedError: Something wrote to data.jsonl meanwhile.
        ValueError: `dataset_version` is not a name.
    """
    folder = Path(datasets_dir) / check_version("dataset_version", dataset_version)
    path = folder / "data.jsonl"
    try:
        num_samples, digest = (hash_dataset or count_and_hash)(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise FileNotFoundError(_not_found(path)) from error
    record = read(folder / "metadata.json")
    dataset = DatasetVersion(
        name=dataset_version,
        path=path,
        num_samples=num_samples,
        sha256=digest,
        record_sha256=None if record is None else sha256(record),
    )
    if record is not None:
        check_record(dataset, record)
    logger.info("%s: %s samples, sha256 %s.", path, f"{num_samples:,}", digest)
    return dataset


def count_and_hash(path: Path, *, progress: Callable[[int], None] | None = None) -> tuple[int, str]:
    """Read a data.jsonl in full; give its number of lines and its SHA-256.

    Args:
        path: The file.
        progress: Told of every block that was read: its size in bytes.

    Raises:
        DatasetChangedError: Something wrote to it meanwhile.
        OSError: It cannot be read; names the file.
    """
    digest = hashlib.sha256()
    lines, last, done = 0, ord("\n"), 0
    with ExitStack() as stack:
        stack.enter_context(naming(path))
        file = stack.enter_context(open(path, "rb", buffering=0))
        before = _identity(file.fileno())
        swap = stack.enter_context(_hashing(digest, beside=before[0] > BLOCK_BYTES))
        told = started = time.monotonic()
        buffer, size = bytearray(min(BLOCK_BYTES, before[0] + 1)), 0
        while read := file.readinto(memoryview(buffer)[size : size + PIECE_BYTES]):
            lines += buffer.count(b"\n", size, size + read)
            size, done = size + read, done + read
            last = buffer[size - 1]
            if size == len(buffer):
                buffer, size = swap(buffer, size), 0
            if progress is not None:
                progress(read)
            if (now := time.monotonic()) - told > PROGRESS_SECONDS:
                told = now
                _log_progress(path, done, before[0], now - started)
        swap(buffer, size)
        if before != _identity(file.fileno()):
            raise DatasetChangedError(
                f"{path}: written to while it was being read. Wait until its writer is done, "
                "then run again."
            )
    return lines + (last != ord("\n")), digest.hexdigest()


@contextmanager
def _hashing(digest: "Hash", *, beside: bool) -> Iterator[Callable[[bytearray, int], bytearray]]:
    """Lend a function that takes a buffer, filled so far, to hash, and gives one to fill next.

    With `beside`, another thread hashes meanwhile: hashlib lets go of the interpreter. All is
    hashed when the block ends.
    """

    def hash_block(buffer: bytearray, size: int) -> bytearray:
        digest.update(memoryview(buffer)[:size])
        return buffer

    if not beside:
        yield hash_block
        return
    from concurrent.futures import Future, ThreadPoolExecutor  # a small run has no time for it

    pending: deque[Future[bytearray]] = deque()

    def swap(buffer: bytearray, size: int) -> bytearray:
        pending.append(pool.submit(hash_block, buffer, size))
        return bytearray(len(buffer)) if len(pending) < BUFFERS else pending.popleft().result()

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield swap
        for each in pending:
            each.result()


def _log_progress(path: Path, done: int, whole: int, seconds: float) -> None:
    rate = done / seconds
    logger.info(
        "%s: %.0f %% read, %.0f MB/s, %.0f s left.",
        path,
        100 * done / whole,
        rate / 1e6,
        (whole - done) / rate,
    )


def _identity(descriptor: int) -> tuple[int, int, int]:
    stat = os.fstat(descriptor)
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def check_record(dataset: DatasetVersion, data: bytes) -> None:
    """Hold the data against what the data pipeline recorded of it, as far as it did.

    Args:
        dataset: The data as it is.
        data: The bytes of the metadata.json beside it.

    Raises:
        DatasetMismatchError: They differ.
        CorruptFileError: The metadata.json cannot be read.
    """
    path = dataset.path.with_name("metadata.json")
    record = parse_json(data, path)
    faults: list[tuple[str, object, object]] = []
    if "dataset_version" in record and record["dataset_version"] != dataset.name:
        faults.append(("dataset_version", record["dataset_version"], dataset.name))
    if "num_samples" in record:
        recorded = record["num_samples"]
        if isinstance(recorded, bool) or not isinstance(recorded, int):
            raise CorruptFileError(
                f"{path}: num_samples: expected a whole number, found {shown(recorded)}. "
                "Left as found."
            )
        if recorded != dataset.num_samples:
            faults.append(("num_samples", recorded, dataset.num_samples))
    # A data pipeline may record a digest of another kind; only SHA-256 says something about ours.
    recorded = str(record.get("dataset_hash", "")).lower().removeprefix("sha256:")
    if re.fullmatch("[0-9a-f]{64}", recorded) and recorded != dataset.sha256:
        faults.append(("dataset_hash", recorded, dataset.sha256))
    if faults:
        raise DatasetMismatchError(
            f"{dataset.path}: not the data that {path.name} beside it describes:\n"
            + "".join(
                f"  {field}: recorded {shown(recorded)}, found {shown(found)}\n"
                for field, recorded, found in faults
            )
            + "Build the dataset again under a new version, or restore the one recorded."
        )


def _not_found(path: Path) -> str:
    folder = path.parent
    if path.is_dir():
        return f"{path}: expected a file, found a folder."
    if folder.is_dir():
        return f"{path}: no such file, though its dataset version has a folder."
    try:
        known = sorted(entry.name for entry in folder.parent.iterdir() if entry.is_dir())
    except OSError:
        known = []
    near = nearest(folder.name, known)
    return f"{path}: no dataset version {folder.name!r}. There are, nearest first: {near}."
