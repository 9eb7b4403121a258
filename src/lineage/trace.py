"""Tracing: the inputs of a model, and the models made from an input."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from src.artifacts import Artifacts
from src.errors import truncated_repr
from src.lineage.record import Record, read_record, read_records
from src.names import nearest
from src.storage import Location

__all__ = ["Trace", "models_of_commit", "models_trained_on", "trace_model"]

SHORTEST_DIGEST = 7  # as many as git prints


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """The models made from an input.

    Attributes:
        source: The input in full: the name, the digest or the commit.
        models: The models that record this input.
        unknown: Versions that record no input of this kind, and may be made from this one.
    """

    source: str
    models: tuple[Record, ...]
    unknown: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "source": self.source,
            "models": [record.to_dict() for record in self.models],
            "unknown": list(self.unknown),
        }


def trace_model(model_version: str, artifacts_dir: Location = "artifacts") -> Record:
    """Return the record of a model, with its config, data, code, environment and run.

    Raises:
        ModelNotFoundError: The version does not exist.
        CorruptFileError: A file of the record cannot be parsed; names the file.
    """
    return read_record(model_version, Artifacts.open(artifacts_dir))


def models_trained_on(data: str, artifacts_dir: Location = "artifacts") -> Trace:
    """Return the models that were trained on some data.

    Args:
        data: Name of a dataset version, or the SHA-256 of a data.jsonl, which may be shortened to
            its first digits, at least 7.
        artifacts_dir: The artifacts root.

    Raises:
        LookupError: There is no such dataset version, and `data` is not a digest; names the
            nearest. Or `data` is the start of several digests; names them.
        CorruptFileError: A file of a record cannot be parsed; names the file.
    """
    artifacts = Artifacts.open(artifacts_dir)
    records = list(read_records(artifacts))
    names = {record.metadata["dataset_version"] for record in records}
    names |= set(artifacts.datasets.folders(follow_links=True))
    if data in names:
        models = [record for record in records if record.metadata["dataset_version"] == data]
        return Trace(source=data, models=tuple(models))
    if not _is_digest(data):
        raise LookupError(
            f"{artifacts.datasets}: no dataset version {truncated_repr(data)}, and not "
            f"{SHORTEST_DIGEST} or more digits of a SHA-256. Nearest: {nearest(data, names)}."
        )
    return _made_from(data, records, lambda record: _digest(record, "dataset", "sha256"))


def models_of_commit(commit: str, artifacts_dir: Location = "artifacts") -> Trace:
    """Return the models that were made by the code of a git commit.

    Args:
        commit: The commit id, which may be shortened to its first digits, at least 7.
        artifacts_dir: The artifacts root.

    Raises:
        LookupError: `commit` is not a commit id, or the start of several; names them.
        CorruptFileError: A file of a record cannot be parsed; names the file.
    """
    if not _is_digest(commit):
        raise LookupError(
            f"commit: expected {SHORTEST_DIGEST} or more hexadecimal digits, found "
            f"{truncated_repr(commit)}."
        )
    records = read_records(Artifacts.open(artifacts_dir))
    return _made_from(commit, records, lambda record: _digest(record, "code", "gitCommit"))


def _is_digest(text: str) -> bool:
    return re.fullmatch(f"[0-9a-fA-F]{{{SHORTEST_DIGEST},64}}", text) is not None


def _digest(record: Record, dependency: str, algorithm: str) -> str | None:
    return record.statement.digest(dependency, algorithm) if record.statement else None


def _made_from(
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
        raise LookupError(
            f"{prefix}: the start of {len(found)} digests: {', '.join(sorted(found))}. "
            "Add more digits."
        )
    return Trace(
        source=found.pop() if found else prefix, models=tuple(models), unknown=tuple(unknown)
    )
