"""The dataset versions below an artifacts root."""

from dataclasses import asdict, dataclass
from typing import Any

from src.artifacts import Artifacts
from src.errors import CorruptFileError
from src.names import is_version
from src.records.canonical import parse_json
from src.records.layout import DATA_FILE, METADATA_FILE, METADATA_LIMIT
from src.storage import StorePath

__all__ = ["DatasetSummary", "list_datasets", "read_summary"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSummary:
    """What is recorded about a dataset version; its data is not read.

    Attributes:
        dataset_version: Its name.
        num_bytes: The size of data.jsonl in bytes; `None` if there is no such file.
        num_samples: The recorded number of lines; `None` if it is not recorded.
        dataset_hash: The recorded digest of data.jsonl; `None` if nothing pins the data.
        source: Where the data comes from, in words; `None` if it is not recorded.
        fault: Why the metadata.json cannot be read; `None` if it can.
    """

    dataset_version: str
    num_bytes: int | None
    num_samples: int | None = None
    dataset_hash: str | None = None
    source: str | None = None
    fault: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def list_datasets(artifacts: Artifacts) -> list[DatasetSummary]:
    """Return the dataset versions by name. Reads each metadata.json, and no data.

    Raises:
        OSError: The folder of the datasets cannot be listed.
    """
    names = filter(is_version, artifacts.datasets.folders(follow_links=True))
    return [read_summary(artifacts.datasets / name) for name in names]


def read_summary(folder: StorePath) -> DatasetSummary:
    """Read the metadata.json of the dataset version in a folder."""
    data = (folder / DATA_FILE).stat()
    size = None if data is None else data.size
    try:
        metadata = (folder / METADATA_FILE).read_linked(METADATA_LIMIT)
        found = {} if metadata is None else parse_json(metadata, folder / METADATA_FILE)
    except (CorruptFileError, OSError) as error:
        return DatasetSummary(dataset_version=folder.name, num_bytes=size, fault=str(error))
    count, config = found.get("num_samples"), found.get("config")
    return DatasetSummary(
        dataset_version=folder.name,
        num_bytes=size,
        num_samples=count if type(count) is int else None,
        dataset_hash=_text(found, "dataset_hash"),
        source=_text(config, "source") if isinstance(config, dict) else None,
    )


def _text(values: dict[str, Any], key: str) -> str | None:
    return values[key] if isinstance(values.get(key), str) else None
