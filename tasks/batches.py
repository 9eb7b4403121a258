"""The steps of a sweep: one task run is a step for a batch of configs.

No result is cached: each step finds what is done already in the record, whose files it checks.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from src.artifacts import Artifacts
from src.rendering.text import one_line, reason_first
from src.training.batches import (
    Outcome,
    evaluate_batch,
    outcomes,
    register_batch,
    write_metadata_batch,
)
from src.training.config import read_config_file
from tasks.caching import STEP_OPTIONS, is_transient_error
from tasks.evaluate import evaluate
from tasks.invocation import flow_invocation
from tasks.load_config import load_config
from tasks.register import register
from tasks.resolve_dataset import resolve_dataset
from tasks.write_metadata import write_metadata

__all__ = ["Batch", "run_batch"]

Calls = Sequence[tuple[Any, ...]]
"""The arguments of a step for each config of a batch."""


class Batch:
    """A step for a batch of configs, and its outcomes so far.

    Args:
        step: The task of the step for one config.
        name: The name of the task run.
        configs: The paths of the configs, for the log.
        calls: The arguments of the step for each config.

    Attributes:
        outcomes: The outcome for each config; empty before the first try.
    """

    def __init__(
        self, step: Task[..., Any], name: str, configs: Sequence[str], calls: Calls
    ) -> None:
        self.step, self.name, self.configs, self.calls = step, name, configs, calls
        self.outcomes: list[Outcome[Any]] = []

    def __str__(self) -> str:
        return self.name

    @property
    def transient_error(self) -> OSError | None:
        """An error of a config that may succeed on another try; `None` if there is none."""
        return next((each.error for each in self.outcomes if is_transient_error(each.error)), None)

    def run(self) -> None:
        """Run the step for every config, or again for those that failed with a transient error."""
        waiting = [
            index
            for index in range(len(self.calls))
            if not self.outcomes or is_transient_error(self.outcomes[index].error)
        ]
        calls = [self.calls[index] for index in waiting]
        found: Sequence[Outcome[Any]]
        try:
            found = _STEPS[self.step.name](calls)
        except (OSError, ValueError) as error:
            found = [Outcome(error=error)] * len(calls)
        self.outcomes = self.outcomes or [Outcome()] * len(self.calls)
        for index, outcome in zip(waiting, found, strict=True):
            self.outcomes[index] = outcome


def _load_configs(calls: Calls) -> list[Outcome[Any]]:
    return outcomes(lambda call: read_config_file(*call), calls)


def _resolve_datasets(calls: Calls) -> list[Outcome[Any]]:
    """Resolve each dataset version once."""
    different = list(dict.fromkeys(calls))
    found = outcomes(lambda call: resolve_dataset.fn(*call), different)
    by_call = dict(zip(different, found, strict=True))
    return [by_call[call] for call in calls]


def _write_metadata(calls: Calls) -> list[Outcome[Any]]:
    *_, root, _ = calls[0]
    models = [call[:3] for call in calls]
    return write_metadata_batch(models, Artifacts.open(root), flow_invocation())


def _register(calls: Calls) -> list[Outcome[Any]]:
    _, root = calls[0]
    return register_batch([metadata for metadata, _ in calls], Artifacts.open(root))


def _evaluate(calls: Calls) -> list[Outcome[Any]]:
    _, root, _ = calls[0]
    metadata = [metadata for metadata, *_ in calls]
    return evaluate_batch(metadata, Artifacts.open(root), flow_invocation())


_STEPS: dict[str, Callable[[Calls], list[Outcome[Any]]]] = {
    load_config.name: _load_configs,
    resolve_dataset.name: _resolve_datasets,
    write_metadata.name: _write_metadata,
    register.name: _register,
    evaluate.name: _evaluate,
}


def _run(batch: Batch) -> None:
    """Run a batch in a task run; raise a transient error as long as the task run has retries."""
    batch.run()
    context = TaskRunContext.get()
    may_retry = context is not None and context.task_run.run_count <= STEP_OPTIONS["retries"]
    if may_retry and (error := batch.transient_error) is not None:
        raise error
    _log_outcomes(batch)


def _log_outcomes(batch: Batch) -> None:
    """Log each config that failed, and the number of configs by result."""
    log, count = get_run_logger(), Counter[str]()
    for config, outcome in zip(batch.configs, batch.outcomes, strict=True):
        if outcome.error is not None:
            count["failed"] += 1
            text, name = reason_first(outcome.error), one_line(config)
            log.error("%s", text if name in text else f"{name}: {text}")
        else:
            count["written" if outcome.is_new else _UNCHANGED[batch.step.name]] += 1
    log.info("Configs: %s.", ", ".join(f"{number} {result}" for result, number in count.items()))


_UNCHANGED = dict.fromkeys(_STEPS, "found in the record") | {
    load_config.name: "loaded",
    resolve_dataset.name: "resolved",
}
_OPTIONS: dict[str, Any] = {
    "task_run_name": "{batch}",
    "cache_policy": NO_CACHE,
    "persist_result": False,
    **{name: value for name, value in STEP_OPTIONS.items() if name.startswith("retr")},
}
_TASKS = {name: task(name=name, **_OPTIONS)(_run) for name in _STEPS}


def run_batch(batch: Batch) -> list[Outcome[Any]]:
    """Run a step for a batch of configs, in one task run with retries.

    A config that fails is named in the log and does not stop the others.

    Returns:
        The outcome for each config, in the order of the batch.
    """
    _TASKS[batch.step.name](batch)
    return batch.outcomes
