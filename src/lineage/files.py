"""Find, by its digest, the models that a file belongs to, or that were made from it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from src.artifacts import Artifacts
from src.lineage.record import Record, read_records
from src.records.canonical import canonical_json, sha256
from src.records.layout import EVALUATION_FILE, HISTORY_FILE, METADATA_FILE, STATEMENT_FILE
from src.records.statement import Statement
from src.storage import Location, open_file
from src.training.hashing import HashDataset, count_and_hash
from src.training.trained import recorded_training

__all__ = ["FileTrace", "FileUse", "trace_file"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileUse:
    """One place where a record names a file.

    Attributes:
        model_version: The model.
        role: What the file is to the model: `weights`, `history`, `metadata`, `provenance`,
            `evaluation`, `base model`, or the name of another input, such as `dataset`.
        file: Its recorded path: in the folder of the model or of the base model, or the URI of the
            input.
    """

    model_version: str
    role: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileTrace:
    """The models whose records name a file.

    Attributes:
        path: The file.
        sha256: SHA-256 of its bytes.
        uses: Each place where a record names this digest.
        unknown: Versions without a statement, which may have such a file.
    """

    path: str
    sha256: str
    uses: tuple[FileUse, ...]
    unknown: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "file": self.path,
            "sha256": self.sha256,
            "uses": [asdict(use) for use in self.uses],
            "unknown": list(self.unknown),
        }


def trace_file(
    path: Location,
    artifacts_dir: Location = "artifacts",
    *,
    hash_file: HashDataset = count_and_hash,
) -> FileTrace:
    """Return the models whose records name a file. Reads the file in full, in constant memory.

    Args:
        path: The file, which may have any name and lie anywhere.
        artifacts_dir: The artifacts root.
        hash_file: Counts the lines of a file, and hashes it.

    Raises:
        FileNotFoundError: There is no such file.
        CorruptFileError: It is not a regular file; or a file of a record cannot be parsed. Names
            the file.
        OSError: The file, or one of a record, cannot be read.
    """
    artifacts = Artifacts.open(artifacts_dir)
    records = list(read_records(artifacts))
    _, digest = hash_file(open_file(path))
    return FileTrace(
        path=str(path),
        sha256=digest,
        uses=tuple(
            FileUse(model_version=record.model_version, role=role, file=file)
            for record in records
            for role, file, recorded in _files(record, artifacts)
            if recorded == digest
        ),
        unknown=tuple(record.model_version for record in records if record.statement is None),
    )


def _files(record: Record, artifacts: Artifacts) -> Iterator[tuple[str, str, str]]:
    """Yield the files that a record names: role, path and SHA-256."""
    if (statement := record.statement) is not None:
        yield from _stated_files(statement, record.model_version, artifacts)
    else:
        yield "metadata", METADATA_FILE, sha256(canonical_json(record.metadata))
    if record.evaluation is not None:
        yield "evaluation", EVALUATION_FILE, sha256(canonical_json(record.evaluation))


def _stated_files(
    statement: Statement, model_version: str, artifacts: Artifacts
) -> Iterator[tuple[str, str, str]]:
    for name, each in statement.files.items():
        yield ("history" if name == HISTORY_FILE else "weights"), name, each.sha256
    yield "metadata", statement.subject, statement.subject_sha256
    yield "provenance", STATEMENT_FILE, sha256(statement.to_bytes())
    training = recorded_training(statement, artifacts.models / model_version / STATEMENT_FILE)
    for name, each in (training.base_model if training else {}).items():
        yield "base model", name, each.sha256
    for dependency in statement.dependencies:
        if (digest := dependency.digest.get("sha256")) and dependency.uri:
            yield dependency.name, dependency.uri, digest
