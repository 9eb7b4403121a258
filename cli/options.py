"""Options that several commands share."""

from contextlib import suppress

import click

from src.artifacts import Artifacts
from src.training.registry import list_models

__all__ = ["artifacts_dir_option", "complete_version", "json_option"]

artifacts_dir_option = click.option(
    "--artifacts-dir",
    metavar="DIR",
    default="artifacts",
    show_default=True,
    envvar="LLM_TRAIN_ARTIFACTS",
    show_envvar=True,
    type=click.Path(exists=True, file_okay=False),
    help="The artifacts root.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def complete_version(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the registered model versions that start with `incomplete`."""
    models = []
    with suppress(OSError, ValueError):
        artifacts = Artifacts.open(ctx.params.get("artifacts_dir") or "artifacts")
        models = list_models(artifacts.registry)
    versions = [model["model_version"] for model in models]
    return [version for version in versions if version.startswith(incomplete)]
