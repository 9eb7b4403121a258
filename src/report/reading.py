"""Reading of all records for the report: a file that cannot be read is a fault of its model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from src.artifacts import Artifacts, history_path, read_metadata, read_statement
from src.errors import CorruptFileError
from src.evaluation.evaluator import load_evaluation
from src.lineage.compare import DAMAGED, Losses, recorded_losses
from src.lineage.record import Record, version_folders
from src.records.layout import (
    HISTORY_FILE,
    METADATA_FILE,
    STATEMENT_FILE,
    VERDICTS_FILE,
    VERDICTS_LIMIT,
)
from src.records.statement import Statement
from src.records.verdicts import Audit, parse_audit
from src.rendering.text import one_line
from src.storage import StorePath
from src.storage.overlap import overlapped
from src.training.registry import check_registry, list_models

__all__ = ["ModelFiles", "RecordFiles", "read_files"]

MAX_LOSSES = 300  # points of a model
MAX_ALL_LOSSES = 60_000  # points of a page
MIN_LOSSES = 12

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFiles:
    """The files of a model, as far as they can be read.

    Attributes:
        version: The model version.
        record: Its record; `None` without readable metadata.
        is_registered: Whether the registry has an entry.
        evaluation_statement: The statement of its evaluation; `None` if there is none.
        losses: Steps and losses of its training.
        faults: One sentence for each file that cannot be read, or that a registered model lost.
    """

    version: str
    record: Record | None
    is_registered: bool = True
    evaluation_statement: Statement | None = None
    losses: Losses = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordFiles:
    """The files of all models.

    Attributes:
        root: The artifacts root, for messages.
        models: The models, those that are not registered first, then the newest.
        audit: The verdicts of the last audit; `None` if there are none.
        faults: One sentence for each file that belongs to no single model and cannot be read.
    """

    root: str
    models: tuple[ModelFiles, ...]
    audit: Audit | None = None
    faults: tuple[str, ...] = ()

    @property
    def all_faults(self) -> list[str]:
        """All faults, including those of the models."""
        return [*self.faults, *(fault for model in self.models for fault in model.faults)]


def read_files(artifacts: Artifacts) -> RecordFiles:
    """Read the files of all models, and the verdicts of the last audit.

    If the registry is damaged or lost, the models are those that have a folder.

    Raises:
        OSError: The artifacts root cannot be reached or listed.
    """
    faults: list[str] = []
    registered: dict[str, Mapping[str, Any]] = {}
    try:
        check_registry(artifacts)
        registered = {each["model_version"]: each for each in list_models(artifacts.registry)}
    except CorruptFileError as error:
        faults.append(one_line(error))
    others = [each for each in version_folders(artifacts.models) if each not in registered]
    versions = [*others, *reversed(registered)]
    limit = min(MAX_LOSSES, max(MIN_LOSSES, MAX_ALL_LOSSES // max(len(versions), 1)))

    def read(version: str) -> ModelFiles:
        return _read_model(version, registered.get(version), artifacts, limit)

    models = overlapped(read, versions, artifacts.root)
    return RecordFiles(
        root=str(artifacts.root),
        models=tuple(model for model in models if model.record or model.faults),
        audit=_read(lambda: _read_audit(artifacts), faults),
        faults=tuple(faults),
    )


def _read_model(
    version: str, metadata: Mapping[str, Any] | None, artifacts: Artifacts, limit: int
) -> ModelFiles:
    """Read the files of a model; without a record and faults, its run wrote no metadata."""
    faults: list[str] = []
    folder = artifacts.models / version
    is_registered = metadata is not None
    required = (folder / METADATA_FILE, folder / STATEMENT_FILE) if is_registered else (None, None)
    own_metadata = _read(lambda: read_metadata(version, artifacts.models), faults, required[0])
    metadata = metadata or own_metadata
    if metadata is None:
        return ModelFiles(version=version, record=None, is_registered=False, faults=tuple(faults))
    evaluations = artifacts.evaluations / version
    record = Record(
        metadata=metadata,
        statement=_read(lambda: read_statement(folder), faults, required[1]),
        evaluation=_read(lambda: load_evaluation(version, artifacts.evaluations), faults),
    )
    losses: Losses | None = ()
    if record.statement and HISTORY_FILE in record.statement.files:
        found: list[str] = []
        losses = _read(lambda: recorded_losses(record, artifacts, limit), found)
        if losses is None:
            path = history_path(folder, record.statement.files)
            faults += found or [one_line(f"{path}: {DAMAGED}.")]
    return ModelFiles(
        version=version,
        record=record,
        is_registered=is_registered,
        evaluation_statement=_read(lambda: read_statement(evaluations), faults),
        losses=losses or (),
        faults=tuple(faults),
    )


def _read_audit(artifacts: Artifacts) -> Audit | None:
    path = artifacts.reports / VERDICTS_FILE
    data = path.read(VERDICTS_LIMIT)
    return None if data is None else parse_audit(data, path)


def _read(
    read: Callable[[], T | None], faults: list[str], required: StorePath | None = None
) -> T | None:
    """Return what `read` returns; `None` if a file is missing, or has a fault, which is added.

    Args:
        read: Reads the file.
        faults: The faults.
        required: The file of a registered model, which is a fault if it is missing.
    """
    found = None
    try:
        found = read()
    except FileNotFoundError:
        pass
    except (CorruptFileError, OSError) as error:
        faults.append(one_line(error))
        return None
    if found is None and required is not None:
        text = f"{required}: no such file, but the model is registered. Restore it from a backup."
        faults.append(one_line(text))
    return found
