"""Run a flow in a terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cli.options import check_working_directory
from cli.terminal import print_error

if TYPE_CHECKING:
    from ops.server import ServerProcess

__all__ = ["console_run", "load_prefect"]

SENDING_SECONDS = 20.0


def load_prefect(artifacts_dir: str) -> None:
    """Print on stderr that Prefect is loaded, and import it, which takes seconds.

    Raises:
        ValueError: The working directory is inside the artifacts root; or Prefect's profiles.toml
            or one of its settings is not valid.
        OSError: Prefect's profiles.toml cannot be read.
    """
    check_working_directory(artifacts_dir)  # Prefect reads settings there, and some run code
    import tasks  # noqa: F401  # configures Prefect
    from tasks.settings import checked_settings

    click.echo("Loading Prefect ...", err=True)
    # `ensure_server` reports the same as an error if a server needs the folder.
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")
    with checked_settings():
        import prefect.main  # noqa: F401  # configures logging


@contextmanager
def console_run(artifacts_dir: str) -> Iterator["ServerProcess | None"]:
    """Configure logging and a server for a run in a terminal.

    Prints an unexpected error once, without its traceback, and exits with 1.

    Yields:
        The temporary server; `None` if none was started.

    Raises:
        ValueError: As `load_prefect`; or the run raised it.
        OSError: As `load_prefect`; or the run raised it.
        SystemExit: No server can be used, or the run raised another exception.
    """
    load_prefect(artifacts_dir)
    from httpx import HTTPError
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.logs import configure_log
    from flows.sending import wait_until_sent
    from ops.server import ServerError, ensure_server

    configure_log()
    for handler in logging.getLogger().handlers:
        # The error is printed below; the engine would log it again with a traceback.
        handler.addFilter(lambda record: record.levelno < logging.ERROR)
    try:
        # A server detects a dead run by its heartbeats. A run in a terminal does not need them, and
        # stopping them takes up to a second.
        with (
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
            ensure_server() as server,
        ):
            try:
                yield server
            except Exception:  # not Ctrl-C, which must not wait
                wait_until_sent(SENDING_SECONDS)
                raise
            wait_until_sent(SENDING_SECONDS)
    except (ValueError, OSError):
        raise
    except ServerError as error:
        print_error(error)
        raise SystemExit(1) from error
    except HTTPError as error:
        print_error(
            f"the Prefect server does not answer: {type(error).__name__}: {error}. What was "
            "written is whole; run the command again when the server answers."
        )
        raise SystemExit(1) from error
    except Exception as error:
        print_error(f"{type(error).__name__}: {error}")
        click.echo("The log of the flow run, if one was started, has the traceback.", err=True)
        raise SystemExit(1) from error
