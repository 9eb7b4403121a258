"""The command `rebuild-registry`."""

import click

from cli.options import artifacts_dir_option, json_option
from cli.progress import hash_with_progress
from cli.terminal import print_error, print_json, print_line
from src.artifacts import Artifacts
from src.lineage.rebuild import plan_rebuild, write_registry
from src.rendering.text import counted

__all__ = ["rebuild_registry"]


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the models; write nothing.")
@artifacts_dir_option
@json_option
def rebuild_registry(dry_run: bool, artifacts_dir: str, as_json: bool) -> None:
    """Write a lost registry again, from the files of the models.

    Lists every model whose record verifies, in the order in which the models were trained. Names
    each model that is left out on stderr, and exits with 1 if there is one. A registry that has
    entries is not changed.
    """
    rebuild = plan_rebuild(artifacts_dir, hash_dataset=hash_with_progress)
    path = Artifacts.open(artifacts_dir).registry
    versions = [metadata["model_version"] for metadata in rebuild.entries]
    if not versions and not rebuild.left_out:
        raise FileNotFoundError(f"{artifacts_dir}: no models. Train one first.")
    is_written = bool(versions) and not dry_run
    if is_written:
        write_registry(rebuild, artifacts_dir)
    for version, reason in rebuild.left_out.items():
        print_error(f"{version}: left out. {reason.removesuffix('.')}.")
    if as_json:
        print_json(
            {
                "registry": str(path),
                "models": versions,
                "left_out": dict(rebuild.left_out),
                "written": is_written,
            }
        )
    else:
        for version in versions:
            print_line(version)
        verb = "written" if is_written else "not written"
        click.echo(f"{path}: {counted(len(versions), 'model')}, {verb}.", err=True)
    if rebuild.left_out:
        raise SystemExit(1)
