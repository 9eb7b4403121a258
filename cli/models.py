"""Commands that print recorded models: `models` and `show`."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import click

from cli.options import artifacts_dir_option, complete_version, table_options
from cli.tables import packages_text, print_table
from cli.terminal import print_error, print_json
from src.artifacts import Artifacts, stated_files
from src.errors import CorruptFileError
from src.evaluation.evaluator import evaluation_path, load_evaluation
from src.lineage.compare import compare_records
from src.lineage.record import Record
from src.lineage.trace import trace_model
from src.records.layout import METADATA_FILE, MODELS_FOLDER, REGISTRY_FILE, STATEMENT_FILE
from src.storage import StorePath
from src.training.registry import check_registry, newest_models

__all__ = ["models", "show"]


MAX_FILES = 30
COLUMNS = ("model_version", "base_model", "dataset_version", "num_training_samples")


@click.command()
@click.option("--base-model", metavar="B", help="Only models of this base model.")
@click.option("--dataset", metavar="D", help="Only models trained on this dataset version.")
@click.option("--sort", metavar="COLUMN", help="E.g. quality_score; in ascending order.")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only the first N models.")
@artifacts_dir_option
@table_options
def models(
    base_model: str | None,
    dataset: str | None,
    sort: str | None,
    reverse: bool,
    limit: int | None,
    artifacts_dir: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List the registered models, the newest first."""
    artifacts, is_damaged, rows = Artifacts.open(artifacts_dir), False, []
    check_registry(artifacts)
    count, newest = newest_models(artifacts.registry)
    if not count and artifacts.registry.stat() is None:
        raise FileNotFoundError(
            f"{artifacts.root}: no registry ({MODELS_FOLDER}/{REGISTRY_FILE}), so no models. Train "
            "one first, or name the root that has the models: --artifacts-dir or "
            "LLM_TRAIN_ARTIFACTS."
        )
    wanted: Iterator[dict[str, Any]] = (
        metadata
        for metadata in newest
        if base_model in (None, metadata["base_model"])
        and dataset in (None, metadata["dataset_version"])
    )
    if sort is None:  # then only the evaluations of the models that are shown are read
        wanted = islice(reversed([*wanted]) if reverse else wanted, limit)
    for metadata in wanted:
        model = metadata | {"metrics": None}
        try:
            evaluation = load_evaluation(metadata["model_version"], artifacts.evaluations)
            model["metrics"] = evaluation.get("metrics")
        except FileNotFoundError:
            pass  # not evaluated yet
        except (CorruptFileError, OSError) as error:
            print_error(error)
            is_damaged = True
        rows.append((_columns(model), model))
    head = list(dict.fromkeys([*COLUMNS, *(name for columns, _ in rows for name in columns)]))
    if sort is not None:
        if rows and sort not in head:
            raise click.UsageError(f"--sort: no column {sort!r}. Columns: {', '.join(head)}.")
        rows.sort(key=lambda row: _order(row[0].get(sort)), reverse=reverse)
        rows.sort(key=lambda row: row[0].get(sort) is None)  # missing values last, in either order
    rows = rows[:limit]
    if as_json:
        print_json([model for _, model in rows])
    elif rows or as_csv:
        values = [[columns.get(name) for name in head] for columns, _ in rows]
        least = ("num_training_samples", "dataset_version", "base_model")
        print_table(head, values, least=least, as_csv=as_csv)
    if not rows and not as_json:
        click.echo("No models.", err=True)
    if is_damaged:
        raise SystemExit(1)


def _columns(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model as one row: its values by column. No metric replaces another column."""
    config = {key: value for key, value in model["training_config"].items() if key not in model}
    columns = {name: model[name] for name in COLUMNS} | config
    metrics = model["metrics"] if isinstance(model["metrics"], dict) else {}
    return columns | {name: metrics[name] for name in metrics if name not in columns}


def _order(value: Any) -> tuple[float, str]:
    """Return a sort key: numbers by value, then texts."""
    return (value, "") if isinstance(value, int | float) else (float("inf"), str(value))


@click.command()
@click.argument("version", shell_complete=complete_version)
@artifacts_dir_option
@table_options
def show(version: str, artifacts_dir: str, as_csv: bool, as_json: bool) -> None:
    """Show everything that is recorded about model VERSION."""
    record = trace_model(version, artifacts_dir)
    if as_json:
        print_json(record.to_dict())
        return
    rows = [
        (row.section, row.name, row.values[0])
        for row in compare_records([record]).every_row
        if row.section != "environment"
    ]
    if statement := record.statement:
        packages = statement.annotations("packages")
        rows += [
            ("environment", "python", statement.annotations("python").get("version")),
            ("environment", "packages", packages if as_csv else packages_text(packages)),
            ("run", "builder", statement.builder),
            ("run", "id", statement.invocation_id),
            ("run", "url", statement.url),
            ("run", "started_on", statement.started_on),
            ("run", "finished_on", statement.finished_on),
            *(("run", name, value) for name, value in statement.internal_parameters.items()),
        ]
    files = _files(record, Artifacts.open(artifacts_dir))
    shown = files if as_csv else files[:MAX_FILES]
    rows += [("files", path.name, str(path)) for path in shown]
    if more := len(files) - len(shown):
        rows.append(("files", f"and {more:,} more", "--json lists them"))
    head = ("section", "name") if as_csv else ("", "")
    print_table((*head, version), rows, as_csv=as_csv)


def _files(record: Record, artifacts: Artifacts) -> list[StorePath]:
    """Return the paths of the existing files of a record."""
    model = artifacts.models / record.model_version
    evaluation = evaluation_path(record.model_version, artifacts.evaluations)
    paths = (
        artifacts.registry,
        model / METADATA_FILE,
        model / STATEMENT_FILE,
        *stated_files(model, record.statement.files if record.statement else {}),
        evaluation,
        evaluation.parent / STATEMENT_FILE,
    )
    return [path for path in paths if path.stat() is not None]
