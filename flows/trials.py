"""The configs of a sweep, run in one process.

Configs of the simulated trainer and evaluator run in batches, with one task run per step and batch.
A config with its own trainer or evaluator runs separately, as in `training-pipeline`; several of
them run at the same time.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any

from prefect import Task

from flows.logs import unpinned_warnings
from flows.steps import (
    StepValues,
    call_limited,
    config_steps,
    run_steps,
    run_steps_together,
)
from src.artifacts import Artifacts
from src.components.description import shared_descriptions
from src.supervision.command import GRACE_SECONDS as COMMAND_GRACE_SECONDS
from src.supervision.command import commands_until
from src.training.batches import Outcome
from src.training.dataset import DatasetVersion
from src.training.leaderboard import SweptModel
from tasks.batches import Batch, run_batch
from tasks.caching import DecisionLog, step_results
from tasks.load_config import load_config
from tasks.resolve_dataset import resolve_dataset

__all__ = ["OnDone", "Trial", "run_trials"]

BATCH_SIZE = 100  # configs of one task run
GRACE_SECONDS = 5.0  # for steps to finish after the sweep was stopped


@dataclass
class Trial:
    """One config of a sweep.

    Attributes:
        config: The path of the file.
        sha256: SHA-256 of the file if the sweep wrote it.
        model: The model, once it is evaluated.
        error: The error, if the config failed.
    """

    config: str
    sha256: str | None = None
    model: SweptModel | None = None
    error: Exception | None = None

    def finish(self, values: StepValues, *, is_cached: bool) -> None:
        """Set the model from the results of the steps."""
        self.model = SweptModel.from_run(
            values.config_file,
            values.model_version,
            values.evaluation,
            None if values.evaluator is None else values.evaluator.better,
            is_cached=is_cached,
        )


OnDone = Callable[[Sequence[Trial]], None]
"""Receives configs that are done or have failed."""
OnDataset = Callable[[DatasetVersion], None]
"""Receives the dataset version of a config."""


def run_trials(
    trials: Sequence[Trial], artifacts: Artifacts, concurrency: int, on_done: OnDone
) -> None:
    """Run the steps of all configs; afterwards each has its model or its error.

    Args:
        trials: The configs.
        artifacts: The artifacts root.
        concurrency: Number of configs with their own trainer or evaluator that run at the same
            time.
        on_done: Called after each batch, and after each config that runs separately.

    Raises:
        RunTimeoutError: A step of a batch has not finished in six hours.
    """
    separate: list[Trial] = []
    on_dataset = unpinned_warnings()
    for start in range(0, len(trials), BATCH_SIZE):
        batch = trials[start : start + BATCH_SIZE]
        done, others = _run_batch(batch, start, len(trials), str(artifacts.root), on_dataset)
        separate += others
        on_done(done)
    if separate:
        with step_results(artifacts), shared_descriptions():
            _run_separately(separate, str(artifacts.root), concurrency, on_dataset, on_done)


class _NotBatchedError(ValueError):
    """The outcome of the first step for a config that has its own trainer or evaluator."""


def _run_batch(
    batch: Sequence[Trial], start: int, total: int, root: str, on_dataset: OnDataset
) -> tuple[list[Trial], list[Trial]]:
    """Run the steps of a batch.

    Returns:
        The configs that are done or have failed, and those that have to run separately.
    """
    first, last = f"{start + 1:,}", f"{start + len(batch):,}"
    place = f"{first if first == last else f'{first}-{last}'} of {total:,}"

    def call(
        step: Task[..., Any], positions: Sequence[int], arguments: Sequence[tuple[Any, ...]]
    ) -> list[Outcome[Any]]:
        configs = [batch[position].config for position in positions]
        found: list[Outcome[Any]] = call_limited(
            run_batch, Batch(step, f"{step.name} {place}", configs, arguments)
        )
        if step is not load_config:
            return found
        return [
            Outcome(error=_NotBatchedError()) if each.value and each.value.has_component else each
            for each in found
        ]

    steps = [
        config_steps(trial.config, None, root, sha256=trial.sha256, on_dataset=on_dataset)
        for trial in batch
    ]
    done, separate = [], []
    for trial, outcome in zip(batch, run_steps_together(steps, call), strict=True):
        if isinstance(outcome.error, _NotBatchedError):
            separate.append(trial)
            continue
        done.append(trial)
        trial.error = outcome.error
        if outcome.value is not None:
            trial.finish(outcome.value, is_cached=not outcome.is_new)
    return done, separate


def _run_separately(
    trials: Sequence[Trial],
    root: str,
    concurrency: int,
    on_dataset: OnDataset,
    on_done: OnDone,
) -> None:
    """Run the steps of each config, `concurrency` of them at the same time."""
    dataset_locks: defaultdict[str, Lock] = defaultdict(Lock)
    done_lock = Lock()

    def call(step: Task[..., Any], *arguments: Any) -> Any:
        if step is resolve_dataset:
            with dataset_locks[arguments[0]]:  # the others wait for the cached result
                return step(*arguments)
        return step(*arguments)

    def run(trial: Trial) -> None:
        try:
            with DecisionLog().recording() as decisions:
                steps = config_steps(
                    trial.config, None, root, sha256=trial.sha256, on_dataset=on_dataset
                )
                values = run_steps(steps, call)
            trial.finish(values, is_cached=decisions.is_cached)
        except (OSError, ValueError) as error:
            trial.error = error
        with done_lock:
            on_done([trial])

    _call_in_threads(concurrency, run, trials)


def _call_in_threads(
    concurrency: int, run: Callable[[Trial], None], trials: Sequence[Trial]
) -> None:
    """Call a function for every config, in `concurrency` threads.

    After an exception in the calling thread, e.g. if the run is cancelled, no further config is
    started, running trainers and evaluators are ended, and other steps have a few seconds to
    finish. The threads are daemons: unlike those of an executor, they do not keep the process from
    exiting.
    """
    waiting = deque(trials)
    futures = [Future[None]() for _ in range(min(concurrency, len(waiting)))]
    stop = Event()

    def work(future: Future[None]) -> None:
        try:
            while (trial := _next(waiting)) is not None:
                run(trial)
        except BaseException as error:  # is raised again in the calling thread
            waiting.clear()
            future.set_exception(error)
        else:
            future.set_result(None)

    try:
        with commands_until(stop):
            for future in futures:
                Thread(target=copy_context().run, args=(work, future), daemon=True).start()
        wait(futures)
    finally:
        waiting.clear()
        stop.set()
        wait(futures, GRACE_SECONDS + COMMAND_GRACE_SECONDS)
    for future in futures:
        future.result()


def _next(waiting: deque[Trial]) -> Trial | None:
    """Take the next config from the queue; `None` if it is empty."""
    with suppress(IndexError):
        return waiting.popleft()
    return None
