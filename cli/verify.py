"""The command `verify`."""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict

import click

from cli.options import (
    artifacts_dir_option,
    check_working_directory,
    complete_version,
    table_options,
)
from cli.progress import digests_with_progress, hash_with_progress, training_progress
from cli.tables import print_table
from cli.terminal import print_json, print_line
from src.artifacts import Artifacts
from src.lineage.verify import Check, Verdict, verdict, verify_all
from src.rendering.text import one_line
from src.training.config import read_config_file
from src.training.registry import list_models

__all__ = ["verify"]

COLOURS = {"MATCH": "green", "AS RECORDED": "green", "UNFINISHED": "yellow"}


@click.command()
@click.argument("versions", nargs=-1, shell_complete=complete_version)
@click.option("--all", "everything", is_flag=True, help="All models.")
@click.option(
    "--reevaluate", is_flag=True, help="Run the evaluators that the configs of the models name."
)
@click.option(
    "--retrain",
    is_flag=True,
    help="Train the models again in a temporary folder, and compare their weights.",
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(),
    help="With --reevaluate or --retrain: the config that names evaluator and trainer; by default, "
    "that of each model.",
)
@artifacts_dir_option
@table_options
def verify(
    versions: tuple[str, ...],
    everything: bool,
    reevaluate: bool,
    retrain: bool,
    config: str | None,
    artifacts_dir: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Check models against their recorded inputs.

    Recomputes the records of model VERSIONS and compares; changes nothing. Exits with 1 if a model
    does not match, if a file cannot be read, or if a run was stopped before it wrote all of a
    record (UNFINISHED). The numbers of an evaluator other than the simulated one are compared with
    their record alone (AS RECORDED), unless --reevaluate measures them again. An evaluation by
    `evaluate --config FILE` is measured again with the same --config. --retrain names the first
    step, file and tensor that differ, and what in code and environment is not as recorded.
    """
    if everything == bool(versions):
        raise click.UsageError("Pass the versions to verify, or --all.")
    runs_code = reevaluate or retrain
    if config is not None and not runs_code:
        raise click.UsageError("--config needs --reevaluate or --retrain.")
    if runs_code:
        check_working_directory(artifacts_dir)  # its configs name code to run
    results = {}
    with training_progress() if retrain else nullcontext(lambda *_: None) as on_point:
        for version, checks in verify_all(
            artifacts_dir,
            versions=versions or None,
            hash_dataset=hash_with_progress,
            hash_files=digests_with_progress,
            reevaluate=reevaluate,
            retrain=retrain,
            config_file=None if config is None else read_config_file(config),
            on_point=on_point,
        ):
            results[version] = checks
            if not (as_csv or as_json):
                _print_checks(version, checks)
    if not results:
        list_models(Artifacts.open(artifacts_dir).registry)  # raises if the registry is damaged
        raise FileNotFoundError(f"{artifacts_dir}: no models. Train one first.")
    counts = Counter(verdict(checks) for checks in results.values())
    if as_json:
        print_json(
            [
                {
                    "model_version": version,
                    "verdict": verdict(checks),
                    "checks": [asdict(check) for check in checks],
                }
                for version, checks in results.items()
            ]
        )
    elif as_csv:
        _print_csv(results)
    elif len(results) > 1:
        shown: list[Verdict] = ["MATCH", "MISMATCH"]
        others: list[Verdict] = ["AS RECORDED", "UNREADABLE", "UNFINISHED"]
        shown += [each for each in others if counts[each]]
        summary = ", ".join(f"{counts[each]} {each}" for each in shown)
        click.echo(f"{len(results)} models: {summary}")
    if counts["MATCH"] + counts["AS RECORDED"] < len(results):
        raise SystemExit(1)


def _print_csv(results: Mapping[str, list[Check]]) -> None:
    """Print a row for each check, with the names of the fields in JSON."""
    names = ("what", "verdict", "expected", "found", "diverged", "note", "details")
    rows = [
        (version, verdict(checks), *(getattr(check, name) for name in names))
        for version, checks in results.items()
        for check in checks
    ]
    print_table(("model_version", "model_verdict", *names), rows, as_csv=True)


def _print_checks(version: str, checks: list[Check]) -> None:
    result = verdict(checks)
    colour = COLOURS.get(result, "red")
    click.echo(f"{click.style(result.ljust(8), fg=colour)}  {one_line(version)}")
    if missing := [check.what for check in checks if check.verdict == "UNFINISHED"]:
        print_line(f"  missing: {', '.join(missing)}")
        print_line(
            "  The run failed or was stopped before it wrote this, or it was deleted. Run it again."
        )
    for check in checks:
        if check.verdict == "UNFINISHED":
            continue
        if check.verdict not in ("MATCH", "AS RECORDED"):
            print_line(f"  {check.what}")
            print_line(f"    expected  {check.expected}")
            print_line(f"    found     {check.found}")
            if check.diverged:
                print_line(f"    diverged  {check.diverged}")
            for note in check.notes:
                print_line(f"    note      {note}")
        else:
            for note in check.notes:
                print_line(f"  {check.what}: {note}")
