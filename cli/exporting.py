"""The command `export`."""

import click

from cli.options import artifacts_dir_option, complete_version, json_option
from cli.terminal import print_json, print_line
from src.digest import digests_to_json
from src.lineage.export import export_model

__all__ = ["export"]


@click.command()
@click.argument("version", shell_complete=complete_version)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@artifacts_dir_option
@json_option
def export(version: str, folder: str, artifacts_dir: str, as_json: bool) -> None:
    """Write the weights of model VERSION to the new folder DIR.

    The folder has the layout of a model on the Hugging Face hub: the weights, a model card
    (README.md), and the record of the model. Each file is compared with its recorded digest. DIR is
    created when all files are written; an existing one must be empty.
    """
    files = export_model(version, folder, artifacts_dir)
    if as_json:
        print_json({"model_version": version, "folder": folder, "files": digests_to_json(files)})
    else:
        size = sum(each.size for each in files.values())
        print_line(f"{folder}: {len(files):,} files, {size:,} bytes.")
