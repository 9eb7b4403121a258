"""Sweeps: many training configs in one run, and a ranking of the models."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.distribution import run_distributed
from flows.logs import configure_log
from flows.openlineage import lineage_hooks
from flows.report import fit_leaderboard, publish_models, sweep_report
from flows.root import DEFAULT_ROOT
from flows.states import FLOW_OPTIONS, RunTimeoutError, failed_state, timed_out_state
from flows.trials import Trial, run_trials
from src.artifacts import Artifacts
from src.rendering.text import one_line
from src.training.grids import find_configs, write_grid
from src.training.leaderboard import SIMULATED_BETTER, leaderboard, write_leaderboard
from tasks.process import record_process
from tasks.progress import progress_artifact

__all__ = ["SweepError", "training_sweep"]

MAX_LISTED = 10  # failed configs in the message of a run; the report lists all
TABLE_ROWS = 100


class SweepError(ValueError):
    """Raised when some configs of a sweep failed; the others are done.

    Attributes:
        summary: The value that `training_sweep` returns, with the failed configs.
    """

    def __init__(self, summary: dict[str, Any]) -> None:
        self.summary = summary
        faults = summary["failed"]
        lines = [
            error if error.startswith(config) else f"{config}: {error}"
            for config, error in (fault.values() for fault in faults[:MAX_LISTED])
        ]
        head = f"{len(faults):,} of {summary['configs']:,} configs failed, the others are done"
        first = f". The first {MAX_LISTED}" if len(faults) > MAX_LISTED else ""
        super().__init__("\n".join([f"{head}{first}:", *lines]))


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
    artifacts_dir: str = DEFAULT_ROOT,
    rank_by: str = "",
    distribute: bool = False,
    in_flight: int = 100,
) -> dict[str, Any]:
    """Train, register and evaluate one model per config, and rank the models.

    Each config runs the steps of `training-pipeline`, with a derived model version. What is done
    already is found in the record, so a sweep that was stopped continues. A config that fails
    is reported, and does not stop the others.

    Args:
        configs: Training configs: files, or patterns such as `configs/training/*.yaml`.
        grid: A YAML file with a base config and lists of values to try, e.g.
            `configs/sweeps/mistral_finetune.yaml`. Leave it empty for none.
        concurrency: Number of configs with their own trainer or evaluator that run at the same
            time, at least 1. All others run in batches.
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`, or the address
            of an object store, e.g. `s3://bucket/prefix`. The default is `LLM_TRAIN_ARTIFACTS`
            of the worker, or `artifacts`.
        rank_by: The metric that ranks the models. Leave it empty for `quality_score`, or else the
            first one for which the evaluator declares which values are better.
        distribute: Whether each config is a separate flow run, of the deployment
            `training-pipeline/train`, on the workers of its work pool. For trainings of minutes to
            days. All workers need the same artifacts root.
        in_flight: With `distribute`, the number of flow runs that may wait or run at the same time.

    Returns:
        `leaderboard`: for each model, the best first, its `model_version`, settings, metrics,
        `config` and `cached`, whether it was found in the record; `failed`: empty, because a failed
        config raises; `configs` and `cached`: the numbers of configs, and of models that were found
        in the record; `file`: the path of `sweeps/<name>-<digest>.json` in the artifacts root. It
        has the first two, also if configs failed.

    Raises:
        FileNotFoundError: The grid does not exist, or no file matches a pattern.
        ConfigError: The grid is not valid.
        SweepError: Some configs failed; the others are done. Its summary has, for each failed
            config, `config` and `error`.
        ValueError: There is no config, `concurrency` or `in_flight` is less than 1, no evaluator
            declares whether a higher or lower `rank_by` is better (raised at the end), or there is
            no deployment.
        OSError: A file cannot be written; or with `distribute`, the server refused a request, or
            did not answer for ten minutes.
    """
    configure_log()
    record_process()
    try:
        artifacts = Artifacts.open(artifacts_dir)
        if distribute:
            run = partial(run_distributed, in_flight=_positive("in_flight", in_flight))
        else:
            run = partial(run_trials, concurrency=_positive("concurrency", concurrency))
        trials = _trials(configs, grid, artifacts)
        return _sweep(trials, Path(grid).stem or "configs", run, rank_by, artifacts)
    except RunTimeoutError as error:
        return timed_out_state(error)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        return failed_state(error)  # type: ignore[no-any-return]


def _positive(name: str, number: int) -> int:
    if number < 1:
        raise ValueError(f"{name}: expected 1 or more, found {number}.")
    return number


def _trials(configs: Sequence[str], grid: str, artifacts: Artifacts) -> list[Trial]:
    trials = [Trial(file) for file in find_configs(configs)]
    if grid:
        trials += [Trial(*file) for file in write_grid(grid, artifacts).items()]
    if not trials:
        raise ValueError("sweep: found no config. Pass configs, a grid, or both.")
    return trials


def _sweep(
    trials: list[Trial],
    name: str,
    run: Callable[..., None],
    rank_by: str,
    artifacts: Artifacts,
) -> dict[str, Any]:
    started, failed = time.monotonic(), 0

    def on_done(done: Sequence[Trial]) -> None:
        nonlocal failed
        failed += sum(trial.error is not None for trial in done)
        advance(len(done), f"{failed:,} failed")
        _check_rank_by(done, rank_by)

    with progress_artifact(len(trials), "configs", key="sweep-progress", is_of_run=True) as advance:
        run(trials, artifacts, on_done=on_done)
        configs = [trial.config for trial in trials]
        # Written before anything that may fail: artifacts in the UI need the server, and no
        # evaluator may declare `rank_by`.
        summary = _summary(trials)
        file = write_leaderboard(summary, name, configs, artifacts)
        if rank_by:
            summary = _summary(trials, rank_by)
            write_leaderboard(summary, name, configs, artifacts)
        summary["file"] = str(file)
    _publish(summary, time.monotonic() - started, artifacts)
    if summary["failed"]:
        raise SweepError(summary)
    return summary


def _check_rank_by(done: Sequence[Trial], rank_by: str) -> None:
    """Check the metric when the first model of a long sweep is done.

    Raises:
        ValueError: The evaluator of the model does not declare it.
    """
    models = [trial.model for trial in done if trial.model is not None]
    if rank_by and any(model.better is not SIMULATED_BETTER for model in models):
        leaderboard(models, rank_by)


def _summary(trials: Sequence[Trial], rank_by: str = "") -> dict[str, Any]:
    rows = leaderboard([trial.model for trial in trials if trial.model is not None], rank_by)
    return {
        "leaderboard": rows,
        "failed": [
            {"config": trial.config, "error": str(trial.error)} for trial in trials if trial.error
        ],
        "configs": len(trials),
        "cached": sum(row["cached"] for row in rows),
    }


def _publish(summary: dict[str, Any], seconds: float, artifacts: Artifacts) -> None:
    rows, description = summary["leaderboard"], "Models of the sweep, the best first."
    if rows:
        table = fit_leaderboard(rows[:TABLE_ROWS])
        if len(rows) > TABLE_ROWS:
            description = f"The best {TABLE_ROWS} of {len(rows):,} models."
        rows, description = table.rows, f"{description} {table.caption}".strip()
    artifact: Any = create_table_artifact(rows, key="sweep-leaderboard", description=description)
    if summary["cached"] < len(summary["leaderboard"]):
        publish_models(artifacts)
    report = sweep_report(summary, seconds, f"/artifacts/artifact/{artifact}")
    create_markdown_artifact(report, key="sweep", description="Report of the sweep")
