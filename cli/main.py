"""The command `llm-train`: run the pipeline, and read its records.

The exit codes are in docs/usage.md.
"""

import signal
from typing import Any

import click

from cli.copying import copy
from cli.datasets import dataset
from cli.doctor import doctor
from cli.evaluation import evaluate
from cli.exporting import export
from cli.models import models, show
from cli.options import check_working_directory_exists
from cli.rebuild import rebuild_registry
from cli.report import report
from cli.runs import run, sweep
from cli.terminal import print_error
from cli.tracing import compare, trace
from cli.verify import verify
from src.environment import PROJECT
from src.errors import CorruptFileError
from src.rendering.text import message
from src.training.registry import ModelNotFoundError

__all__ = ["main"]


class _Commands(click.Group):
    """Commands that print an error of the core as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            check_working_directory_exists()
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of stdout has closed it: click exits silently
        except KeyboardInterrupt:
            click.echo("\nAborted!", err=True)
            ctx.exit(128 + signal.SIGINT)
        except click.UsageError as error:  # may quote a file name that a pattern matched
            raise click.UsageError(message(error.format_message()), error.ctx) from error
        except (OSError, ValueError, ModelNotFoundError) as error:
            print_error(error)
            is_bad_input = isinstance(error, ValueError | FileNotFoundError | ModelNotFoundError)
            ctx.exit(2 if is_bad_input and not isinstance(error, CorruptFileError) else 1)


@click.group(cls=_Commands)
@click.version_option(package_name=PROJECT, message="%(prog)s %(version)s")
def main() -> None:
    """Train models, and read their records."""


for _command in (
    run,
    sweep,
    dataset,
    evaluate,
    models,
    show,
    compare,
    verify,
    trace,
    report,
    export,
    copy,
    rebuild_registry,
    doctor,
):
    main.add_command(_command)
