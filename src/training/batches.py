"""The steps of many configs together.

A batch leaves the same files as its configs one after the other, and raises the same errors, each
for its config alone. It writes them with fewer system calls: a step first decides for every config
which files are new, on a store that keeps them in memory, and then writes them together. A config
whose files cannot be written in this way, or for which another process was faster, does the step
alone.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Generic, NamedTuple, TypeVar

from src.artifacts import Artifacts
from src.environment import Invocation
from src.evaluation.evaluator import SIMULATED_EVALUATOR, load_evaluation, put_evaluation
from src.records.dataset_version import DatasetVersion
from src.records.metadata import ModelVersionConflict
from src.storage import Key, StorePath
from src.storage.overlay import NewFilesStore
from src.training.config import ConfigFile
from src.training.registry import (
    check_registry,
    find_models,
    is_registered,
    register_models,
)
from src.training.trainer import model_dependencies, model_metadata, put_metadata

__all__ = ["Outcome", "evaluate_batch", "outcomes", "register_batch", "write_metadata_batch"]

T = TypeVar("T")
U = TypeVar("U")


class Outcome(NamedTuple, Generic[T]):
    """What a step gave for one config.

    Attributes:
        value: Its result; `None` if it failed.
        error: Its error; `None` if it succeeded.
        is_new: Whether the step has written something.
    """

    value: T | None = None
    error: OSError | ValueError | None = None
    is_new: bool = False


def outcomes(step: Callable[[U], T], items: Iterable[U]) -> list[Outcome[T]]:
    """Call a step that writes nothing for each of many configs."""
    return [_outcome(step, item) for item in items]


def _outcome(step: Callable[[U], T], item: U) -> Outcome[T]:
    try:
        return Outcome(step(item))
    except (OSError, ValueError) as error:
        return Outcome(error=error)


def write_metadata_batch(
    models: Sequence[tuple[ConfigFile, DatasetVersion, str]],
    artifacts: Artifacts,
    invocation: Invocation,
) -> list[Outcome[dict[str, Any]]]:
    """Write metadata.json and provenance.json of many models; see `write_metadata`.

    Args:
        models: Config, data and version of each model. Its trainer is the simulated one.
        artifacts: The artifacts root.
        invocation: The run that provenance.json records.

    Returns:
        The contents of metadata.json of each model.

    Raises:
        ValueError, OSError: The registry was deleted, or cannot be read.
    """
    check_registry(artifacts)
    registered = find_models([version for *_, version in models], artifacts.registry)

    def write(
        artifacts: Artifacts, model: tuple[ConfigFile, DatasetVersion, str]
    ) -> dict[str, Any]:
        config_file, dataset, version = model
        metadata = model_metadata(config_file.config, dataset, version)
        put_metadata(
            metadata,
            artifacts.models,
            dependencies=model_dependencies(config_file, dataset),
            invocation=invocation,
            registered=registered,
        )
        return metadata

    return _together(write, models, artifacts)


def register_batch(
    metadata: Sequence[dict[str, Any]], artifacts: Artifacts
) -> list[Outcome[dict[str, Any]]]:
    """Append many models to the registry in one write; see `register_models`.

    Returns:
        The metadata of each model. A model that conflicts with the registry keeps no other one from
        being registered.

    Raises:
        ValueError, OSError: The registry was deleted, or cannot be read or written.
    """
    check_registry(artifacts)
    try:
        added = register_models(metadata, artifacts.registry)
    except ValueError:  # of the registry, which is raised again, or of single models
        return _register_valid(metadata, artifacts)
    return [Outcome(*each) for each in zip(metadata, repeat(None), added)]


def _register_valid(
    metadata: Sequence[dict[str, Any]], artifacts: Artifacts
) -> list[Outcome[dict[str, Any]]]:
    """Register the models that do not conflict with the registry, or with each other."""
    registered = find_models([each["model_version"] for each in metadata], artifacts.registry)

    def check(model: dict[str, Any]) -> dict[str, Any]:
        is_registered(model, artifacts.registry, registered=registered)
        registered.setdefault(model["model_version"], model)
        return model

    checked = outcomes(check, metadata)
    valid = [index for index, each in enumerate(checked) if each.error is None]
    try:
        added = register_models([metadata[index] for index in valid], artifacts.registry)
    except ModelVersionConflict:  # with an entry that another process has just added
        return _register_valid(metadata, artifacts)
    for index, is_new in zip(valid, added, strict=True):
        checked[index] = checked[index]._replace(is_new=is_new)
    return checked


def evaluate_batch(
    metadata: Sequence[dict[str, Any]], artifacts: Artifacts, invocation: Invocation
) -> list[Outcome[dict[str, Any]]]:
    """Evaluate many models by the simulated evaluator; see `evaluate_model`.

    Returns:
        The contents of evaluation.json of each model.
    """

    def evaluate(artifacts: Artifacts, model: dict[str, Any]) -> dict[str, Any]:
        version: str = model["model_version"]
        put_evaluation(
            version,
            artifacts.models,
            artifacts.evaluations,
            SIMULATED_EVALUATOR,
            invocation=invocation,
        )
        return load_evaluation(version, artifacts.evaluations)

    return _together(evaluate, metadata, artifacts)


def _together(
    step: Callable[[Artifacts, U], T], items: Sequence[U], artifacts: Artifacts
) -> list[Outcome[T]]:
    """Call a step for each of many configs, and write all of their new files together."""
    root = artifacts.root
    decided: list[tuple[Outcome[T], NewFilesStore]] = []
    files: dict[Key, bytes] = {}
    for item in items:
        store = NewFilesStore(root.store)
        outcome = _outcome(partial(step, Artifacts(StorePath(store, root.key))), item)
        decided.append((outcome, store))
        if outcome.error is None:
            files |= {key: data for key, data in store.written.items() if key not in files}
    durable = root.store.create_many(files)
    return [
        outcome._replace(is_new=store.is_changed)
        if outcome.error is None
        and all(key in durable and files[key] == data for key, data in store.written.items())
        else _alone(partial(step, artifacts), item)
        for item, (outcome, store) in zip(items, decided, strict=True)
    ]


def _alone(step: Callable[[U], T], item: U) -> Outcome[T]:
    outcome = _outcome(step, item)
    return outcome._replace(is_new=outcome.error is None)
