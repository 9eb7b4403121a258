"""The command `report`."""

import os
from pathlib import Path

import click

from cli.options import artifacts_dir_option, json_option
from cli.terminal import print_error, print_json, print_line
from src.artifacts import Artifacts
from src.records.layout import MODELS_FOLDER, REPORTS_FOLDER, VERDICTS_FILE
from src.rendering.text import counted
from src.report import write_report
from src.storage import is_url, open_file

__all__ = ["report"]


@click.command()
@click.option(
    "--output",
    metavar="FILE",
    default="report.html",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="The file to write.",
)
@artifacts_dir_option
@json_option
def report(output: str, artifacts_dir: str, as_json: bool) -> None:
    """Write all models to one HTML file, which needs no network.

    The page has a table, charts of the metrics and of the losses of trainings, the lineage of each
    model, the verdicts of the last audit, and what differs between two models. A file that cannot
    be read is named at its model, and the exit code is 1. Needs the extra `report`: `make report`
    installs it.
    """
    _check_output(output, artifacts_dir)
    artifacts = Artifacts.open(artifacts_dir)
    if not artifacts.models.folders() and artifacts.registry.stat() is None:
        raise FileNotFoundError(
            f"{artifacts.root}: no folder {MODELS_FOLDER}/ with models. Train one first, or pass "
            "the folder that has the models with --artifacts-dir."
        )
    written = write_report(artifacts, open_file(output))
    for fault in written.faults:
        print_error(fault)
    if as_json:
        print_json(
            {
                "file": output,
                "models": written.models,
                "size": written.size,
                "faults": list(written.faults),
            }
        )
    else:
        print_line(f"{output}: {counted(written.models, 'model')}, {written.size:,} bytes.")
    if written.faults:
        raise SystemExit(1)


def _check_output(output: str, artifacts_dir: str) -> None:
    """Check that the file to write is no part of a record, and that its folder exists.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: It is an address; it is below the artifacts root, and not in its folder for
            reports; or it has the verdicts of the last audit.
    """
    if is_url(output):
        raise ValueError(f"{output}: expected a path of the file system, found an address.")
    folder, root = Path(os.path.realpath(output)).parent, Path(os.path.realpath(artifacts_dir))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Create it first.")
    if is_url(artifacts_dir):
        return
    if folder.is_relative_to(root) and not folder.is_relative_to(root / REPORTS_FOLDER):
        raise ValueError(
            f"{output}: expected a file outside of the artifacts root, or in its folder "
            f"{REPORTS_FOLDER}/. Use another name."
        )
    if folder / Path(output).name == root / REPORTS_FOLDER / VERDICTS_FILE:
        raise ValueError(
            f"{output}: expected another file than that of the last audit's verdicts. Use another "
            "name."
        )
