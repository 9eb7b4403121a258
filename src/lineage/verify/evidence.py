"""Evidence about a model: its files, read and parsed, before they are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from src.artifacts import Artifacts, history_path, weights_folder
from src.components.component import SIMULATED
from src.digest import Digest
from src.environment import CORE, source_digest
from src.errors import CorruptFileError, truncated_repr
from src.evaluation.evaluator import evaluation_path
from src.lineage.configs import read_recorded_config
from src.records.canonical import canonical_json, parse_json, sha256
from src.records.layout import (
    DATA_FILE,
    HISTORY_FILE,
    HISTORY_LIMIT,
    METADATA_FILE,
    METADATA_LIMIT,
    REGISTRY_LIMIT,
    STATEMENT_FILE,
    STATEMENT_LIMIT,
    WEIGHTS_FOLDER,
)
from src.records.metadata import parse_metadata
from src.records.registry_file import RegistryFile
from src.records.statement import Statement, parse_statement, weights_of
from src.storage import StorePath
from src.training.config import ConfigError
from src.training.dataset import DatasetVersion
from src.training.hashing import HashDataset
from src.training.registry import parse_registry

__all__ = [
    "ConfigEvidence",
    "DatasetEvidence",
    "File",
    "FilesEvidence",
    "HashFiles",
    "ModelEvidence",
    "read_dataset",
    "read_model",
    "read_registry",
]

T = TypeVar("T")
HashFiles = Callable[[StorePath], dict[str, Digest]]
"""Receives a folder; returns the digests of the files below it, by path. See `Store.digests`."""


@dataclass(frozen=True, kw_only=True)
class File(Generic[T]):
    """Contents of one file, or the reason why there are none.

    Attributes:
        path: Its path.
        data: Its bytes; `None` if there is no file, or the file is unreadable.
        value: Its parsed contents; `None` if it cannot be parsed.
        reason: Why there is no value.
        is_missing: Whether nothing exists at the path.
        is_unreadable: Whether the file exists, and reading it failed with an I/O error or a
            missing permission.
    """

    path: StorePath
    data: bytes | None = None
    value: T | None = None
    reason: str = ""
    is_missing: bool = False
    is_unreadable: bool = False

    @cached_property
    def sha256(self) -> str | None:
        """SHA-256 of the bytes."""
        return None if self.data is None else sha256(self.data)

    @property
    def found(self) -> str:
        """The digest, or why there is no value; for a report."""
        return self.reason or f"sha256 {self.sha256}"


@dataclass(frozen=True, kw_only=True)
class ConfigEvidence:
    """The config file that a statement names.

    Attributes:
        uri: Its location.
        sha256: SHA-256 of the file; `None` if it cannot be read or parsed.
        base_sha256: SHA-256 of its base config; `None` without one.
        trainer: The trainer that it names; `None` for the simulated one.
        reason: Why there is no digest.
    """

    uri: str
    sha256: str | None = None
    base_sha256: str | None = None
    trainer: Mapping[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class FilesEvidence:
    """The weights and the history of a model.

    Attributes:
        digests: Size and SHA-256 by path in the model's folder; empty if they cannot be read.
        reason: Why they cannot be read.
        is_unreadable: See `File`.
    """

    digests: Mapping[str, Digest] = field(default_factory=dict)
    reason: str = ""
    is_unreadable: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelEvidence:
    """The files of a model.

    Attributes:
        version: The model version.
        registry: The registry.
        entry: Its registry entry; `None` if it is not registered.
        metadata: metadata.json.
        statement: provenance.json of the model.
        evaluation: evaluation.json.
        evaluation_statement: provenance.json of the evaluation.
        config: The config file that the statement names; `None` without one.
        files: Weights and history, by path in the model's folder.
        core_sha256: Digest of the source of the core that verifies.
    """

    version: str
    registry: File[RegistryFile]
    entry: Mapping[str, Any] | None
    metadata: File[dict[str, Any]]
    statement: File[Statement]
    evaluation: File[dict[str, Any]]
    evaluation_statement: File[Statement]
    config: ConfigEvidence | None
    files: FilesEvidence = field(default_factory=FilesEvidence)
    core_sha256: str

    @property
    def is_entry_missing(self) -> bool:
        """Whether the registry has no entry; false if the registry cannot be parsed."""
        is_known = self.registry.value is not None or self.registry.is_missing
        return is_known and self.entry is None

    @property
    def has_own_evaluator(self) -> bool:
        """Whether the evaluation's statement names an evaluator other than the simulated one."""
        statement = self.evaluation_statement.value
        evaluator = statement.parameters.get("evaluator") if statement else None
        return isinstance(evaluator, dict) and evaluator.get("use") not in (None, SIMULATED)


@dataclass(frozen=True, kw_only=True)
class DatasetEvidence:
    """The dataset of a model.

    Attributes:
        version: The data; `None` if data.jsonl cannot be read.
        reason: Why there is no `version`.
        is_unreadable: See `File`.
        metadata: metadata.json of the dataset.
    """

    version: DatasetVersion | None
    reason: str = ""
    is_unreadable: bool = False
    metadata: File[bytes]


def read_registry(artifacts: Artifacts) -> File[RegistryFile]:
    """Read the registry.

    Raises:
        ConnectionError, TimeoutError: The store cannot be reached.
    """
    return _read(artifacts.registry, _parse_registry, REGISTRY_LIMIT)


def read_model(
    version: str,
    artifacts: Artifacts,
    registry: File[RegistryFile],
    entry: Mapping[str, Any] | None,
    hash_files: HashFiles = StorePath.digests,
) -> ModelEvidence:
    """Read the files of a model, in the reverse of the order in which a run writes them.

    A model that a run is writing is then unfinished, and never altered.

    Raises:
        ConnectionError, TimeoutError: The store cannot be reached.
    """
    folder = artifacts.models / version
    evaluation_file = evaluation_path(version, artifacts.evaluations)
    parse = _statement_parser(version)
    evaluation_statement = _read(evaluation_file.parent / STATEMENT_FILE, parse, STATEMENT_LIMIT)
    evaluation = _read(evaluation_file, parse_json, METADATA_LIMIT)
    if evaluation_statement.is_missing and not evaluation.is_missing:
        # The statement of an own evaluator is written first: maybe both were since it was read.
        evaluation_statement = _read(evaluation_statement.path, parse, STATEMENT_LIMIT)
    metadata = _read(folder / METADATA_FILE, _metadata_parser(version), METADATA_LIMIT)
    statement = _read(folder / STATEMENT_FILE, parse, STATEMENT_LIMIT)
    return ModelEvidence(
        version=version,
        registry=registry,
        entry=entry,
        metadata=metadata,
        statement=statement,
        evaluation=evaluation,
        evaluation_statement=evaluation_statement,
        config=_read_config(statement.value, artifacts),
        files=_read_files(folder, statement.value.files if statement.value else {}, hash_files),
        core_sha256=source_digest(CORE),
    )


def _read_files(
    folder: StorePath, recorded: Mapping[str, Digest], hash_files: HashFiles
) -> FilesEvidence:
    path = weights_folder(folder, weights_of(recorded))
    try:
        files = {f"{WEIGHTS_FOLDER}/{name}": each for name, each in hash_files(path).items()}
        path = history_path(folder, recorded)
        history = path.read(HISTORY_LIMIT)
    except (OSError, CorruptFileError) as error:
        reason, is_unreadable = _failure(error, path)
        return FilesEvidence(reason=reason, is_unreadable=is_unreadable)
    if history is not None:
        files[HISTORY_FILE] = Digest.of(history)
    return FilesEvidence(digests=files)


def read_dataset(
    dataset_version: str, artifacts: Artifacts, hash_dataset: HashDataset
) -> DatasetEvidence:
    """Read a dataset version: data.jsonl in full, and its metadata.json.

    Raises:
        ConnectionError, TimeoutError: The store cannot be reached.
    """
    folder = artifacts.datasets / dataset_version
    metadata = _read(
        folder / METADATA_FILE, lambda data, _: data, METADATA_LIMIT, StorePath.read_linked
    )
    path = folder / DATA_FILE
    try:
        num_samples, digest = hash_dataset(path)
    except FileNotFoundError:
        return DatasetEvidence(version=None, reason=f"{path}: no such file", metadata=metadata)
    except (OSError, CorruptFileError) as error:
        reason, is_unreadable = _failure(error, path)
        return DatasetEvidence(
            version=None, reason=reason, is_unreadable=is_unreadable, metadata=metadata
        )
    version = DatasetVersion(
        name=dataset_version, path=str(path), num_samples=num_samples, sha256=digest
    )
    return DatasetEvidence(version=version, metadata=metadata)


def _read(
    path: StorePath,
    parse: Callable[[bytes, StorePath], T],
    limit: int,
    read: Callable[[StorePath, int], bytes | None] = StorePath.read,
) -> File[T]:
    data = None
    try:
        data = read(path, limit)
        if data is None:
            return File(path=path, reason=f"{path}: no such file", is_missing=True)
        return File(path=path, data=data, value=parse(data, path))
    except (OSError, ValueError) as error:
        reason, is_unreadable = _failure(error, path)
        return File(path=path, data=data, reason=reason, is_unreadable=is_unreadable)


def _failure(error: OSError | ValueError, path: StorePath) -> tuple[str, bool]:
    """Return why a file has no value, and whether it is unreadable rather than damaged.

    Raises:
        ConnectionError, TimeoutError: The store cannot be reached.
    """
    if isinstance(error, ConnectionError | TimeoutError):
        raise error
    if not isinstance(error, OSError):
        return str(error), False
    return f"{path}: cannot be read ({error.strerror})" if error.strerror else str(error), True


def _read_config(statement: Statement | None, artifacts: Artifacts) -> ConfigEvidence | None:
    config = statement.dependency("config") if statement else None
    if config is None or config.uri is None:
        return None
    try:
        file = read_recorded_config(config.uri, artifacts)
        return ConfigEvidence(
            uri=config.uri,
            sha256=file.sha256,
            base_sha256=file.base_sha256,
            trainer=None if file.trainer is None else file.trainer.to_dict(),
        )
    except FileNotFoundError:
        reason = "no longer exists"
    except ConfigError:
        reason = "is no longer a valid config"
    except (OSError, ValueError) as error:
        text = str(error).removeprefix(f"{config.uri}: ").rstrip(".")
        reason = f"cannot be read ({getattr(error, 'strerror', None) or text})"
    return ConfigEvidence(uri=config.uri, reason=reason)


def _parse_registry(data: bytes, path: StorePath) -> RegistryFile:
    registry = parse_registry(data, path)
    if not registry.is_canonical:
        raise _edited(path)
    if registry.unknown_fields:
        raise CorruptFileError(
            f"{path}: unknown field {truncated_repr(registry.unknown_fields[0])}."
        )
    return registry


def _metadata_parser(version: str) -> Callable[[bytes, StorePath], dict[str, Any]]:
    """Return a parser that refuses the metadata of another version."""

    def parse(data: bytes, path: StorePath) -> dict[str, Any]:
        metadata = parse_metadata(data, path, model_version=version)
        _require_canonical(data, path)
        return metadata

    return parse


def _statement_parser(version: str) -> Callable[[bytes, StorePath], Statement]:
    """Return a parser that refuses the statement of another version."""

    def parse(data: bytes, path: StorePath) -> Statement:
        statement = parse_statement(data, path)
        _require_canonical(data, path)
        if (found := statement.parameters.get("model_version")) != version:
            raise CorruptFileError(
                f"{path}: model_version: expected {version!r}, found {truncated_repr(found)}."
            )
        return statement

    return parse


def _require_canonical(data: bytes, path: StorePath) -> None:
    if canonical_json(parse_json(data, path)) != data:
        raise _edited(path)


def _edited(path: StorePath) -> CorruptFileError:
    return CorruptFileError(f"{path}: not in canonical form: edited after it was written.")
