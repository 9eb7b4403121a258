"""Commands about the inputs of models: `compare` and `trace`."""

from typing import TYPE_CHECKING

import click

from cli.options import artifacts_dir_option, complete_version, markdown_option, table_options
from cli.progress import hash_with_progress, reading_progress
from cli.tables import packages_text, print_table
from cli.terminal import print_error, print_json, print_line
from src.lineage.compare import compare as compare_models
from src.lineage.files import FileTrace, trace_file
from src.lineage.record import Record
from src.lineage.trace import Trace, models_of_commit, models_trained_on, trace_model
from src.records.layout import STATEMENT_FILE
from src.rendering.text import as_text, counted
from src.storage import open_file

if TYPE_CHECKING:
    from src.lineage.lines import DatasetHit, LineTrace

__all__ = ["compare", "trace"]

RECORDS_LIMIT = 1 << 26


@click.command()
@click.argument("versions", nargs=-1, required=True, shell_complete=complete_version)
@click.option("--all", "everything", is_flag=True, help="Also show what is equal.")
@markdown_option
@artifacts_dir_option
@table_options
def compare(
    versions: tuple[str, ...],
    everything: bool,
    markdown: bool,
    artifacts_dir: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show the differences between two or more model VERSIONS."""
    comparison = compare_models(*versions, artifacts_dir=artifacts_dir)
    rows = comparison.rows(everything=everything)
    if as_json:
        print_json(comparison.to_dict(everything=everything))
    elif markdown or not (rows or as_csv):
        click.echo(comparison.to_markdown(everything=everything), nl=False)
    else:
        head = ("section", "name") if as_csv else ("", "")
        values = [(row.section, row.name, *row.values) for row in rows]
        print_table((*head, *comparison.models), values, as_csv=as_csv)


@click.command()
@click.argument("version", required=False, shell_complete=complete_version)
@click.option("--dataset", metavar="NAME_OR_DIGEST", help="The models trained on this data.")
@click.option("--commit", metavar="PREFIX", help="The models made by the code of this commit.")
@click.option(
    "--file",
    metavar="PATH",
    type=click.Path(dir_okay=False),
    help="The models that this file belongs to, or that were made from it.",
)
@click.option(
    "--line",
    metavar="TEXT_OR_FILE",
    help="The datasets that hold this JSON object, or those in a file, and their models.",
)
@artifacts_dir_option
@table_options
def trace(
    version: str | None,
    dataset: str | None,
    commit: str | None,
    file: str | None,
    line: str | None,
    artifacts_dir: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show a model's inputs, or the models made from an input.

    With VERSION, prints the inputs of that model. With --dataset or --commit, prints the models
    made from that data or code. A digest or commit may be shortened to its first 7 or more digits.
    With --file, hashes a file and prints the models whose records name its digest, as weights, as
    a file of the base model, or as another file or input; exits with 1 if there are none.
    With --line, searches all datasets for a record, as a JSON value, and prints the models trained
    on those that hold it; a file has one record per line. Exits with 1 if no dataset does.
    """
    if sum(each is not None for each in (version, dataset, commit, file, line)) != 1:
        raise click.UsageError(
            "Pass exactly one of VERSION, --dataset, --commit, --file and --line."
        )
    if line is not None:
        _trace_lines(line, artifacts_dir, as_csv, as_json)
        return
    if file is not None:
        _trace_file(file, artifacts_dir, as_csv, as_json)
        return
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
        print_json(found.to_dict())
    elif isinstance(found, Trace):
        _print_models(found, as_csv)
    else:
        _print_dependencies(found, as_csv)


def _trace_file(path: str, artifacts_dir: str, as_csv: bool, as_json: bool) -> None:
    found = trace_file(path, artifacts_dir, hash_file=hash_with_progress)
    if as_json:
        print_json(found.to_dict())
    else:
        _print_uses(found, as_csv)
    if not found.uses:
        raise SystemExit(1)


def _print_uses(found: FileTrace, as_csv: bool) -> None:
    count = len({use.model_version for use in found.uses})
    print_line(f"{found.path}, sha256 {found.sha256}: {counted(count, 'model')}", err=as_csv)
    if found.uses or as_csv:
        rows = [(use.model_version, use.role, use.file) for use in found.uses]
        print_table(("model_version", "role", "file"), rows, as_csv=as_csv)
    _print_unknown(found.unknown, as_csv)


def _trace_lines(text_or_file: str, artifacts_dir: str, as_csv: bool, as_json: bool) -> None:
    from src.datasets.search import parse_records  # slow to import
    from src.lineage.lines import trace_lines

    text, place = text_or_file.encode(errors="surrogateescape"), "--line"
    if not text.lstrip().startswith(b"{"):
        path = open_file(text_or_file)
        if (found := path.read_linked(RECORDS_LIMIT)) is None:
            raise FileNotFoundError(f"{path}: no such file, and not a JSON object.")
        text, place = found, str(path)
    trace = trace_lines(parse_records(text, place), artifacts_dir, reading=reading_progress)
    if as_json:
        print_json(trace.to_dict())
    elif as_csv:
        head = ("record", "dataset_version", "lines", "match", "models")
        rows = [
            (hit.record, hit.dataset_version, hit.count, _match(hit), hit.models)
            for hit in trace.hits
        ]
        print_table(head, rows, as_csv=True)
    else:
        _print_hits(trace)
    for name, reason in trace.unsearched.items():
        print_error(f"dataset {name} was not searched: {reason}")
    if not trace.hits or trace.unsearched:
        raise SystemExit(1)


def _print_hits(trace: "LineTrace") -> None:
    held = len({hit.record for hit in trace.hits})
    records, datasets = counted(trace.num_records, "record"), counted(trace.num_datasets, "dataset")
    print_line(f"{records}: {held:,} in the data of {datasets}")
    if trace.hits:
        rows = [
            (
                hit.record,
                hit.dataset_version,
                ", ".join(map(str, hit.lines)) + (", ..." if hit.count > len(hit.lines) else ""),
                _match(hit),
                len(hit.models),
            )
            for hit in trace.hits
        ]
        print_table(("record", "dataset_version", "lines", "match", "models"), rows)
    for version, hit in {hit.dataset_version: hit for hit in trace.hits}.items():
        print_line(f"Models trained on {version}: {', '.join(hit.models) or 'none'}")
        if hit.other_models:
            names = ", ".join(hit.other_models)
            print_line(f"With other or unrecorded data of this name: {names}")


def _match(hit: "DatasetHit") -> str:
    return "same text" if hit.is_same_text else "same value"


def _print_unknown(versions: tuple[str, ...], as_csv: bool) -> None:
    if versions:
        print_line(f"Not recorded for: {', '.join(versions)}", err=as_csv)


def _print_dependencies(record: Record, as_csv: bool) -> None:
    if record.statement is None:
        raise FileNotFoundError(
            f"{record.model_version}: no {STATEMENT_FILE}, so its inputs are not recorded. "
            "The next run of the version writes it."
        )
    head = ("input", "uri", "digest", "annotations")
    dependencies = record.statement.dependencies
    if as_csv:
        values = [(each.name, each.uri, each.digest, each.annotations) for each in dependencies]
        print_table(head, values, as_csv=True)
        return
    rows = []
    for dependency in dependencies:
        if dependency.name == "packages":
            facts = packages_text(dependency.annotations)
        else:
            annotations = dependency.annotations.items()
            facts = " ".join(f"{key} {as_text(value)}" for key, value in annotations)
        digest = " ".join(f"{name} {value}" for name, value in dependency.digest.items())
        rows.append((dependency.name, dependency.uri, digest or None, facts or None))
    print_table(head, rows)


def _print_models(trace: Trace, as_csv: bool) -> None:
    rows = []
    for record in trace.models:
        statement = record.statement
        rows.append(
            (
                record.model_version,
                record.metadata["dataset_version"],
                statement and statement.digest("dataset"),
                statement and statement.digest("code", "gitCommit"),
                statement and statement.started_on,
            )
        )
    print_line(f"{trace.source}: {counted(len(rows), 'model')}", err=as_csv)
    if rows or as_csv:
        head = ("model_version", "dataset_version", "data_sha256", "commit", "started_on")
        print_table(head, rows, as_csv=as_csv)
    _print_unknown(trace.unknown, as_csv)
