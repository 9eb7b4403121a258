"""A sweep: many training configs in one run, and which of the models is best."""

import gc
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events.worker import EventsWorker

from flows.failing import failed
from flows.openlineage import Lineage, lineage_of_this_run
from flows.progress import progress_of
from flows.report import publish_models, sweep_report
from src.artifacts import Artifacts
from src.training.registry import register_models
from src.training.sweep import find_configs, write_grid
from src.training.trainer import derive_model_version
from tasks.caching import Journal, results_below
from tasks.evaluate import evaluate
from tasks.load_config import load_config
from tasks.register import register
from tasks.resolve_dataset import resolve_dataset
from tasks.write_metadata import write_metadata

__all__ = ["SweepError", "training_sweep"]

BATCH = 50  # configs that are registered under one lock
CATCH_UP_SECONDS = 30.0
GRACE_SECONDS = 5.0
UNSENT = 500  # configs whose task runs the server may not have been told of: they take memory
TIMEOUT_SECONDS = 6 * 60 * 60
RANKED_BY = {"quality_score": -1, "cost_per_1k_tokens": 1, "latency_ms": 1}
NAMED = 10  # failed configs in the message of a run; the report names all


class SweepError(ValueError):
    """Some configs of a sweep failed; the others are done.

    Attributes:
        summary: What the sweep would have returned.
    """

    def __init__(self, summary: dict[str, Any]) -> None:
        self.summary = summary
        faults, done = summary["failed"], len(summary["leaderboard"])
        lines = [
            error if error.startswith(config) else f"{config}: {error}"
            for config, error in (fault.values() for fault in faults[:NAMED])
        ]
        if len(faults) > NAMED:
            lines.append(f"and {len(faults) - NAMED:,} more")
        many = f"{len(faults):,} of {done + len(faults):,} configs failed, the others are done:"
        super().__init__("\n".join([many, *lines]))


@dataclass
class _Trial:
    """One config of a sweep, and how far it came."""

    config: str
    journal: Journal
    metadata: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    return f"sweep {' '.join([*parameters['configs'], parameters['grid']])}"[:100].rstrip()


@flow(name="training-sweep", flow_run_name=_run_name, timeout_seconds=TIMEOUT_SECONDS)
def training_sweep(
    configs: Sequence[str] = (),
    grid: str = "",
    concurrency: int = 4,
    artifacts_dir: str = "artifacts",
) -> dict[str, Any]:
    """Train, register and evaluate a model for each of many configs, and rank them.

    Each goes through the steps of `training-pipeline`, under a model version that is derived. What
    an earlier run has done is served from the cache, so a sweep that was stopped goes on where it
    was. A config that fails is named, and keeps no other from being done.

    Args:
        configs: Training configs: files, or patterns such as `configs/training/*.yaml`.
        grid: A sweep, a YAML file, e.g. `configs/sweeps/mistral_finetune.yaml`: a base config, and
            lists of the values to try. Leave it empty for none.
        concurrency: How many configs are in work at a time, at least 1.
        artifacts_dir: Folder that holds `datasets/` and gets `models/` and `evaluations/`.

    Returns:
        `leaderboard`: for each config that was done, the best first, its `model_version`, metrics,
        settings and `config`; `failed`: for each that was not, `config` and `error`; and `cached`:
        of how many configs every step was served from the cache.

    Raises:
        FileNotFoundError: The grid is not there, or nothing matches a pattern.
        ConfigError: The grid cannot be used.
        SweepError: Some configs failed; the others are done. It has what is returned otherwise.
        ValueError: There is no config, or `concurrency` is less than 1.
    """
    try:
        files = _configs(configs, grid, concurrency, artifacts_dir)
        return _sweep(files, concurrency, Artifacts(artifacts_dir))
    except (OSError, ValueError) as error:
        return failed(error)  # type: ignore[no-any-return]


def _configs(configs: Sequence[str], grid: str, concurrency: int, artifacts_dir: str) -> list[str]:
    if concurrency < 1:
        raise ValueError(f"concurrency: expected 1 or more, found {concurrency}.")
    files = find_configs(configs)
    if grid:
        files += write_grid(grid, Artifacts(artifacts_dir))
    if not files:
        raise ValueError("A sweep needs configs or a grid: give at least one.")
    return files


def _sweep(files: list[str], concurrency: int, artifacts: Artifacts) -> dict[str, Any]:
    started = time.monotonic()
    with lineage_of_this_run() as lineage:
        trials = _run(files, concurrency, artifacts, lineage)
        summary = _summary(trials)
        _publish(summary, time.monotonic() - started, artifacts)
        if summary["failed"]:
            raise SweepError(summary)
    return summary


def _run(
    files: list[str], concurrency: int, artifacts: Artifacts, lineage: Lineage
) -> list[_Trial]:
    root = str(artifacts.root)
    one_hashes: defaultdict[str, Lock] = defaultdict(Lock)

    def prepare(trial: _Trial) -> None:
        config_file = load_config(trial.config)
        config = config_file.config
        with one_hashes[config.dataset_version]:  # the others are served from the cache
            dataset = resolve_dataset(config.dataset_version, root)
        lineage.read(dataset)
        version = derive_model_version(config, dataset)
        trial.metadata = write_metadata(config_file, dataset, version, root)

    def finish(trial: _Trial) -> None:
        register(trial.metadata, root)
        trial.evaluation = evaluate(trial.metadata, root)
        lineage.made(trial.metadata, artifacts)

    with (
        _quiet_steps(),
        _frozen_heap(),
        results_below(root) as journal,
        progress_of(len(files), "configs", key="sweep-progress") as progress,
        _threads(concurrency) as pool,
    ):
        trials = [_Trial(file, Journal(journal.earlier)) for file in files]
        for start in range(0, len(trials), BATCH):
            if start and start % UNSENT == 0:
                _catch_up()
            batch = trials[start : start + BATCH]
            _each(pool, prepare, batch)
            # Where this fails, each registers by itself: with the retries, or to say what is wrong.
            with suppress(OSError, ValueError):
                register_models(
                    [trial.metadata for trial in batch if trial.error is None], artifacts.registry
                )
            _each(pool, finish, batch)
            progress(start + len(batch))
    return trials


def _catch_up() -> None:
    """Wait until the server has been told of the steps so far; not for long, if it is away."""
    telling = Thread(target=EventsWorker.instance().wait_until_empty, daemon=True)
    telling.start()
    telling.join(CATCH_UP_SECONDS)


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Lend threads; whatever ends the block early does not wait for one that hangs."""
    pool = ThreadPoolExecutor(count)
    done = False
    try:
        yield pool
        done = True
    finally:
        pool.shutdown(wait=done, cancel_futures=True)


def _each(pool: ThreadPoolExecutor, step: Callable[[_Trial], None], trials: list[_Trial]) -> None:
    """Take trials a step further, those that have not failed."""

    def run(trial: _Trial) -> None:
        try:
            with trial.journal.kept():
                step(trial)
        except (OSError, ValueError) as error:
            trial.error = error

    waiting = [trial for trial in trials if trial.error is None]
    futures = [pool.submit(copy_context().run, run, trial) for trial in waiting]
    try:
        wait(futures)
    finally:  # where it ends early, what is in work is finished, unless it hangs
        wait([future for future in futures if not future.cancel()], GRACE_SECONDS)
    for future in futures:
        future.result()


def _summary(trials: list[_Trial]) -> dict[str, Any]:
    rows = [
        {
            "model_version": trial.evaluation["model_version"],
            **{name: trial.evaluation["metrics"][name] for name in RANKED_BY},
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
        "leaderboard": sorted(
            rows, key=lambda row: [sign * row[name] for name, sign in RANKED_BY.items()]
        ),
        "failed": faults,
        "cached": sum(trial.error is None and trial.journal.cached for trial in trials),
    }


def _publish(summary: dict[str, Any], seconds: float, artifacts: Artifacts) -> None:
    create_table_artifact(
        summary["leaderboard"], key="sweep-leaderboard", description="The best model first"
    )
    if summary["cached"] < len(summary["leaderboard"]):
        publish_models(artifacts)
    create_markdown_artifact(
        sweep_report(summary, seconds), key="sweep", description="The sweep, its best and its chart"
    )


@contextmanager
def _frozen_heap() -> Iterator[None]:
    """Keep the garbage collector from what is there already: the engine, imported, is large."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _quiet_steps() -> Iterator[None]:
    """Keep what thousands of steps would log to warnings."""
    loggers = [logging.getLogger(name) for name in ("prefect.task_runs", "src")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
