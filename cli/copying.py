"""The command `copy`."""

from functools import partial

import click

from cli.options import table_options
from cli.progress import bytes_progress, digests_with_progress
from cli.tables import print_table
from cli.terminal import print_json, print_line
from src.storage import open_path

__all__ = ["copy"]

HEAD = ("files", "copied", "bytes", "already_there")
MAX_NAMES = 20  # files that are not copied, named on stderr


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@table_options
def copy(source: str, destination: str, as_csv: bool, as_json: bool) -> None:
    """Copy the artifacts root SRC to the artifacts root DST.

    Each of them is a folder, or the address of an object store: s3://BUCKET/PREFIX,
    gs://BUCKET/PREFIX or az://CONTAINER/PREFIX. Datasets, models, the registry,
    evaluations and the files of sweeps are copied, and compared with their recorded
    digests meanwhile. Files that DST has with the same bytes are skipped, so the
    command can be run again after it was stopped. If DST has a file with other bytes,
    or a registry that is not the beginning of that of SRC, nothing is written.

    Cached results (.cache/), unfinished trainings (.work/), the files of audits
    (reports/), locks and temporary files are not copied. Files that are not part of a
    record are not copied either; they are named on stderr.
    """
    from src.transfer.plan import KINDS, plan_copy  # slow to import

    root = open_path(destination)
    plan = plan_copy(
        open_path(source), root, hash_files=partial(digests_with_progress, use_memos=True)
    )
    with bytes_progress(root, sum(plan.num_bytes.values())) as on_bytes:
        plan.run(on_bytes)
    for name in plan.unknown[:MAX_NAMES]:
        print_line(f"{name}: not copied: it is not part of a record.", err=True)
    if (more := len(plan.unknown) - MAX_NAMES) > 0:
        click.echo(f"... and {more:,} more. --json has all.", err=True)
    rows = [
        (kind, plan.num_files.get(kind, 0), plan.num_bytes.get(kind, 0), plan.present.get(kind, 0))
        for kind in KINDS
    ]
    if as_json:
        print_json(
            {
                "source": source,
                "destination": destination,
                "copied": [dict(zip(HEAD, row, strict=True)) for row in rows],
                "not_copied": list(plan.unknown),
            }
        )
    else:
        print_table(HEAD, rows, as_csv=as_csv)
