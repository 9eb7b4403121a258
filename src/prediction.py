"""Prediction of a run: what it would write, and how its model differs from the nearest one.

The run itself is carried out, on a store that keeps every write in memory. So the prediction is
made by the code of the run, from the same files.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.artifacts import Artifacts, read_metadata, read_statement
from src.components.component import ComponentNotRunError, components_not_run
from src.environment import core_dependency
from src.records.layout import REGISTRY_LIMIT, STATEMENT_FILE
from src.records.metadata import Difference, differences
from src.storage import Location, StorePath
from src.storage.memo import unwritten_memos
from src.storage.overlay import OverlayStore
from src.training.config import ConfigFile, read_config_file
from src.training.dataset import DatasetVersion, resolve_dataset
from src.training.grids import write_variant
from src.training.hashing import count_and_hash_once
from src.training.pipeline import run_training_pipeline
from src.training.registry import list_models
from src.training.trained import recorded_training
from src.training.trainer import (
    derive_model_version,
    describe_trainer,
    model_dependencies,
    model_metadata,
)

if TYPE_CHECKING:
    from src.components.description import Description

__all__ = ["Change", "Nearest", "Prediction", "Run", "first_difference", "predict", "run_core"]

Run = Callable[[str | StorePath, str | None, Artifacts], object]
"""Receives a training config, a model version or `None`, and the artifacts root; runs the steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A file that the run would write.

    Attributes:
        path: The file.
        position: The first byte that would differ, from 0; `None` for a new file.
    """

    path: str
    position: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "path": self.path,
            "change": "added" if self.position is None else "replaced",
            "first_difference": self.position,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearest:
    """The model with the fewest differences from that of the run.

    Attributes:
        model_version: Its version; that of the run if the model exists.
        differences: The values and files that differ: recorded, and now.
    """

    model_version: str
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "model_version": self.model_version,
            "differences": [
                {"field": each.field, "recorded": each.one, "now": each.other}
                for each in self.differences
            ],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a run would do.

    Attributes:
        model_version: The version that it would train; `None` if its config or data has an error.
        changes: The files that it would write with other bytes than they have, by name.
        nearest: The nearest model; `None` without a model to compare with.
        error: The error that it would fail with, after it has made the changes.
        unknown: The trainer or evaluator that would run. What comes after it depends on its result,
            and is not predicted.
    """

    model_version: str | None
    changes: tuple[Change, ...]
    nearest: Nearest | None
    error: OSError | ValueError | None
    unknown: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "model_version": self.model_version,
            "files": [each.to_dict() for each in self.changes],
            "nearest": self.nearest and self.nearest.to_dict(),
            "error": None if self.error is None else str(self.error),
            "unknown_after": self.unknown,
        }


def predict(
    training_config_path: str | Path,
    model_version: str | None = None,
    *,
    settings: Sequence[str] = (),
    artifacts_dir: Location = "artifacts",
    run: Run | None = None,
) -> Prediction:
    """Predict a run; nothing is written.

    Args:
        training_config_path: The training config.
        model_version: Name of the version; derived from config and data if `None`.
        settings: Values in place of those of the config; see `write_variant`.
        artifacts_dir: The artifacts root.
        run: Runs the steps; `run_core` if `None`.
    """
    base = Artifacts.open(artifacts_dir)
    overlay = OverlayStore(base.root.store)
    artifacts = Artifacts(StorePath(overlay, base.root.key))
    config: str | StorePath = str(training_config_path)
    version, nearest, error, unknown = model_version, None, None, None
    with unwritten_memos(), components_not_run():
        try:
            if settings:
                config = write_variant(training_config_path, settings, artifacts)
            with suppress(OSError, ValueError):  # raised by the run as well
                version, nearest = None, None
                version, nearest = _nearest(config, model_version, artifacts)
            (run or run_core)(config, model_version, artifacts)
        except (OSError, ValueError) as raised:
            error = raised
        except ComponentNotRunError as stopped:
            unknown = str(stopped)
    return Prediction(
        model_version=version,
        changes=tuple(_changes(overlay.written, base.root)),
        nearest=nearest,
        error=error,
        unknown=unknown,
    )


def run_core(
    training_config_path: str | StorePath, model_version: str | None, artifacts: Artifacts
) -> None:
    """Run the steps by the core alone."""
    run_training_pipeline(training_config_path, model_version, artifacts_dir=artifacts.root)


def _changes(written: Mapping[str, bytes], root: StorePath) -> Iterator[Change]:
    for key, data in sorted(written.items()):
        file = StorePath(root.store, key)
        found = file.read(REGISTRY_LIMIT)
        if found != data:
            position = None if found is None else first_difference(found, data)
            yield Change(path=str(file), position=position)


def first_difference(one: bytes, other: bytes) -> int:
    """Return the position of the first byte in which two texts differ, or the shorter one ends."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# --- The nearest model ---------------------------------------------------------------------------


def _nearest(
    config: str | StorePath, model_version: str | None, artifacts: Artifacts
) -> tuple[str, Nearest | None]:
    """Return the version of a run, and the nearest model."""
    config_file = read_config_file(config)
    dataset = resolve_dataset(
        config_file.config.dataset_version, artifacts.datasets, hash_dataset=count_and_hash_once
    )
    trainer = describe_trainer(config_file)
    version = model_version or derive_model_version(config_file.config, dataset, trainer)
    metadata = model_metadata(config_file.config, dataset, version)
    with suppress(OSError, ValueError):
        return version, _of_nearest(metadata, config_file, dataset, trainer, artifacts)
    return version, None


def _of_nearest(
    metadata: Mapping[str, Any],
    config_file: ConfigFile,
    dataset: DatasetVersion,
    trainer: "Description | None",
    artifacts: Artifacts,
) -> Nearest | None:
    """Compare with the model of that version; without one, with the most similar models."""
    models = _most_similar(metadata, _models(metadata["model_version"], artifacts))
    now = {
        **_values(metadata),
        "trainer": trainer and trainer.identity(),
        "sha256": _now(config_file, dataset),
    }
    found = []
    for model in models:
        version = model["model_version"]
        recorded = {**_values(model), **_recorded(version, artifacts)}
        each = tuple(differences(recorded, now))
        found.append(Nearest(model_version=version, differences=each))
    return min(found, key=lambda each: len(each.differences), default=None)


def _models(version: str, artifacts: Artifacts) -> list[dict[str, Any]]:
    """Return the model of a version if it exists, else all models, the newest first."""
    registered = list_models(artifacts.registry)
    of_version = [model for model in registered if model["model_version"] == version]
    if not of_version:
        with suppress(FileNotFoundError):  # it may have lost its entry
            of_version = [read_metadata(version, artifacts.models)]
    return of_version or registered[::-1]


def _most_similar(
    metadata: Mapping[str, Any], models: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the models with the fewest other values."""
    now, by_count = _values(metadata), dict[int, list[dict[str, Any]]]()
    for model in models:
        count = sum(1 for _ in differences(_values(model), now))
        by_count.setdefault(count, []).append(model)
    return by_count[min(by_count)] if by_count else []


def _values(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = ("training_config", "num_training_samples")
    return {name: metadata[name] for name in names}


def _now(config_file: ConfigFile, dataset: DatasetVersion) -> dict[str, str | None]:
    dependencies = [*model_dependencies(config_file, dataset), core_dependency()]
    digests = {each.name: each.digest["sha256"] for each in dependencies}
    return {name: digests.get(name) for name in _FILES}


def _recorded(version: str, artifacts: Artifacts) -> dict[str, Any]:
    folder = artifacts.models / version
    statement = read_statement(folder)
    training = statement and recorded_training(statement, folder / STATEMENT_FILE)
    return {
        "trainer": training and training.trainer,
        "sha256": {name: statement.digest(name) if statement else None for name in _FILES},
    }


_FILES = ("config", "dataset", "dataset metadata", "core")
