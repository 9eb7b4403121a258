"""Find the datasets that hold a record, and so the models that were trained on it."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from src.artifacts import Artifacts
from src.datasets.lines import InvalidLinesError
from src.datasets.search import search_records
from src.datasets.versions import list_datasets
from src.errors import CorruptFileError
from src.lineage.record import read_records
from src.progress import ignore_progress
from src.records.layout import DATA_FILE
from src.storage import Location, StorePath
from src.training.hashing import count_and_hash_once

__all__ = ["DatasetHit", "LineTrace", "trace_lines"]

MAX_LINES = 5  # of a dataset, that hold one record

Reading = Callable[[StorePath], AbstractContextManager[Callable[[int], None]]]
"""Receives the path of a file that is read in the block; yields a function for the progress."""


@dataclass(kw_only=True, slots=True)
class DatasetHit:
    """A dataset version that holds a record.

    Attributes:
        record: The number of the record among those searched for, from 1; of a record that is
            given twice, the first number.
        dataset_version: Name of the dataset version.
        sha256: SHA-256 of its data.
        count: The number of lines that hold the record.
        lines: The numbers of the first of them, from 1.
        is_same_text: Whether the first of them has the same bytes, not only the same value.
        models: The models trained on this data.
        other_models: The models whose record names this dataset version with other data, or has no
            digest of the data.
    """

    record: int
    dataset_version: str
    sha256: str
    count: int
    lines: list[int]
    is_same_text: bool
    models: list[str]
    other_models: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class LineTrace:
    """The datasets that hold some records.

    Attributes:
        num_records: The number of records that were searched for.
        num_datasets: The number of datasets that were searched.
        hits: The datasets that hold one, by record and dataset.
        unsearched: Why a dataset could not be searched, by its name.
    """

    num_records: int
    num_datasets: int
    hits: tuple[DatasetHit, ...]
    unsearched: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def trace_lines(
    records: list[bytes],
    artifacts_dir: Location = "artifacts",
    *,
    reading: Reading = lambda _: nullcontext(ignore_progress),
) -> LineTrace:
    """Search for records in every dataset version; reads all data, in constant memory.

    Args:
        records: JSON objects; see `src.datasets.search.parse_records`.
        artifacts_dir: The artifacts root.
        reading: Provides the progress of each file.

    Raises:
        CorruptFileError: A file of a model's record cannot be parsed; names the file.
        OSError: The folder of the datasets cannot be listed.
    """
    artifacts = Artifacts.open(artifacts_dir)
    names = [dataset.dataset_version for dataset in list_datasets(artifacts)]
    numbers: dict[bytes, int] = {}
    for number, record in enumerate(records, start=1):
        numbers.setdefault(record, number)
    found: dict[tuple[int, str], DatasetHit] = {}
    unsearched = {}
    for name in names:
        path = artifacts.datasets / name / DATA_FILE
        try:
            with reading(path) as progress:
                _search(numbers, path, found, progress)
        except (InvalidLinesError, CorruptFileError, OSError) as error:
            unsearched[name] = str(error)
    _add_models(found, artifacts)
    return LineTrace(
        num_records=len(records),
        num_datasets=len(names) - len(unsearched),
        hits=tuple(hit for _, hit in sorted(found.items())),
        unsearched=unsearched,
    )


def _search(
    numbers: Mapping[bytes, int],
    path: StorePath,
    found: dict[tuple[int, str], DatasetHit],
    progress: Callable[[int], None],
) -> None:
    name, records, sha256 = path.parent.name, [*numbers], None
    for hit in search_records(records, path, progress):
        number = numbers[records[hit.record]]
        if (dataset_hit := found.get((number, name))) is None:
            sha256 = sha256 or count_and_hash_once(path)[1]
            dataset_hit = found[number, name] = DatasetHit(
                record=number,
                dataset_version=name,
                sha256=sha256,
                count=0,
                lines=[],
                is_same_text=hit.is_same_text,
                models=[],
                other_models=[],
            )
        dataset_hit.count += 1
        if len(dataset_hit.lines) < MAX_LINES:
            dataset_hit.lines.append(hit.line)


def _add_models(found: dict[tuple[int, str], DatasetHit], artifacts: Artifacts) -> None:
    """Add the models to the datasets they were trained on."""
    if not found:
        return
    by_name = defaultdict(list)
    for hit in found.values():
        by_name[hit.dataset_version].append(hit)
    digests = {hit.sha256 for hit in found.values()}
    for record in read_records(artifacts):
        name = record.metadata["dataset_version"]
        digest = record.statement.digest("dataset") if record.statement else None
        for hit in found.values() if digest in digests else by_name[name]:
            if hit.sha256 == digest:
                hit.models.append(record.model_version)
            elif hit.dataset_version == name:
                hit.other_models.append(record.model_version)
