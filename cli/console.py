"""Run a flow in a terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.terminal import print_error

if TYPE_CHECKING:
    from ops.server import ServerProcess

__all__ = ["console_run", "load_prefect"]

SENDING_SECONDS = 20.0


def load_prefect(artifacts_dir: str) -> None:
    """Import Prefect, which takes seconds, and print before on stderr that it does.

    Raises:
        ValueError: The working directory lies in the artifacts root; or the file of Prefect's
            profiles is not valid.
        OSError: The file of Prefect's profiles cannot be read.
    """
    if Path.cwd().resolve().is_relative_to(Path(artifacts_dir).resolve()):
        # Prefect reads settings from the working directory, and some of them run code.
        raise ValueError(
            f"{Path.cwd()}: the working directory is inside of the artifacts root. "
            "Run the command in the folder of the project: files of the root are not trusted."
        )
    import tasks  # noqa: F401  # configures Prefect

    click.echo("Loading Prefect ...", err=True)
    # A server that needs the folder reports it, too; see `ensure_server`.
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")
    import prefect.main  # noqa: F401  # configures logging


@contextmanager
def console_run(artifacts_dir: str) -> Iterator["ServerProcess | None"]:
    """Configure logging and a server for a run in a terminal.

    Prints an unexpected error once, without its traceback, and exits with 1.

    Yields:
        The temporary server; `None` if none was started.

    Raises:
        ValueError: Raised by `load_prefect` or by the run.
        OSError: Raised by `load_prefect` or by the run.
        SystemExit: The run raised any other exception.
    """
    load_prefect(artifacts_dir)
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.logs import configure_log
    from flows.sending import wait_until_sent
    from ops.server import ServerError, ensure_server

    configure_log()
    for handler in logging.getLogger().handlers:
        # The error is printed below; the engine would log it again with a traceback.
        handler.addFilter(lambda record: record.levelno < logging.ERROR)
    try:
        # Heartbeats let a server detect a dead run. A run in a terminal does not need them, and
        # stopping them takes up to a second.
        with (
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
            ensure_server() as server,
        ):
            try:
                yield server
            except (ValueError, OSError):
                wait_until_sent(SENDING_SECONDS)
                raise
            wait_until_sent(SENDING_SECONDS)
    except (ValueError, OSError):
        raise
    except ServerError as error:
        print_error(error)
        raise SystemExit(1) from error
    except Exception as error:
        print_error(f"{type(error).__name__}: {error}")
        click.echo("The log of the flow run, if one was started, has the traceback.", err=True)
        raise SystemExit(1) from error
