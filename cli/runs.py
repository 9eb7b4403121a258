"""Commands that run the pipeline: `run` and `sweep`."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from cli.console import console_run
from cli.options import artifacts_dir_option, check_working_directory, table_options
from cli.prediction import dry_run as print_dry_run
from cli.progress import sweep_progress
from cli.tables import print_table
from cli.terminal import print_error, print_json, printed_log
from src.artifacts import Artifacts, read_statement, weights_folder
from src.records.statement import weights_of
from src.rendering.text import as_text, one_line
from src.training.config import ConfigFile, read_config_file
from src.training.grids import find_configs, read_grid, write_variant
from src.training.pipeline import run_training_pipeline

__all__ = ["run", "sweep"]

BEST_ROWS = 20
STEPS = 5  # task runs of a training run


@click.command()
@click.argument("config", type=click.Path())
@click.option("--model-version", metavar="V", help="Name of the version; derived if not given.")
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Another value for a key of CONFIG, e.g. epochs=3. May be repeated.",
)
@click.option("--local", is_flag=True, help="Run without Prefect: no server, cache, or retries.")
@click.option("--dry-run", is_flag=True, help="Print what would run and change; write nothing.")
@artifacts_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON. Without --dry-run, always on.")
def run(
    config: str,
    model_version: str | None,
    settings: tuple[str, ...],
    local: bool,
    dry_run: bool,
    artifacts_dir: str,
    as_json: bool,
) -> None:
    """Train, register and evaluate one model from CONFIG.

    Prints the evaluation as JSON on stdout, and on stderr the log and the folder
    of trained weights. --set leaves CONFIG unchanged: the config with the new
    values is written below sweeps/ in the artifacts root, and can be run again
    from there.
    """
    check_working_directory(artifacts_dir)  # below it, configs name no code
    if dry_run:
        print_dry_run(
            config, model_version or None, settings, artifacts_dir, local=local, as_json=as_json
        )
        return
    path = _config_path(config, settings, artifacts_dir)
    has_trainer = _read_config(path).trainer is not None  # raises before a server is started
    if local:
        with printed_log():
            evaluation = run_training_pipeline(
                path, model_version or None, artifacts_dir=artifacts_dir
            )
    else:
        with console_run(artifacts_dir) as temporary_server:
            from flows.training_pipeline import training_pipeline

            state = training_pipeline(path, model_version, artifacts_dir, return_state=True)
            if temporary_server:
                count = STEPS + has_trainer if state.is_completed() else None
                temporary_server.wait_until_recorded(
                    str(state.state_details.flow_run_id), count=count
                )
            evaluation = state.result()
    print_json(evaluation)
    if has_trainer:
        model = Artifacts.open(artifacts_dir).models / evaluation["model_version"]
        statement = read_statement(model)
        weights = weights_folder(model, weights_of(statement.files) if statement else {})
        click.echo(f"Weights: {one_line(weights)}", err=True)


def _read_config(path: str) -> ConfigFile:
    """Read a training config; see `read_config_file`.

    Raises:
        click.UsageError: It is a grid, which `sweep` takes as an option.
    """
    try:
        return read_config_file(path)
    except ValueError as error:
        with suppress(OSError, ValueError):
            read_grid(path)
            raise click.UsageError(
                f"{path} is a grid. Pass it as an option: `sweep --grid {path}`."
            ) from error
        raise


def _config_path(config: str, settings: tuple[str, ...], artifacts_dir: str) -> str:
    """Return the path of the config to run; write it first if it has other values."""
    if not settings:
        return config
    return str(write_variant(config, settings, Artifacts.open(artifacts_dir)))


@click.command()
@click.argument("configs", nargs=-1)
@click.option(
    "--grid",
    "grids",
    metavar="FILE",
    multiple=True,
    help="A YAML file with lists of values to try.",
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Number of configs with their own trainer or evaluator that run at the same time.",
)
@click.option("--distribute", is_flag=True, help="Run each config as a flow run on the workers.")
@click.option(
    "--in-flight",
    metavar="N",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="With --distribute, the number of flow runs that wait or run at the same time.",
)
@click.option(
    "--rank-by",
    metavar="METRIC",
    default="",
    help="The metric that ranks the models; by default quality_score, or else the first declared.",
)
@artifacts_dir_option
@table_options
def sweep(
    configs: tuple[str, ...],
    grids: tuple[str, ...],
    concurrency: int,
    distribute: bool,
    in_flight: int,
    rank_by: str,
    artifacts_dir: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Train, register and evaluate one model per config, and rank the models.

    CONFIGS are files, or quoted patterns. --grid adds every combination of the
    values in FILE. What is done already is found in the record, so a sweep that
    was stopped continues. --distribute needs a Prefect server with workers (`make
    up`) that have the same artifacts root. The best models are printed; all of
    them are written to a file below sweeps/ in the artifacts root. Exits with 1
    if a config failed; the others are done.
    """
    if not configs and not grids:
        raise click.UsageError("Pass CONFIGS, --grid, or both.")
    if len(grids) > 1:
        raise click.UsageError("Pass one --grid; run a sweep for each.")
    grid = "".join(grids)
    # Their errors are raised before a server is started.
    found = find_configs(configs)
    if len(found) == 1:
        with suppress(OSError, ValueError):  # errors of a config are reported by the sweep
            _read_config(found[0])
    if grid:
        read_grid(grid)
    failure = None
    with (
        _hint_if_interrupted(distribute=distribute),
        console_run(artifacts_dir) as temporary_server,
        sweep_progress(),
    ):
        from flows.training_sweep import SweepError, training_sweep

        if distribute and temporary_server:
            raise ValueError("--distribute: no Prefect server with workers. Run `make up` first.")
        state = training_sweep(
            list(configs),
            grid,
            concurrency,
            artifacts_dir,
            rank_by,
            distribute,
            in_flight,
            return_state=True,
        )
        try:
            summary = state.result()
        except SweepError as error:
            summary, failure = error.summary, error
        if temporary_server:
            temporary_server.wait_until_recorded(str(state.state_details.flow_run_id))
    if as_json:
        print_json(summary)
    elif as_csv:
        _print_csv(summary["leaderboard"])
    elif rows := summary["leaderboard"]:
        _print_best(rows)
    done, cached = summary["configs"] - len(summary["failed"]), summary["cached"]
    click.echo(
        f"{done:,} of {summary['configs']:,} configs done, {cached:,} of them found in the record. "
        f"All models: {one_line(summary['file'])}",
        err=True,
    )
    if failure:
        print_error(failure)
        raise SystemExit(1)


@contextmanager
def _hint_if_interrupted(*, distribute: bool) -> Iterator[None]:
    """Print how to continue if the user presses Ctrl-C in the block."""
    try:
        yield
    except KeyboardInterrupt:
        if not distribute:  # that sweep logs what continues
            click.echo("Interrupted. Run the sweep again to continue it.", err=True)
        raise


def _print_csv(rows: list[dict[str, Any]]) -> None:
    """Print all models, the best first."""
    names = list(dict.fromkeys(["model_version", *(name for row in rows for name in row)]))
    print_table(names, [[row.get(name) for name in names] for row in rows], as_csv=True)


def _print_best(rows: list[dict[str, Any]]) -> None:
    """Print the best models, without columns that have one value; stderr names these."""
    shown = rows[:BEST_ROWS]
    names = list(dict.fromkeys(name for row in shown for name in row if name != "cached"))
    equal = [
        name
        for name in names[1:]
        if len(shown) > 1 and len({as_text(row.get(name)) for row in shown}) == 1
    ]
    names = [name for name in names if name not in equal]
    values = [[row.get(name) for name in names] for row in shown]
    print_table(names, values, least=("config",))
    if equal:
        same = ", ".join(f"{name} {as_text(shown[0].get(name))}" for name in equal)
        click.echo(f"The same in every row: {one_line(same)}.", err=True)
    if len(rows) > BEST_ROWS:
        click.echo(f"The best {BEST_ROWS} of {len(rows):,}; --json prints all.", err=True)
