"""Sweeps: many training configs in one run, and a ranking of the models."""

import gc
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock, Thread
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.logs import configure_log
from flows.openlineage import lineage_hooks
from flows.report import fit_leaderboard, publish_models, sweep_report
from flows.sending import wait_until_sent
from flows.states import FLOW_OPTIONS, RunTimeoutError, failed_state, timed_out_state
from flows.steps import step_evaluator
from src.artifacts import Artifacts
from src.components.description import shared_descriptions
from src.evaluation.evaluator import Evaluator
from src.records.evaluation import is_metric
from src.rendering.text import one_line
from src.supervision.command import GRACE_SECONDS as COMMAND_GRACE_SECONDS
from src.supervision.command import commands_until
from src.training.grids import find_configs, write_grid
from src.training.registry import check_registry, register_models
from src.training.trainer import derive_model_version, describe_trainer
from tasks.caching import DecisionLog, step_results
from tasks.evaluate import evaluate
from tasks.load_config import load_config
from tasks.process import record_process
from tasks.progress import progress_artifact
from tasks.register import register
from tasks.resolve_dataset import resolve_dataset
from tasks.train import train
from tasks.write_metadata import write_metadata

__all__ = ["SweepError", "training_sweep"]

BATCH_SIZE = 50  # configs that are registered in one write
SENDING_SECONDS = 30.0
GRACE_SECONDS = 5.0
MAX_UNSENT = 500  # configs whose task runs may wait to be sent to the server; they take memory
TIMEOUT_SECONDS = 6 * 60 * 60
RANKED_BY = {"quality_score": -1, "cost_per_1k_tokens": 1, "latency_ms": 1}
MAX_LISTED = 10  # failed configs in the message of a run; the report lists all


class SweepError(ValueError):
    """Raised when some configs of a sweep failed; the others are done.

    Attributes:
        summary: `leaderboard`, `failed` and `cached`; see `training_sweep`.
    """

    def __init__(self, summary: dict[str, Any]) -> None:
        self.summary = summary
        faults, done = summary["failed"], len(summary["leaderboard"])
        lines = [
            error if error.startswith(config) else f"{config}: {error}"
            for config, error in (fault.values() for fault in faults[:MAX_LISTED])
        ]
        head = f"{len(faults):,} of {done + len(faults):,} configs failed, the others are done"
        first = f". The first {MAX_LISTED}" if len(faults) > MAX_LISTED else ""
        super().__init__("\n".join([f"{head}{first}:", *lines]))


@dataclass
class _Trial:
    """One config of a sweep: its results so far, or its error."""

    config: str
    sha256: str | None  # of a file that this sweep wrote
    decisions: DecisionLog = field(default_factory=DecisionLog)
    metadata: dict[str, Any] = field(default_factory=dict)
    has_component: bool = False
    evaluator: Evaluator | None = None
    evaluation: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    name = f"sweep {' '.join([*parameters['configs'], parameters['grid']])}"
    return one_line(name[:100].rstrip())


@flow(
    name="training-sweep",
    flow_run_name=_run_name,
    **FLOW_OPTIONS,
    **lineage_hooks(),
)
def training_sweep(
    configs: Sequence[str] = (),
    grid: str = "",
    concurrency: int = 4,
    artifacts_dir: str = "artifacts",
) -> dict[str, Any]:
    """Train, register and evaluate one model per config, and rank the models.

    Each config runs the steps of `training-pipeline`, with a derived model version. Finished steps
    are served from the cache, so a sweep that was stopped continues. A config that fails is
    reported, and does not stop the others.

    Args:
        configs: Training configs: files, or patterns such as `configs/training/*.yaml`.
        grid: A YAML file with a base config and lists of values to try, e.g.
            `configs/sweeps/mistral_finetune.yaml`. Leave it empty for none.
        concurrency: Number of configs that run at the same time, at least 1.
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`.

    Returns:
        `leaderboard`: for each finished config, the best first, its `model_version`, metrics,
        settings and `config`; `failed`: empty, because a failed config raises; `cached`: the number
        of configs whose steps were all served from the cache.

    Raises:
        FileNotFoundError: The grid does not exist, or no file matches a pattern.
        ConfigError: The grid is not valid.
        SweepError: Some configs failed; the others are done. Its summary has, for each failed
            config, `config` and `error`.
        ValueError: There is no config, or `concurrency` is less than 1.
    """
    configure_log()
    record_process()
    try:
        artifacts = Artifacts.open(artifacts_dir)
        trials = _trials(configs, grid, concurrency, artifacts)
        return _sweep(trials, concurrency, artifacts)
    except RunTimeoutError as error:
        return timed_out_state(error)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        return failed_state(error)  # type: ignore[no-any-return]


def _trials(
    configs: Sequence[str], grid: str, concurrency: int, artifacts: Artifacts
) -> list[_Trial]:
    if concurrency < 1:
        raise ValueError(f"concurrency: expected 1 or more, found {concurrency}.")
    trials = [_Trial(file, sha256=None) for file in find_configs(configs)]
    if grid:
        trials += [_Trial(*file) for file in write_grid(grid, artifacts).items()]
    if not trials:
        raise ValueError("sweep: found no config. Pass configs, a grid, or both.")
    return trials


def _sweep(trials: list[_Trial], concurrency: int, artifacts: Artifacts) -> dict[str, Any]:
    started = time.monotonic()
    _run(trials, concurrency, artifacts)
    summary = _summary(trials)
    _publish(summary, time.monotonic() - started, artifacts)
    if summary["failed"]:
        raise SweepError(summary)
    return summary


def _run(trials: list[_Trial], concurrency: int, artifacts: Artifacts) -> None:
    root = str(artifacts.root)
    dataset_locks: defaultdict[str, Lock] = defaultdict(Lock)

    def prepare(trial: _Trial) -> None:
        config_file = load_config(trial.config, trial.sha256)
        config = config_file.config
        with dataset_locks[config.dataset_version]:  # the others wait for the cached result
            dataset = resolve_dataset(config.dataset_version, root)
        trial.has_component = config_file.has_component
        trainer = describe_trainer(config_file)
        trial.evaluator = step_evaluator(config_file, dataset, root)
        version = derive_model_version(config, dataset, trainer)
        training = None
        if trainer is not None:
            training = train(config_file, dataset, trainer, version, root)
        trial.metadata = write_metadata(config_file, dataset, version, root, training)

    def finish(trial: _Trial) -> None:
        register(trial.metadata, root)
        trial.evaluator = trial.evaluator and trial.evaluator.current()
        trial.evaluation = evaluate(trial.metadata, root, trial.evaluator)

    with (
        _quiet_steps(),
        _frozen_heap(),
        step_results(artifacts),
        shared_descriptions(),
        progress_artifact(len(trials), "configs", key="sweep-progress") as progress,
    ):
        for start in range(0, len(trials), BATCH_SIZE):
            if start and start % MAX_UNSENT == 0:
                wait_until_sent(SENDING_SECONDS)
            batch = trials[start : start + BATCH_SIZE]
            _each(concurrency, prepare, batch)
            # If this fails, each model is registered alone: with retries, or with its own error.
            with suppress(OSError, ValueError):
                check_registry(artifacts)
                register_models(
                    [trial.metadata for trial in batch if trial.error is None], artifacts.registry
                )
            _each(concurrency, finish, batch)
            progress(len(batch))


def _each(concurrency: int, step: Callable[[_Trial], None], trials: list[_Trial]) -> None:
    """Run a step for every trial that has not failed, in threads.

    After an exception in this thread, no further trial is started, running trainers and evaluators
    are ended, and other steps may finish for `GRACE_SECONDS`. The threads are daemons: unlike those
    of an executor, they do not keep the process from exiting.
    """
    waiting = deque(trial for trial in trials if trial.error is None)
    threads = [Future[None]() for _ in range(min(concurrency, len(waiting)))]
    stop = Event()

    def run(thread: Future[None]) -> None:
        try:
            while (trial := _next(waiting)) is not None:
                try:
                    with trial.decisions.recording():
                        step(trial)
                except (OSError, ValueError) as error:
                    trial.error = error
        except BaseException as error:  # raised in the thread of the flow
            thread.set_exception(error)
        else:
            thread.set_result(None)

    try:
        with commands_until(stop):
            for thread in threads:
                Thread(target=copy_context().run, args=(run, thread), daemon=True).start()
        while wait(threads, TIMEOUT_SECONDS).not_done:
            # Trainers and evaluators have separate limits.
            if not any(trial.has_component for trial in trials):
                raise RunTimeoutError(
                    f"sweep: {len(trials)} configs not finished after {TIMEOUT_SECONDS / 3600:g} "
                    "hours. What was written is whole; run the sweep again."
                )
    finally:
        waiting.clear()
        stop.set()
        has_commands = any(trial.has_component for trial in trials)
        wait(threads, GRACE_SECONDS + (COMMAND_GRACE_SECONDS if has_commands else 0))
    for thread in threads:
        thread.result()


def _next(waiting: deque[_Trial]) -> _Trial | None:
    with suppress(IndexError):
        return waiting.popleft()
    return None


def _summary(trials: list[_Trial]) -> dict[str, Any]:
    rows = [
        {
            "model_version": trial.evaluation["model_version"],
            **_shown_metrics(trial),
            **trial.metadata["training_config"],
            "config": trial.config,
        }
        for trial in trials
        if trial.error is None
    ]
    faults = [
        {"config": trial.config, "error": str(trial.error)} for trial in trials if trial.error
    ]
    return {
        "leaderboard": sorted(rows, key=partial(_rank, _directions(trials))),
        "failed": faults,
        "cached": sum(trial.error is None and trial.decisions.is_cached for trial in trials),
    }


def _metrics(trial: _Trial) -> dict[str, Any]:
    """Return the metrics of a trial; none if evaluation.json was altered before it was read."""
    metrics = trial.evaluation.get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def _shown_metrics(trial: _Trial) -> dict[str, Any]:
    """Return the metrics of a row: those of the config's evaluator, or the three simulated ones."""
    metrics = _metrics(trial)
    if trial.evaluator is None:
        return {name: metrics.get(name) for name in RANKED_BY}
    columns = {"model_version", "config", *trial.metadata["training_config"]}
    return {name: value for name, value in metrics.items() if name not in columns}


def _directions(trials: list[_Trial]) -> dict[str, int]:
    """Return the metrics that rank, the most important first: -1 if higher is better, 1 if lower.

    They are those for which the evaluators of the configs declare `better`, in the order of their
    names; the metrics of the simulated evaluator if none declares any.
    """
    better: dict[str, str] = {}
    for trial in trials:
        if trial.evaluator is not None:
            better.update(trial.evaluator.better)
    if not better:
        return RANKED_BY
    return {name: -1 if better[name] == "higher" else 1 for name in sorted(better)}


def _rank(directions: Mapping[str, int], row: dict[str, Any]) -> list[float]:
    """Return the sort key of a row; a metric that is not a finite number is the worst."""
    return [
        sign * row[name] if is_metric(row.get(name)) else math.inf
        for name, sign in directions.items()
    ]


def _publish(summary: dict[str, Any], seconds: float, artifacts: Artifacts) -> None:
    rows, description = summary["leaderboard"], "Models of the sweep, the best first."
    if rows:
        table = fit_leaderboard(rows)
        rows, description = table.rows, f"{description} {table.caption}".strip()
    artifact: Any = create_table_artifact(rows, key="sweep-leaderboard", description=description)
    if summary["cached"] < len(summary["leaderboard"]):
        publish_models(artifacts)
    report = sweep_report(summary, seconds, f"/artifacts/artifact/{artifact}")
    create_markdown_artifact(report, key="sweep", description="Report of the sweep")


@contextmanager
def _frozen_heap() -> Iterator[None]:
    """Exclude existing objects from garbage collection: the imported engine is large."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _quiet_steps() -> Iterator[None]:
    """Set the log level of the steps to WARNING: a sweep has thousands of them."""
    loggers = [logging.getLogger(name) for name in ("prefect.task_runs", "src")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
