"""What the record says of a model: its entry and the files that came with it, read together."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.artifacts import Artifacts
from src.evaluation.evaluator import evaluation_path
from src.provenance import PROVENANCE_NAME, Provenance, read_provenance
from src.storage import CorruptFileError, parse_json, read, shown
from src.training.registry import ModelNotFoundError, list_models
from src.versions import check_version, nearest, read_metadata

__all__ = ["Record", "is_there", "not_found", "read_record", "read_records", "unregistered"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known of a model version.

    Attributes:
        metadata: Its registry entry, or where it has none, its metadata.json.
        provenance: What it was made of, how and when; `None` where there is no provenance.json.
        evaluation: Its evaluation.json; `None` where there is none.
    """

    metadata: Mapping[str, Any]
    provenance: Provenance | None
    evaluation: Mapping[str, Any] | None

    @property
    def model_version(self) -> str:
        """The version it is of."""
        return str(self.metadata["model_version"])

    def to_dict(self) -> dict[str, Any]:
        """Give its JSON form; the provenance is the whole statement."""
        return {
            "metadata": self.metadata,
            "provenance": self.provenance and self.provenance.to_dict(),
            "evaluation": self.evaluation,
        }


def read_record(model_version: str, artifacts: Artifacts) -> Record:
    """Read what the record says of one model.

    Raises:
        ModelNotFoundError: The version has neither an entry nor a metadata.json.
        CorruptFileError: A file of it cannot be read; names it.
    """
    for metadata in list_models(artifacts.registry):
        if metadata["model_version"] == model_version:
            return _with_files(metadata, artifacts)
    try:
        metadata = read_metadata(model_version, artifacts.models)
    except CorruptFileError:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise not_found(model_version, artifacts) from error
    return _with_files(metadata, artifacts)


def read_records(artifacts: Artifacts) -> Iterator[Record]:
    """Read what the record says of every model: registered ones first, then folders by name.

    Raises:
        CorruptFileError: A file cannot be read; names it.
    """
    registered = list_models(artifacts.registry)
    for metadata in registered:
        yield _with_files(metadata, artifacts)
    for version in unregistered({model["model_version"] for model in registered}, artifacts.models):
        with suppress(FileNotFoundError):  # a run was killed before it wrote the metadata
            yield _with_files(read_metadata(version, artifacts.models), artifacts)


def _with_files(metadata: Mapping[str, Any], artifacts: Artifacts) -> Record:
    version = metadata["model_version"]
    path = evaluation_path(version, artifacts.evaluations)
    data = read(path)
    return Record(
        metadata=metadata,
        provenance=read_provenance(artifacts.models / version / PROVENANCE_NAME),
        evaluation=None if data is None else parse_json(data, path),
    )


def is_there(model_version: object, folder: Path) -> bool:
    """Tell whether a version has a folder below `folder`; what is no name has none."""
    try:
        return (folder / check_version("model_version", model_version)).is_dir()
    except ValueError:
        return False


def unregistered(registered: set[str], folder: Path) -> list[str]:
    """List the versions that have a folder below `folder` and are not among `registered`."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return sorted(name for name in names - registered if is_there(name, folder))


def not_found(model_version: str, artifacts: Artifacts) -> ModelNotFoundError:
    """Make the error for a version that nothing knows; it names the nearest that have a folder."""
    near = nearest(str(model_version), unregistered(set(), artifacts.models))
    return ModelNotFoundError(
        f"{artifacts.models}: no model {shown(model_version)}. Nearest: {near}."
    )
