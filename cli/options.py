"""Options that several commands share."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from src.artifacts import Artifacts
from src.storage import is_url, open_path
from src.training.registry import list_models

__all__ = [
    "artifacts_dir_option",
    "artifacts_option",
    "check_working_directory",
    "check_working_directory_exists",
    "complete_version",
    "csv_option",
    "json_option",
    "markdown_option",
    "table_options",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def check_working_directory_exists() -> None:
    """Check that the working directory was not deleted.

    Raises:
        FileNotFoundError: It was.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            "The working directory was deleted. Change to the project's folder."
        ) from error


def check_working_directory(artifacts_dir: str) -> None:
    """Check that the working directory may be trusted: it has settings, and configs name code.

    An artifacts root that is an address is not checked: no folder lies in it.

    Raises:
        ValueError: The working directory, or its folder `configs/`, lies in the artifacts root; or
            the artifacts root lies in this folder.
    """
    if is_url(artifacts_dir):
        return
    from src.training.config import CONFIGS  # slow to import

    root, configs = Path(artifacts_dir).resolve(), CONFIGS.resolve()
    if Path.cwd().resolve().is_relative_to(root):
        raise ValueError(
            f"{Path.cwd()}: the working directory is inside the artifacts root, whose files are "
            "not trusted. Run the command in the project's folder."
        )
    if configs.is_relative_to(root) or root.is_relative_to(configs):
        raise ValueError(
            f"{artifacts_dir}: expected an artifacts root apart from {configs}, because configs "
            "there name code to run. Use another folder."
        )


class _Root(click.Path):
    """The path of a folder that exists, or the address of an object store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            open_path(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if is_url(value):
            return value
        if not Path(value).is_dir():
            found = "a file" if Path(value).exists() else "nothing"
            self.fail(
                f"expected a folder that holds datasets/ and models/, found {found} at "
                f"{str(Path(value).absolute())!r}.",
                param,
                ctx,
            )
        return value


def artifacts_option(kind: click.Path) -> Callable[[Decorated], Decorated]:
    """Return the decorator that adds `--artifacts-dir`, whose values have the type `kind`."""
    return click.option(
        "--artifacts-dir",
        metavar="DIR",
        default="artifacts",
        show_default=True,
        envvar="LLM_TRAIN_ARTIFACTS",
        show_envvar=True,
        type=kind,
        help="The artifacts root: a folder, or an address such as s3://bucket/prefix.",
    )


artifacts_dir_option = artifacts_option(_Root(file_okay=False))


class _Form(click.Option):
    """A flag that chooses the form of the output, which excludes the others of its command."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        forms = [each for each in ctx.command.params if isinstance(each, _Form)]
        given = [each.opts[0] for each in forms if opts.get(each.name or "")]
        if len(given) > 1:
            names = f"{', '.join(given[:-1])} and {given[-1]}"
            raise click.UsageError(f"{names} exclude each other. Choose one of them.", ctx)
        return super().handle_parse_result(ctx, opts, args)


markdown_option = click.option(
    "--markdown", is_flag=True, cls=_Form, help="Print Markdown, e.g. for a review."
)
csv_option = click.option(
    "--csv", "as_csv", is_flag=True, cls=_Form, help="Print CSV, e.g. for a spreadsheet."
)
json_option = click.option("--json", "as_json", is_flag=True, cls=_Form, help="Print JSON.")


def table_options(command: Decorated) -> Decorated:
    """Add `--csv` and `--json`, the parameters `as_csv` and `as_json`, to a command."""
    return csv_option(json_option(command))


def complete_version(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the registered model versions that start with `incomplete`."""
    models = []
    with suppress(OSError, ValueError):
        artifacts = Artifacts.open(ctx.params.get("artifacts_dir") or "artifacts")
        models = list_models(artifacts.registry)
    versions = [model["model_version"] for model in models]
    return [version for version in versions if version.startswith(incomplete)]
