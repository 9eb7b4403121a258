"""The artifacts root: the location of its folders and of a model's files, and reading them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from src.digest import Digest
from src.names import check_version
from src.records.layout import (
    CACHE_FOLDER,
    DATASETS_FOLDER,
    EVALUATIONS_FOLDER,
    HISTORY_FILE,
    METADATA_FILE,
    METADATA_LIMIT,
    MODELS_FOLDER,
    REGISTRY_FILE,
    REPORTS_FOLDER,
    STATEMENT_FILE,
    STATEMENT_LIMIT,
    SWEEPS_FOLDER,
    WEIGHTS_FOLDER,
)
from src.records.metadata import parse_metadata
from src.records.statement import Statement, parse_statement, weights_of
from src.storage import Location, StorePath, open_path

__all__ = [
    "Artifacts",
    "history_path",
    "read_metadata",
    "read_statement",
    "stated_files",
    "weights_folder",
]


@dataclass(frozen=True)
class Artifacts:
    """The folders below one artifacts root; see `src.records.layout` for the whole layout."""

    root: StorePath

    @classmethod
    def open(cls, location: Location = "artifacts") -> "Artifacts":
        """Return the artifacts root at `location`; nothing is created before the first write."""
        return cls(open_path(location))

    @property
    def datasets(self) -> StorePath:
        """Folder of all dataset versions; the pipeline only reads it."""
        return self.root / DATASETS_FOLDER

    @property
    def models(self) -> StorePath:
        """Folder of all model versions and of the registry."""
        return self.root / MODELS_FOLDER

    @property
    def registry(self) -> StorePath:
        """The registry file."""
        return self.models / REGISTRY_FILE

    @property
    def evaluations(self) -> StorePath:
        """Folder of all evaluations."""
        return self.root / EVALUATIONS_FOLDER

    @property
    def sweeps(self) -> StorePath:
        """Folder of the training configs that sweeps wrote."""
        return self.root / SWEEPS_FOLDER

    @property
    def reports(self) -> StorePath:
        """Folder of the page and the verdicts that the last audit wrote."""
        return self.root / REPORTS_FOLDER

    @property
    def cache(self) -> StorePath:
        """Folder of the cached results of steps."""
        return self.root / CACHE_FOLDER


def read_metadata(model_version: str, models: StorePath) -> dict[str, Any]:
    """Read the metadata.json of a model version.

    Raises:
        FileNotFoundError: There is no such model version; names the file.
        CorruptFileError: The file is not the metadata of this version.
        ValueError: `model_version` is not a valid name.
    """
    path = models / check_version("model_version", model_version) / METADATA_FILE
    data = path.read(METADATA_LIMIT)
    if data is None:
        raise FileNotFoundError(
            f"{path}: no such file, so model version {model_version!r} does not exist. "
            "Train it first."
        )
    return parse_metadata(data, path, model_version=model_version)


def read_statement(folder: StorePath) -> Statement | None:
    """Read the provenance.json of a model or an evaluation; `None` if there is no such file.

    Raises:
        CorruptFileError: The file is not a statement.
    """
    path = folder / STATEMENT_FILE
    data = path.read(STATEMENT_LIMIT)
    return None if data is None else parse_statement(data, path)


def weights_folder(model: StorePath, weights: Mapping[str, Digest]) -> StorePath:
    """Return the folder that holds the weights of a model; see `Store.place`.

    Args:
        model: The folder of the model version.
        weights: The weights by path in their folder, as the statement of the model lists them.
    """
    return (model / WEIGHTS_FOLDER).place(weights)


def history_path(model: StorePath, files: Mapping[str, Digest]) -> StorePath:
    """Return the path of the history of a model; see `Store.place`.

    Args:
        model: The folder of the model version.
        files: The files that the statement of the model lists. If it lists no history, a file at
            the returned path is not part of the record.
    """
    history = {name: digest for name, digest in files.items() if name == HISTORY_FILE}
    return model.place(history) / HISTORY_FILE


def stated_files(model: StorePath, files: Mapping[str, Digest]) -> Iterator[StorePath]:
    """Yield the path of each file that the statement of a model lists, in that order."""
    weights = weights_folder(model, weights_of(files))
    for name in files:
        is_of_weights = name.startswith(f"{WEIGHTS_FOLDER}/")
        yield (
            weights / name.removeprefix(f"{WEIGHTS_FOLDER}/")
            if is_of_weights
            else history_path(model, files)
        )
