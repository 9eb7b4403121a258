"""Records: everything that is stored about a model version, read together."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from src.artifacts import Artifacts, read_metadata, read_statement
from src.errors import CorruptFileError, truncated_repr
from src.evaluation.evaluator import load_evaluation
from src.names import is_version, nearest
from src.records.statement import Statement
from src.storage import StorePath
from src.storage.overlap import overlapped
from src.training.registry import ModelNotFoundError, list_models, read_registry_file

__all__ = ["Record", "model_not_found", "read_record", "read_records", "version_folders"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Everything that is stored about a model version.

    Attributes:
        metadata: Its registry entry; its metadata.json if it is not registered.
        statement: Its provenance.json; `None` if there is no such file.
        evaluation: Its evaluation.json; `None` if there is no such file.
    """

    metadata: Mapping[str, Any]
    statement: Statement | None
    evaluation: Mapping[str, Any] | None

    @property
    def model_version(self) -> str:
        """The model version."""
        return str(self.metadata["model_version"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `provenance` is the whole statement."""
        return {
            "metadata": self.metadata,
            "provenance": self.statement and self.statement.to_dict(),
            "evaluation": self.evaluation,
        }


def read_record(model_version: str, artifacts: Artifacts) -> Record:
    """Read the record of one model version.

    Raises:
        ModelNotFoundError: The version has neither a registry entry nor a metadata.json.
        CorruptFileError: A file of the record cannot be parsed; names the file.
    """
    if (registered := read_registry_file(artifacts.registry).get(model_version)) is not None:
        return _with_files(registered, artifacts)
    try:
        metadata = read_metadata(model_version, artifacts.models)
    except CorruptFileError:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise model_not_found(model_version, artifacts) from error
    return _with_files(metadata, artifacts)


def read_records(artifacts: Artifacts, versions: Collection[str] | None = None) -> Iterator[Record]:
    """Read the records of all models: registered ones in their order, then others by name.

    Args:
        artifacts: The artifacts root.
        versions: The registered models to read; if `None`, all models, registered or not.

    Raises:
        CorruptFileError: A file of a record cannot be parsed; names the file.
    """
    registered = list_models(artifacts.registry)
    wanted = (each for each in registered if versions is None or each["model_version"] in versions)
    yield from overlapped(partial(_with_files, artifacts=artifacts), wanted, artifacts.root)
    if versions is not None:
        return
    versions = {model["model_version"] for model in registered}
    for version in version_folders(artifacts.models):
        if version not in versions:
            with suppress(FileNotFoundError):  # a run was killed before it wrote the metadata
                yield _with_files(read_metadata(version, artifacts.models), artifacts)


def _with_files(metadata: Mapping[str, Any], artifacts: Artifacts) -> Record:
    version = metadata["model_version"]
    evaluation = None
    with suppress(FileNotFoundError):
        evaluation = load_evaluation(version, artifacts.evaluations)
    return Record(
        metadata=metadata,
        statement=read_statement(artifacts.models / version),
        evaluation=evaluation,
    )


def version_folders(folder: StorePath) -> list[str]:
    """Return the folders below `folder` whose names are valid version names, sorted."""
    return [name for name in folder.folders() if is_version(name)]


def model_not_found(model_version: object, artifacts: Artifacts) -> ModelNotFoundError:
    """Return the error for a model version that does not exist; it names the nearest ones."""
    folders: list[str] = []
    with suppress(OSError):
        folders = version_folders(artifacts.models)
    # A run that was killed leaves the folder of a version that does not exist.
    others = [name for name in folders if name != model_version]
    near = nearest(str(model_version), others)
    if near == "none" and others:
        near = "none; `llm-train models` lists all"
    return ModelNotFoundError(
        f"{artifacts.models}: no model {truncated_repr(model_version)}. Nearest: {near}."
    )
