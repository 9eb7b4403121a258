"""The steps of one config in their order, as a run calls them and as a dry run does."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect import Task

from src.artifacts import Artifacts
from src.evaluation.evaluator import Evaluator
from src.names import check_version
from src.storage import Location, StorePath
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

__all__ = ["StepValues", "dry_run", "run_steps", "step_evaluator"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepValues:
    """The results of the steps, and the model version."""

    model_version: str
    config_file: ConfigFile
    dataset: DatasetVersion
    evaluation: dict[str, Any]


def _call(step: Task[..., Any], *arguments: object) -> Any:
    return step(*arguments)


def run_steps(
    training_config_path: str | StorePath,
    model_version: str | None,
    root: Location,
    *,
    call: Callable[..., Any] = _call,
    on_version: Callable[[str], None] = lambda _: None,
) -> StepValues:
    """Run the steps of one config.

    Args:
        training_config_path: The training config.
        model_version: Name of the version; derived from config and data if `None`.
        root: The artifacts root.
        call: Receives a step and its arguments; returns its result.
        on_version: Called with a derived version, before the first file is written.

    Raises:
        OSError, ValueError: See `training_pipeline`.
    """
    if model_version is not None:
        check_version("model_version", model_version)
    config_file = call(load_config, training_config_path)
    config = config_file.config
    dataset = call(resolve_dataset, config.dataset_version, root)
    trainer = describe_trainer(config_file)
    evaluator = step_evaluator(config_file, dataset, root)
    if model_version is None:
        model_version = derive_model_version(config, dataset, trainer)
        on_version(model_version)
    training = None
    if trainer is not None:
        training = call(train, config_file, dataset, trainer, model_version, root)
    metadata = call(write_metadata, config_file, dataset, model_version, root, training)
    call(register, metadata, root)
    evaluation = call(evaluate, metadata, root, evaluator and evaluator.current())
    return StepValues(
        model_version=model_version,
        config_file=config_file,
        dataset=dataset,
        evaluation=evaluation,
    )


def step_evaluator(
    config_file: ConfigFile, dataset: DatasetVersion, root: Location
) -> Evaluator | None:
    """Return the evaluator that a config names; `None` for the simulated one."""
    if config_file.evaluator is None:
        return None
    artifacts = Artifacts.open(root)
    return config_evaluator(config_file, dataset, artifacts, hash_dataset=count_and_hash_once)


def dry_run(
    training_config_path: str | StorePath,
    model_version: str | None,
    artifacts: Artifacts,
    decisions: DecisionLog,
) -> None:
    """Run the steps without the engine, on a store whose writes are not kept.

    A step that would be served from the cache is not run. No result is cached.

    Args:
        training_config_path: The training config.
        model_version: Name of the version; derived from config and data if `None`.
        artifacts: The artifacts root, on an `OverlayStore`.
        decisions: Receives the cache decision of each step.

    Raises:
        OSError, ValueError: The run would fail with this error.
    """
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

    with one_invocation(), decisions.recording():
        run_steps(training_config_path, model_version, artifacts.root, call=call)
