"""Commands about datasets: `dataset add`, `list`, `show` and `diff`."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.console import console_run
from cli.options import artifacts_dir_option, json_option, table_options
from cli.progress import hash_with_progress, reading_progress
from cli.tables import print_table
from cli.terminal import print_error, print_json, print_line
from src.artifacts import Artifacts
from src.names import check_version, is_version
from src.records.layout import DATA_FILE, METADATA_FILE
from src.rendering.text import as_text, truncated_list
from src.storage import StorePath, is_url, open_file
from src.training.dataset import resolve_dataset, unpinned_reason
from src.training.hashing import count_and_hash_once
from src.training.registry import newest_models

if TYPE_CHECKING:
    from src.datasets.adding import AddedDataset
    from src.datasets.difference import DatasetDifference
    from src.datasets.profile import DatasetProfile

__all__ = ["dataset"]

SHORT_DIGEST = 12
MAX_TEXT = 300  # characters of a line of data that are printed


@click.group()
def dataset() -> None:
    """Add datasets, and look into them."""


@dataset.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.argument("name")
@click.option("--source", metavar="TEXT", help="Where the data comes from; is recorded.")
@click.option("--publish", is_flag=True, help="Train every config that uses the dataset.")
@artifacts_dir_option
@json_option
def add(
    file: str, name: str, source: str | None, publish: bool, artifacts_dir: str, as_json: bool
) -> None:
    """Freeze FILE as dataset version NAME.

    FILE has one JSON object per line, in UTF-8; - reads stdin. Every line is
    checked, and the bytes are copied unchanged to datasets/NAME/data.jsonl, with
    their number and digest in metadata.json: whole or not at all, and never over
    another version. The same data again changes nothing. --publish needs a Prefect
    server (`make up`): it sends the event that trains every config that uses NAME.
    """
    check_version("NAME", name)
    if not publish:
        added = _add(file, name, source, artifacts_dir)
    else:
        with console_run(artifacts_dir) as temporary_server:
            if temporary_server:
                raise ValueError("--publish: no Prefect server. Run `make up` first.")
            from flows.publishing import publish_dataset

            added = _add(file, name, source, artifacts_dir)
            publish_dataset(name)
    if as_json:
        print_json(asdict(added))
    else:
        _print_added(added)
    if added.outcome == "unchanged" and source is not None:
        _print_kept_source(source, Artifacts.open(artifacts_dir).datasets / name)
    if publish:
        click.echo(f"Published: a run starts for each config that uses {name}.", err=True)


def _add(file: str, name: str, source: str | None, artifacts_dir: str) -> "AddedDataset":
    from src.datasets.adding import add_dataset

    with _opened(file) as pieces:
        return add_dataset(
            pieces,
            name,
            artifacts_dir,
            source=source,
            place="stdin" if file == "-" else file,
            hash_dataset=hash_with_progress,
        )


@contextmanager
def _opened(file: str) -> Iterator[Iterable[bytes]]:
    """Yield the bytes of a file, or of stdin, in pieces."""
    from src.datasets.lines import PIECE_BYTES, read_pieces

    if file == "-":
        yield iter(partial(sys.stdin.buffer.read, PIECE_BYTES), b"")
        return
    path = open_file(file)
    if path.stat() is None and (is_url(file) or not Path(file).exists()):
        raise FileNotFoundError(f"{file}: no such file.")
    with reading_progress(path) as progress:
        yield read_pieces(path, progress)


def _print_added(added: "AddedDataset") -> None:
    outcomes = {
        "added": "added",
        "pinned": f"was there without a {METADATA_FILE}, which was added",
        "unchanged": "was there already, nothing to do",
    }
    print_line(
        f"{added.path}: {outcomes[added.outcome]}; {added.num_samples:,} samples, sha256 "
        f"{added.dataset_hash}."
    )
    if added.num_crlf:
        numbers = ", ".join(f"{number:,}" for number in added.first_crlf)
        more = ", ..." if added.num_crlf > len(added.first_crlf) else ""
        click.echo(
            f"Lines that end with CR LF, as on Windows: {added.num_crlf:,} ({numbers}{more}). They "
            "are kept; without CR the data has another digest.",
            err=True,
        )
    if added.outcome == "added":
        click.echo(f"To use it, write in a config: `dataset_version: {added.dataset_version}`.")


def _print_kept_source(source: str, folder: StorePath) -> None:
    """Print the recorded source of a version if it is not the one that was given."""
    from src.datasets.versions import read_summary

    recorded = read_summary(folder).source
    if recorded != source:
        click.echo(f"Its recorded source is kept: {as_text(recorded)}.", err=True)


@dataset.command("list")
@artifacts_dir_option
@table_options
def list_(artifacts_dir: str, as_csv: bool, as_json: bool) -> None:
    """List the dataset versions."""
    from src.datasets.versions import list_datasets

    artifacts = Artifacts.open(artifacts_dir)
    found = list_datasets(artifacts)
    models = Counter(_dataset_versions(artifacts))
    if as_json:
        print_json([each.to_dict() | {"models": models[each.dataset_version]} for each in found])
    elif found or as_csv:
        rows = [
            (
                each.dataset_version,
                each.num_samples,
                each.num_bytes,
                each.dataset_hash if as_csv else _short(each.dataset_hash),
                each.source,
                models[each.dataset_version],
            )
            for each in found
        ]
        head = ("dataset_version", "samples", "bytes", "sha256", "source", "models")
        print_table(head, rows, as_csv=as_csv)
    else:
        click.echo("No datasets. To add one: `llm-train dataset add FILE NAME`.", err=True)
    faults = [each.fault for each in found if each.fault]
    for fault in faults:
        print_error(fault)
    if faults:
        raise SystemExit(1)


def _short(digest: str | None) -> str:
    return digest[:SHORT_DIGEST] if digest else "not pinned"


def _dataset_versions(artifacts: Artifacts) -> Iterator[str]:
    """Yield the dataset version of each registered model."""
    _, newest = newest_models(artifacts.registry)
    return (str(metadata["dataset_version"]) for metadata in newest)


def _complete_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the dataset versions that start with `incomplete`."""
    names = []
    with suppress(OSError, ValueError):
        datasets = Artifacts.open(ctx.params.get("artifacts_dir") or "artifacts").datasets
        names = datasets.folders(follow_links=True)
    return [name for name in names if is_version(name) and name.startswith(incomplete)]


@dataset.command()
@click.argument("name", shell_complete=_complete_name)
@artifacts_dir_option
@table_options
def show(name: str, artifacts_dir: str, as_csv: bool, as_json: bool) -> None:
    """Show what dataset version NAME holds: its fields, lengths, first lines, and models."""
    from src.datasets.profile import profile_dataset

    artifacts = Artifacts.open(artifacts_dir)
    found = resolve_dataset(name, artifacts.datasets, hash_dataset=count_and_hash_once)
    path = artifacts.datasets / name / DATA_FILE
    with reading_progress(path) as progress:
        profile = profile_dataset(path, progress=progress)
    _, newest = newest_models(artifacts.registry)
    models = [each["model_version"] for each in newest if each["dataset_version"] == name]
    if as_json:
        facts = {"dataset_version": name, "path": str(path), "dataset_hash": found.sha256}
        pinned = {"is_pinned": found.metadata_sha256 is not None}
        print_json(facts | pinned | profile.to_dict() | {"models": models})
        return
    if as_csv:
        _print_fields(profile, as_csv=True)
        return
    print_line(f"{path}: {found.num_samples:,} samples, sha256 {found.sha256}.")
    if reason := unpinned_reason(found):
        print_line(reason, err=True)
    _print_profile(profile)
    print_line(f"Models: {truncated_list(models) or 'none'}.")


def _print_profile(profile: "DatasetProfile") -> None:
    if profile.first_invalid is not None:
        print_line(
            f"Lines that are not JSON objects: {profile.num_invalid:,}, the first is line "
            f"{profile.first_invalid:,}."
        )
    if profile.fields:
        _print_fields(profile)
        click.echo("min, median and max are numbers of characters.")
    lengths = profile.lengths
    print_line(
        f"Lines: {lengths.least:,} to {lengths.most:,} bytes, the median is {lengths.median:,}."
    )
    for line in profile.first_lines:
        print_line(f"  {_shortened(_decoded(line))}")


def _print_fields(profile: "DatasetProfile", *, as_csv: bool = False) -> None:
    rows: list[tuple[object, ...]] = []
    for name, field in profile.fields.items():
        lengths = field.lengths if "text" in field.kinds else None
        rows.append(
            (
                name,
                field.count,
                ", ".join(kind for kind, _ in field.kinds.most_common()),
                lengths and lengths.least,
                lengths and lengths.median,
                lengths and lengths.most,
            )
        )
    print_table(("field", "lines", "type", "min", "median", "max"), rows, as_csv=as_csv)


def _decoded(line: bytes) -> str:
    return line.decode(errors="backslashreplace")


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


@dataset.command()
@click.argument("a", shell_complete=_complete_name)
@click.argument("b", shell_complete=_complete_name)
@click.option("--key", metavar="FIELD", help="The field that is the same in a changed line.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Lines of each kind that are printed.",
)
@artifacts_dir_option
@table_options
def diff(
    a: str,
    b: str,
    key: str | None,
    limit: int,
    artifacts_dir: str,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show the lines that differ between dataset versions A and B.

    Lines are compared by digest, without their line ends, and their order does not
    count. A line of A and one of B that differ are one changed line if they have the
    same value of FIELD, or, without --key, the same line number.
    """
    from src.datasets.difference import diff_datasets

    datasets = Artifacts.open(artifacts_dir).datasets
    digests = {
        resolve_dataset(name, datasets, hash_dataset=count_and_hash_once).sha256 for name in (a, b)
    }
    paths = datasets / a / DATA_FILE, datasets / b / DATA_FILE
    with reading_progress(*paths) as progress:
        found = diff_datasets(*paths, key=key, max_examples=limit, progress=progress)
    if as_json:
        print_json(found.to_dict())
    elif as_csv:
        _print_differing_lines(found, *paths)
    else:
        _print_difference(found, *paths)
        if len(digests) > 1 and not found.is_different:
            click.echo("The bytes differ: in the order of the lines, or in line ends.")


def _print_differing_lines(found: "DatasetDifference", a: StorePath, b: StorePath) -> None:
    of_a, of_b = _examples(found, a, b)
    rows = [
        (each.kind, each.a, each.b, of_a.get(each.a), of_b.get(each.b)) for each in found.examples
    ]
    print_table(("kind", "line_in_a", "line_in_b", "a", "b"), rows, as_csv=True)


def _examples(
    found: "DatasetDifference", a: StorePath, b: StorePath
) -> tuple[dict[int | None, str], dict[int | None, str]]:
    """Return the text of the example lines of each dataset, by number."""

    def texts(path: StorePath, numbers: Iterable[int | None]) -> dict[int | None, str]:
        from src.datasets.lines import read_numbered

        wanted = {number for number in numbers if number is not None}
        return {number: _decoded(line) for number, line in read_numbered(path, wanted).items()}

    of_a = texts(a, (each.a for each in found.examples))
    return of_a, texts(b, (each.b for each in found.examples))


def _print_difference(found: "DatasetDifference", a: StorePath, b: StorePath) -> None:
    print_line(
        f"{found.added:,} added, {found.removed:,} removed, {found.changed:,} changed, "
        f"{found.equal:,} equal."
    )
    of_a, of_b = _examples(found, a, b)
    for each in found.examples:
        print_line(f"{each.kind}: line {each.a or each.b:,}")
        if each.a is not None:
            print_line(f"  - {_shortened(of_a[each.a])}")
        if each.b is not None:
            print_line(f"  + {_shortened(of_b[each.b])}")
