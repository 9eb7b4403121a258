"""A dry run: what `run` would do, and how its model differs from the nearest one."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import click

from cli.console import load_prefect
from cli.tables import print_table
from cli.terminal import print_json, print_line
from src.prediction import Prediction, predict

__all__ = ["dry_run"]


def dry_run(
    config: str,
    model_version: str | None,
    settings: tuple[str, ...],
    artifacts_dir: str,
    *,
    local: bool,
    as_json: bool,
) -> None:
    """Print what a run would do.

    Raises:
        OSError, ValueError: The run would fail with this error.
    """
    predicted = partial(
        predict, config, model_version, settings=settings, artifacts_dir=artifacts_dir
    )
    steps: dict[str, dict[str, Any]] = {}
    if local:
        with _muted_log():
            prediction = predicted()
    else:
        load_prefect(artifacts_dir)
        from flows.steps import dry_run as run_dry
        from tasks.caching import DecisionLog

        decisions = DecisionLog()
        with _muted_log():
            prediction = predicted(run=partial(run_dry, decisions=decisions))
        steps = {step: asdict(decision) for step, decision in decisions.steps.items()}
    if as_json:
        print_json(prediction.to_dict() | {"steps": None if local else steps})
    else:
        _print(prediction, steps)
    if prediction.error is not None:
        raise prediction.error


@contextmanager
def _muted_log() -> Iterator[None]:
    """Drop the log of the core, which reports files as written."""
    logger = logging.getLogger("src")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _print(prediction: Prediction, steps: Mapping[str, Mapping[str, Any]]) -> None:
    if prediction.model_version is not None:
        print_line(f"Model version: {prediction.model_version}")
    if steps:
        click.echo()
        rows = [
            (step, "cached" if decision["is_cached"] else "runs", decision["reason"])
            for step, decision in steps.items()
        ]
        print_table(("step", "decision", "reason"), rows)
    if nearest := prediction.nearest:
        is_same = nearest.model_version == prediction.model_version
        what = (
            "the model of this version"
            if is_same
            else f"the nearest model, {nearest.model_version}"
        )
        click.echo()
        print_line(f"{'Differences from' if nearest.differences else 'No difference from'} {what}")
        if nearest.differences:
            print_table(("", "recorded", "now"), nearest.differences)
    click.echo()
    if prediction.changes:
        files = [
            (
                each.path,
                "added" if each.position is None else f"replaced from byte {each.position:,}",
            )
            for each in prediction.changes
        ]
        print_table(("file", "change"), files)
    elif prediction.unknown is None:
        click.echo("No file would change.")
    if prediction.unknown is not None:
        print_line(f"Then the {prediction.unknown} would run. What follows depends on its result.")
    click.echo("Dry run: nothing was written.", err=True)
