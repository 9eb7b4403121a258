"""What a model was made of, and which models were made of something."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.artifacts import Artifacts
from src.lineage.record import Record, read_record, read_records
from src.storage import shown
from src.versions import nearest

__all__ = ["Trace", "models_of_commit", "models_trained_on", "trace_model"]

SHORTEST_DIGEST = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """The models that something went into.

    Attributes:
        source: What went into them, in full: the name, the digest, the commit.
        models: Those that it went into, as far as is recorded.
        unknown: Versions of which it is not recorded, so that it may have gone into them as well.
    """

    source: str
    models: tuple[Record, ...]
    unknown: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give its JSON form."""
        return {
            "source": self.source,
            "models": [record.to_dict() for record in self.models],
            "unknown": list(self.unknown),
        }


def trace_model(model_version: str, artifacts_dir: str | Path = "artifacts") -> Record:
    """Give all that made a model: config, data, code, environment, run.

    Raises:
        ModelNotFoundError: Nothing knows the version.
        CorruptFileError: A file of it cannot be read; names it.
    """
    return read_record(model_version, Artifacts(artifacts_dir))


def models_trained_on(data: str, artifacts_dir: str | Path = "artifacts") -> Trace:
    """Give the models that have seen some data.

    Args:
        data: Name of a dataset version, or the SHA-256 of a data.jsonl: all of it, or its first
            digits, at least 8.
        artifacts_dir: The artifacts root.

    Raises:
        LookupError: No dataset version of that name is known, and it is no digest; names the
            nearest. Or it begins several digests; names them.
        CorruptFileError: A file of the record cannot be read; names it.
    """
    artifacts = Artifacts(artifacts_dir)
    records = list(read_records(artifacts))
    names = {record.metadata["dataset_version"] for record in records}
    if artifacts.datasets.is_dir():
        names |= {path.name for path in artifacts.datasets.iterdir()}
    if data in names:
        models = [record for record in records if record.metadata["dataset_version"] == data]
        return Trace(source=data, models=tuple(models))
    if not _is_digest(data):
        raise LookupError(
            f"{artifacts.datasets}: no dataset version {shown(data)}, and {SHORTEST_DIGEST} or "
            f"more digits of a SHA-256 it is not. Nearest: {nearest(data, sorted(names))}."
        )
    return _made_of(data, records, lambda record: _digest(record, "dataset", "sha256"))


def models_of_commit(commit: str, artifacts_dir: str | Path = "artifacts") -> Trace:
    """Give the models that were made by the code of a git commit.

    Args:
        commit: Its id: all of it, or its first digits, at least 8.
        artifacts_dir: The artifacts root.

    Raises:
        LookupError: It is not one, or begins several; names them.
        CorruptFileError: A file of the record cannot be read; names it.
    """
    if not _is_digest(commit):
        raise LookupError(
            f"commit: expected {SHORTEST_DIGEST} or more hexadecimal digits, found {shown(commit)}."
        )
    records = read_records(Artifacts(artifacts_dir))
    return _made_of(commit, records, lambda record: _digest(record, "code", "gitCommit"))


def _is_digest(text: str) -> bool:
    return re.fullmatch(f"[0-9a-fA-F]{{{SHORTEST_DIGEST},64}}", text) is not None


def _digest(record: Record, material: str, algorithm: str) -> str | None:
    return record.provenance.digest(material, algorithm) if record.provenance else None


def _made_of(
    prefix: str, records: Iterable[Record], digest: Callable[[Record], str | None]
) -> Trace:
    prefix, models, unknown = prefix.lower(), [], []
    found: set[str] = set()
    for record in records:
        if (whole := digest(record)) is None:
            unknown.append(record.model_version)
        elif whole.startswith(prefix):
            models.append(record)
            found.add(whole)
    if len(found) > 1:
        raise LookupError(f"{prefix}: begins {len(found)} digests: {', '.join(sorted(found))}.")
    return Trace(
        source=found.pop() if found else prefix, models=tuple(models), unknown=tuple(unknown)
    )
