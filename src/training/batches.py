"""The steps of many configs, each step for all configs together.

A batch leaves the same files as its configs do one after the other, and returns the same errors,
each for its config. It needs fewer system calls: a step first computes the new files of every
config on a store that keeps them in memory, and then writes all of them together. If the files of a
config cannot be written in this way, or another process has written them meanwhile, the step is run
for this config alone.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from src.artifacts import Artifacts
from src.environment import Invocation
from src.evaluation.evaluator import SIMULATED_EVALUATOR, load_evaluation, put_evaluation
from src.records.dataset_version import DatasetVersion
from src.records.metadata import ModelVersionConflict
from src.storage import Key, StorePath
from src.storage.overlap import overlapped
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
    """Result or error of a step for one config.

    Attributes:
        value: The result; `None` if the step failed.
        error: The error; `None` if the step succeeded.
        is_new: Whether the step has written something.
    """

    value: T | None = None
    error: OSError | ValueError | None = None
    is_new: bool = False


def outcomes(step: Callable[[U], T], items: Iterable[U]) -> list[Outcome[T]]:
    """Call a step that writes nothing for each item; return the outcomes in the same order."""
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
        models: Config, data and version of each model. All have the simulated trainer.
        artifacts: The artifacts root.
        invocation: The run that provenance.json records.

    Returns:
        For each model, the contents of metadata.json, or its error.

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

    return _write_together(write, models, artifacts)


def register_batch(
    metadata: Sequence[dict[str, Any]], artifacts: Artifacts
) -> list[Outcome[dict[str, Any]]]:
    """Append many models to the registry in one write; see `register_models`.

    Returns:
        For each model, its metadata, or its error if it conflicts with the registry or with an
        earlier model of the batch. The other models are registered.

    Raises:
        ValueError, OSError: The registry was deleted, or cannot be read or written.
    """
    check_registry(artifacts)
    try:
        added = register_models(metadata, artifacts.registry)
    except ValueError:  # by the registry, which is raised again below, or by single models
        return _register_valid(metadata, artifacts)
    return [Outcome(model, is_new=is_new) for model, is_new in zip(metadata, added, strict=True)]


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
        For each model, the contents of evaluation.json, or its error.
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

    return _write_together(evaluate, metadata, artifacts)


def _write_together(
    step: Callable[[Artifacts, U], T], items: Sequence[U], artifacts: Artifacts
) -> list[Outcome[T]]:
    """Call a step for each item on a store in memory; then write all of the new files together."""
    root = artifacts.root

    def decide(item: U) -> tuple[Outcome[T], NewFilesStore]:
        store = NewFilesStore(root.store)
        return _outcome(partial(step, Artifacts(StorePath(store, root.key))), item), store

    decided = list(overlapped(decide, items, root))
    files: dict[Key, bytes] = {}
    for outcome, store in decided:
        if outcome.error is None:
            files |= {key: data for key, data in store.written.items() if key not in files}
    durable = root.store.create_many(files)
    found = []
    for item, (outcome, store) in zip(items, decided, strict=True):
        is_new = outcome.error is not None or store.is_changed
        is_written = all(
            key in durable and files[key] == data for key, data in store.written.items()
        )
        if outcome.error is not None or not is_written:
            outcome = _outcome(partial(step, artifacts), item)
        found.append(outcome._replace(is_new=is_new and outcome.error is None))
    return found
