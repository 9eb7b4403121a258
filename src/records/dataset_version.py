"""A dataset version, as the core passes it on."""

from dataclasses import dataclass

__all__ = ["DatasetVersion"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetVersion:
    """The exact data that a run trains on.

    Attributes:
        name: Name of the dataset version.
        path: Location of its data.jsonl, for messages and reports.
        num_samples: Number of lines in data.jsonl; the last line needs no line end.
        sha256: SHA-256 of the bytes of data.jsonl, as 64 hexadecimal digits.
        metadata_sha256: SHA-256 of the dataset's metadata.json; `None` without one.
    """

    name: str
    path: str
    num_samples: int
    sha256: str
    metadata_sha256: str | None = None
