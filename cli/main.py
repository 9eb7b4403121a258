"""The command `llm-train`: run the pipeline, and read what it left on record.

Exit codes: 0 done, or all match; 1 a mismatch, a damaged file or another failure; 2 wrong usage, or
something that is not there or cannot be used.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.progress import hash_with_progress
from cli.tables import draw
from src.artifacts import Artifacts
from src.evaluation.evaluator import evaluation_path, load_evaluation
from src.lineage.compare import as_text, compare_records
from src.lineage.compare import compare as compare_models
from src.lineage.record import Record
from src.lineage.trace import Trace, models_of_commit, models_trained_on, trace_model
from src.lineage.verify import Check, mismatches, verify_all
from src.provenance import PROVENANCE_NAME
from src.storage import CorruptFileError, canonical_json
from src.training.registry import ModelNotFoundError, list_models

if TYPE_CHECKING:
    from cli.server import OwnServer

__all__ = ["main"]

BEST_ROWS = 20


class _Commands(click.Group):
    """Commands whose errors are told once, in the words of the core."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read stdout has seen enough: click ends without a word
        except (OSError, ValueError, ModelNotFoundError) as error:
            click.echo(f"error: {error}", err=True)
            bad_input = isinstance(error, ValueError | FileNotFoundError | ModelNotFoundError)
            ctx.exit(2 if bad_input and not isinstance(error, CorruptFileError) else 1)


def _versions(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete a model version."""
    known = []
    with suppress(OSError, ValueError):
        known = list_models(Artifacts(ctx.params.get("artifacts_dir") or "artifacts").registry)
    versions = [model["model_version"] for model in known]
    return [version for version in versions if version.startswith(incomplete)]


_artifacts_dir = click.option(
    "--artifacts-dir",
    metavar="DIR",
    default="artifacts",
    show_default=True,
    envvar="LLM_TRAIN_ARTIFACTS",
    show_envvar=True,
    type=click.Path(exists=True, file_okay=False),
    help="The artifacts root.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=_Commands)
def main() -> None:
    """Train models, and read what is on record of them."""


@main.command()
@click.argument("config", type=click.Path())
@click.option("--model-version", metavar="V", help="Name of the version; derived if not given.")
@_artifacts_dir
@click.option("--json", is_flag=True, expose_value=False, help="Print JSON, which it always does.")
def run(config: str, model_version: str | None, artifacts_dir: str) -> None:
    """Train, register and evaluate by a CONFIG.

    Prints the evaluation as JSON on stdout, everything else on stderr.
    """
    with _in_front_of_a_person():
        from flows.training_pipeline import training_pipeline

        evaluation = training_pipeline(config, model_version, artifacts_dir)
    _print_json(evaluation)


@main.command()
@click.argument("configs", nargs=-1)
@click.option("--grid", metavar="FILE", default="", help="Lists of values to try: a YAML file.")
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Configs in work at a time.",
)
@_artifacts_dir
@_json
def sweep(
    configs: tuple[str, ...], grid: str, concurrency: int, artifacts_dir: str, as_json: bool
) -> None:
    """Train, register and evaluate by many CONFIGS, and rank the models.

    CONFIGS are files, or patterns in quotes; --grid gives more, by lists of values for the settings
    of one config. What was done before is served from the cache, so a sweep that was stopped goes
    on. Exits with 1 if a config failed; the others are done.
    """
    fault = None
    with _in_front_of_a_person() as own_server:
        from flows.training_sweep import SweepError, training_sweep

        try:
            summary = training_sweep(list(configs), grid, concurrency, artifacts_dir)
        except SweepError as error:
            summary, fault = error.summary, error
        if own_server:
            own_server.wait_until_noted()
    if as_json:
        _print_json(summary)
    elif board := summary["leaderboard"]:
        head = [name.replace("_", " ") for name in board[0]]
        draw(head, [list(row.values()) for row in board[:BEST_ROWS]])
        if len(board) > BEST_ROWS:
            click.echo(f"The best {BEST_ROWS} of {len(board):,}; --json gives all.", err=True)
    if fault:
        click.echo(f"error: {fault}", err=True)
        raise SystemExit(1)


@contextmanager
def _in_front_of_a_person() -> Iterator["OwnServer | None"]:
    """Run a flow for somebody who waits for it and reads its log; lend a server, where needed."""
    # The engine takes a second to import.
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from cli.server import a_server

    for console in logging.getLogger().handlers:
        # Errors are reported once, without the engine's traceback.
        console.addFilter(lambda record: record.levelno < logging.ERROR)
    try:
        # A heartbeat tells the server that nobody watches a run that died, and takes up to a
        # second to stop.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), a_server() as server:
            yield server
    except (ValueError, FileNotFoundError):
        raise
    except Exception as error:
        click.echo(f"error: {type(error).__name__}: {error}", err=True)
        click.echo("The traceback is in the log of the flow run.", err=True)
        raise SystemExit(1) from error


@main.command()
@click.option("--base-model", metavar="B", help="Only those of this base model.")
@click.option("--dataset", metavar="D", help="Only those trained on this dataset version.")
@click.option("--sort", metavar="COLUMN", help="E.g. quality_score; smallest first.")
@click.option("--reverse", is_flag=True, help="The last first.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first N only.")
@_artifacts_dir
@_json
def models(
    base_model: str | None,
    dataset: str | None,
    sort: str | None,
    reverse: bool,
    limit: int | None,
    artifacts_dir: str,
    as_json: bool,
) -> None:
    """List the registered models, the newest first."""
    artifacts, damaged, rows = Artifacts(artifacts_dir), False, []
    for metadata in reversed(list_models(artifacts.registry)):
        if base_model not in (None, metadata["base_model"]):
            continue
        if dataset not in (None, metadata["dataset_version"]):
            continue
        model = metadata | {"metrics": None}
        try:
            evaluation = load_evaluation(metadata["model_version"], artifacts.evaluations)
            model["metrics"] = evaluation.get("metrics")
        except FileNotFoundError:
            pass  # not evaluated yet
        except CorruptFileError as error:
            click.echo(f"error: {error}", err=True)
            damaged = True
        rows.append((_columns(model), model))
    head = list(dict.fromkeys(name for columns, _ in rows for name in columns))
    if sort is not None:
        if rows and sort not in head:
            raise click.UsageError(f"--sort: no column {sort!r}. There are: {', '.join(head)}.")
        rows.sort(key=lambda row: _order(row[0].get(sort)), reverse=reverse)
        rows.sort(key=lambda row: row[0].get(sort) is None)  # unknown is last either way
    elif reverse:
        rows.reverse()
    rows = rows[:limit]
    if as_json:
        _print_json([model for _, model in rows])
    elif rows:
        draw(
            [name.replace("_", " ") for name in head],
            [[columns.get(name) for name in head] for columns, _ in rows],
        )
    else:
        click.echo("No models.", err=True)
    if damaged:
        raise SystemExit(1)


def _columns(model: Mapping[str, Any]) -> dict[str, Any]:
    """Give a model as one row: its values by column."""
    config = {key: value for key, value in model["training_config"].items() if key not in model}
    return {
        "version": model["model_version"],
        "base_model": model["base_model"],
        "dataset": model["dataset_version"],
        "samples": model["num_training_samples"],
        **config,
        **(model["metrics"] if isinstance(model["metrics"], dict) else {}),
    }


def _order(value: Any) -> tuple[float, str]:
    """Order numbers by value, then texts."""
    return (value, "") if isinstance(value, int | float) else (float("inf"), str(value))


@main.command()
@click.argument("version", shell_complete=_versions)
@_artifacts_dir
@_json
def show(version: str, artifacts_dir: str, as_json: bool) -> None:
    """Show all that is on record of model VERSION."""
    record = trace_model(version, artifacts_dir)
    if as_json:
        _print_json(record.to_dict())
        return
    rows = [
        (row.section, row.name, row.values[0])
        for row in compare_records([record]).every_row
        if row.section != "environment"
    ]
    if made := record.provenance:
        rows += [
            ("environment", "python", made.annotations("python").get("version")),
            ("environment", "packages", _packages(made.annotations("packages"))),
            ("run", "builder", made.builder),
            ("run", "id", made.invocation_id),
            ("run", "url", made.url),
            ("run", "started", made.started_on),
            ("run", "finished", made.finished_on),
        ]
    rows += [("files", path.name, str(path)) for path in _files(record, Artifacts(artifacts_dir))]
    draw(("", "", version), rows)


def _packages(versions: Mapping[str, Any]) -> str:
    return f"{len(versions)}; --json names them"


def _files(record: Record, artifacts: Artifacts) -> list[Path]:
    model = artifacts.models / record.model_version
    evaluation = evaluation_path(record.model_version, artifacts.evaluations)
    return [
        path
        for path in (
            artifacts.registry,
            model / "metadata.json",
            model / PROVENANCE_NAME,
            evaluation,
            evaluation.with_name(PROVENANCE_NAME),
        )
        if path.is_file()
    ]


@main.command()
@click.argument("versions", nargs=-1, required=True, shell_complete=_versions)
@click.option("--all", "everything", is_flag=True, help="Also what is the same.")
@click.option("--markdown", is_flag=True, help="Print Markdown, to paste into a review.")
@_artifacts_dir
@_json
def compare(
    versions: tuple[str, ...], everything: bool, markdown: bool, artifacts_dir: str, as_json: bool
) -> None:
    """Show in what two or more model VERSIONS differ."""
    if markdown and as_json:
        raise click.UsageError("--markdown and --json: choose one.")
    comparison = compare_models(*versions, artifacts_dir=artifacts_dir)
    rows = comparison.rows(everything=everything)
    if as_json:
        _print_json(comparison.to_dict(everything=everything))
    elif markdown or not rows:
        click.echo(comparison.to_markdown(everything=everything), nl=False)
    else:
        draw(("", "", *comparison.models), [(row.section, row.name, *row.values) for row in rows])


@main.command()
@click.argument("versions", nargs=-1, shell_complete=_versions)
@click.option("--all", "everything", is_flag=True, help="Every model there is.")
@_artifacts_dir
@_json
def verify(versions: tuple[str, ...], everything: bool, artifacts_dir: str, as_json: bool) -> None:
    """Tell whether the record of models holds.

    Derives all that is on record of model VERSIONS anew and compares; changes nothing. Exits with
    1 if anything is not as it must be.
    """
    if everything == bool(versions):
        raise click.UsageError("Name the versions to verify, or give --all.")
    verdicts = {}
    for version, checks in verify_all(
        artifacts_dir, versions=versions or None, hash_dataset=hash_with_progress
    ):
        verdicts[version] = checks
        if not as_json:
            _print_checks(version, checks)
    if not verdicts:
        raise FileNotFoundError(f"{artifacts_dir}: no models in it, so there is nothing to verify.")
    failed = sum(_verdict(checks) == "MISMATCH" for checks in verdicts.values())
    if as_json:
        _print_json(
            [
                {
                    "model_version": version,
                    "verdict": _verdict(checks),
                    "checks": [asdict(check) for check in checks],
                }
                for version, checks in verdicts.items()
            ]
        )
    elif len(verdicts) > 1:
        click.echo(f"{len(verdicts)} models: {len(verdicts) - failed} MATCH, {failed} MISMATCH")
    if failed:
        raise SystemExit(1)


def _verdict(checks: list[Check]) -> str:
    return "MISMATCH" if mismatches(checks) else "MATCH"


def _print_checks(version: str, checks: list[Check]) -> None:
    verdict = _verdict(checks)
    colour = "green" if verdict == "MATCH" else "red"
    click.echo(f"{click.style(verdict.ljust(8), fg=colour)}  {version}")
    for check in checks:
        if check.verdict == "MISMATCH":
            click.echo(f"  {check.what}")
            click.echo(f"    expected  {check.expected}")
            click.echo(f"    found     {check.found}")
            if check.diverged:
                click.echo(f"    diverged  {check.diverged}")
            if check.note:
                click.echo(f"    note      {check.note}")
        elif check.note:
            click.echo(f"  {check.what}: {check.note}")


@main.command()
@click.argument("version", required=False, shell_complete=_versions)
@click.option("--dataset", metavar="NAME_OR_DIGEST", help="The models trained on this data.")
@click.option("--commit", metavar="PREFIX", help="The models made by the code of this commit.")
@_artifacts_dir
@_json
def trace(
    version: str | None, dataset: str | None, commit: str | None, artifacts_dir: str, as_json: bool
) -> None:
    """Follow a model to what made it, or back.

    Shows what model VERSION was made of, or which models were made of some data or code.

    A digest or commit may be given by its first digits, 8 or more.
    """
    if sum(each is not None for each in (version, dataset, commit)) != 1:
        raise click.UsageError("Give one of VERSION, --dataset and --commit.")
    found: Record | Trace
    try:
        if version is not None:
            found = trace_model(version, artifacts_dir)
        elif dataset is not None:
            found = models_trained_on(dataset, artifacts_dir)
        else:
            found = models_of_commit(str(commit), artifacts_dir)
    except LookupError as error:
        raise ValueError(error) from error
    if as_json:
        _print_json(found.to_dict())
    elif isinstance(found, Trace):
        _print_models(found)
    else:
        _print_materials(found)


def _print_materials(record: Record) -> None:
    if record.provenance is None:
        raise FileNotFoundError(
            f"{record.model_version}: no {PROVENANCE_NAME}: what it was made of is not recorded. "
            "The next run of the version writes one."
        )
    rows = []
    for material in record.provenance.materials:
        if material.name == "packages":
            facts = _packages(material.annotations)
        else:
            facts = " ".join(
                f"{key} {as_text(value)}" for key, value in material.annotations.items()
            )
        digest = " ".join(f"{name} {value}" for name, value in material.digest.items())
        rows.append((material.name, material.uri, digest or None, facts or None))
    draw(("made of", "where", "digest", "facts"), rows)


def _print_models(trace: Trace) -> None:
    rows = []
    for record in trace.models:
        made = record.provenance
        rows.append(
            (
                record.model_version,
                record.metadata["dataset_version"],
                made and made.digest("dataset"),
                made and made.digest("code", "gitCommit"),
                made and made.started_on,
            )
        )
    click.echo(f"{trace.source}: {len(rows)} model{'' if len(rows) == 1 else 's'}")
    if rows:
        draw(("version", "dataset", "data sha256", "commit", "started"), rows)
    if trace.unknown:
        click.echo(f"Not recorded of: {', '.join(trace.unknown)}")


def _print_json(value: object) -> None:
    click.echo(canonical_json(value), nl=False)
