"""The steps of a config in their order, written once for a run, a dry run and a sweep."""

import inspect
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.utilities.timeout import timeout

from flows.states import RunTimeoutError
from src.artifacts import Artifacts
from src.components.component import ComponentNotRunError, components_not_run
from src.components.description import Description
from src.evaluation.evaluator import Evaluator
from src.names import check_version
from src.storage import Location, StorePath
from src.storage.overlay import OverlayStore
from src.training.batches import Outcome
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from src.training.hashing import count_and_hash_once
from src.training.pipeline import config_evaluator
from src.training.trainer import derive_model_version, describe_trainer
from tasks.caching import DecisionLog, VerifiedResult
from tasks.evaluate import evaluate
from tasks.invocation import one_invocation
from tasks.load_config import load_config
from tasks.register import register
from tasks.resolve_dataset import resolve_dataset
from tasks.results import StepResults
from tasks.train import train
from tasks.write_metadata import write_metadata

__all__ = [
    "Call",
    "StepValues",
    "call_limited",
    "config_steps",
    "dry_run",
    "recorded_steps",
    "run_steps",
    "run_steps_together",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepValues:
    """The results of the steps, and the model version."""

    model_version: str
    config_file: ConfigFile
    dataset: DatasetVersion
    evaluation: dict[str, Any]
    evaluator: Evaluator | None


TIMEOUT_SECONDS = 6 * 60 * 60  # a step that hangs ends before the next night

Call = tuple[Task[..., Any], tuple[Any, ...]]
"""A step and its arguments."""
CallTogether = Callable[
    [Task[..., Any], Sequence[int], Sequence[tuple[Any, ...]]], Sequence[Outcome[Any]]
]
"""Runs a step for many configs; see `run_steps_together`."""


def config_steps(
    training_config_path: str | StorePath,
    model_version: str | None,
    root: Location,
    *,
    sha256: str | None = None,
    on_version: Callable[[str], None] = lambda _: None,
    on_dataset: Callable[[DatasetVersion], None] = lambda _: None,
) -> Generator[Call, Any, StepValues]:
    """Yield the steps of one config in their order; receive the result of each.

    Args:
        training_config_path: The training config.
        model_version: Name of the version; derived from config and data if `None`.
        root: The artifacts root.
        sha256: SHA-256 that the config must have; `None` unless a sweep wrote it.
        on_version: Called with the version if it was derived, before the first file is written.
        on_dataset: Called with the dataset version.

    Returns:
        The results of the steps.

    Raises:
        OSError, ValueError: See `training_pipeline`.
    """
    if model_version is not None:
        check_version("model_version", model_version)
    config_file: ConfigFile = yield load_config, (training_config_path, sha256)
    config = config_file.config
    dataset: DatasetVersion = yield resolve_dataset, (config.dataset_version, root)
    on_dataset(dataset)
    trainer = describe_trainer(config_file)
    evaluator = _evaluator(config_file, dataset, root)
    if model_version is None:
        model_version = derive_model_version(config, dataset, trainer)
        on_version(model_version)
    training = None
    if trainer is not None:
        training = yield train, (config_file, dataset, trainer, model_version, root)
    metadata = yield write_metadata, (config_file, dataset, model_version, root, training)
    yield register, (metadata, root)
    evaluator = evaluator and evaluator.current()
    evaluation = yield evaluate, (metadata, root, evaluator)
    return StepValues(
        model_version=model_version,
        config_file=config_file,
        dataset=dataset,
        evaluation=evaluation,
        evaluator=evaluator,
    )


def run_steps(steps: Generator[Call, Any, StepValues], call: Callable[..., Any]) -> StepValues:
    """Run the steps of one config.

    Args:
        steps: See `config_steps`.
        call: Receives a step and its arguments; returns its result.

    Raises:
        OSError, ValueError: See `training_pipeline`.
    """
    result = None
    while True:
        try:
            step, arguments = steps.send(result)
        except StopIteration as end:
            values: StepValues = end.value
            return values
        result = call(step, *arguments)


def run_steps_together(
    steps: Sequence[Generator[Call, Any, StepValues]], call: CallTogether
) -> list[Outcome[StepValues]]:
    """Run the steps of many configs, each step for all of them together.

    Args:
        steps: The steps of each config; see `config_steps`.
        call: Receives a step, the positions of the configs that it is the next step of, and its
            arguments for each of them; returns the outcomes in the same order.

    Returns:
        For each config, the results of its steps, or the error of the first that failed. `is_new`
        is true if any step had written something.
    """
    results = [Outcome[StepValues]()] * len(steps)
    waiting: dict[int, Call] = {}

    def advance(position: int, outcome: Outcome[Any]) -> None:
        if outcome.error is not None:
            results[position] = Outcome(error=outcome.error)
            return
        is_new = results[position].is_new or outcome.is_new
        try:
            waiting[position] = steps[position].send(outcome.value)
            results[position] = Outcome(is_new=is_new)
        except StopIteration as end:
            results[position] = Outcome(end.value, None, is_new)
        except (OSError, ValueError) as error:
            results[position] = Outcome(error=error)

    for position in range(len(steps)):
        advance(position, Outcome())
    while waiting:
        step, _ = waiting[min(waiting)]
        positions = [position for position, (next_step, _) in waiting.items() if next_step is step]
        arguments = [waiting.pop(position)[1] for position in positions]
        for position, outcome in zip(positions, call(step, positions, arguments), strict=True):
            advance(position, outcome)
    return results


def call_limited(step: Callable[..., Any], *arguments: object) -> Any:
    """Call a step; end it after `TIMEOUT_SECONDS`.

    A step that runs a trainer or an evaluator is not limited here: these have their own limits.

    Args:
        step: A task; or a function whose first argument names the step, such as `run_batch`.
        arguments: Its arguments.

    Raises:
        RunTimeoutError: The step has not finished in this time.
    """
    is_limited = not any(isinstance(each, Description | Evaluator) for each in arguments)
    try:
        with timeout(TIMEOUT_SECONDS if is_limited else None, _StepTimeoutError):
            return step(*arguments)
    except _StepTimeoutError as error:
        name = step.name if isinstance(step, Task) else arguments[0]
        raise RunTimeoutError(
            f"step {name}: not finished after {TIMEOUT_SECONDS / 3600:g} hours. What was "
            "written is whole; run again."
        ) from error


class _StepTimeoutError(TimeoutError):
    """Raised in a step by `call_limited`."""


def _evaluator(
    config_file: ConfigFile, dataset: DatasetVersion, root: Location
) -> Evaluator | None:
    """Return the evaluator that a config names; `None` for the simulated one."""
    if config_file.evaluator is None:
        return None
    artifacts = Artifacts.open(root)
    return config_evaluator(config_file, dataset, artifacts, hash_dataset=count_and_hash_once)


def recorded_steps(config: str, sha256: str | None, artifacts: Artifacts) -> StepValues | None:
    """Return the results of the steps of a config if all of its files are in the record.

    The steps are run on a store that writes nothing to disk, without a trainer or an evaluator.

    Args:
        config: The path of the training config.
        sha256: See `config_steps`.
        artifacts: The artifacts root.

    Returns:
        `None` if a run would write anything, or fail.
    """
    overlay = OverlayStore(artifacts.root.store)
    root = StorePath(overlay, artifacts.root.key)
    call = _without_engine(Artifacts(root))
    try:
        with one_invocation(), components_not_run():
            values = run_steps(config_steps(config, None, root, sha256=sha256), call)
    except (OSError, ValueError, ComponentNotRunError):
        return None
    return None if overlay.is_changed else values


def dry_run(
    training_config_path: str | StorePath,
    model_version: str | None,
    artifacts: Artifacts,
    decisions: DecisionLog,
) -> None:
    """Run the steps without the engine, on a store that writes nothing to disk.

    A step that would be served from the cache is not run. No result is cached.

    Args:
        training_config_path: The training config.
        model_version: Name of the version; derived from config and data if `None`.
        artifacts: The artifacts root, on an `OverlayStore`.
        decisions: Receives the cache decision of each step.

    Raises:
        OSError, ValueError: The run would fail with this error.
    """
    with one_invocation(), decisions.recording():
        steps = config_steps(training_config_path, model_version, artifacts.root)
        run_steps(steps, _without_engine(artifacts))


def _without_engine(artifacts: Artifacts) -> Callable[..., Any]:
    """Return a function that calls a step, or returns its cached result, without the engine."""
    results = StepResults.in_folder(artifacts.cache)

    def call(step: Task[..., Any], *arguments: object) -> Any:
        inputs = inspect.signature(step.fn).bind(*arguments)
        inputs.apply_defaults()
        policy = step.cache_policy
        assert isinstance(policy, VerifiedResult)  # noqa: S101
        begun = policy.begin(step.name, inputs.arguments, results)
        if begun is not None and begun.cached is not None:
            return begun.cached.value
        return step.fn(*arguments)

    return call
