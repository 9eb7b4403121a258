"""Configure the log of a flow: escape control characters, and log each error once."""

import logging
from collections.abc import Callable
from functools import partial

from prefect.logging import get_run_logger
from prefect.logging.handlers import PrefectConsoleHandler

from src.rendering.text import message, one_line
from src.training.dataset import DatasetVersion, unpinned_reason

__all__ = ["configure_log", "log_error", "unpinned_warnings"]


class _EscapingFormatter(logging.Formatter):
    """Formatter that escapes the output of another formatter."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return message(self._formatter.format(record))


class _ReportedOnce(logging.Filter):
    """Filter of Prefect's loggers: a flow logs the error of its run itself, see `log_error`.

    The engine logs it as well: in the final state of the step, in that of the flow, and with a
    traceback after the last retry and at the end of a deployed run.
    """

    reported: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and error is self.reported:
            return False
        if record.name == "prefect.task_runs" and isinstance(error, OSError):
            return False
        if str(record.msg).startswith("Finished in state Failed("):
            record.msg = "Finished in state Failed"
        return True


_REPORTED_ONCE = _ReportedOnce()


def configure_log() -> None:
    """Print text on Prefect's console handler as it is, and log each error once.

    Control characters are escaped, and names of emoji are not replaced.

    The wait for unsent events at the end of a process is not logged.

    Prefect's loggers drop the engine's tracebacks of the error that `log_error` has logged, because
    its line says the same, and those of a step that ends with an OSError, which becomes the error
    of the run. The final states of steps and flows are logged without the message of the error.
    """
    # At its exit, a process waits until its events are sent. There is nothing to do about it.
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)
    for name in ("prefect.task_runs", "prefect.flow_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_REPORTED_ONCE)
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter
        is_escaping = isinstance(formatter, _EscapingFormatter)
        if isinstance(handler, PrefectConsoleHandler) and formatter and not is_escaping:
            handler.setFormatter(_EscapingFormatter(formatter))
            # Otherwise `mine:train: done` is printed with the picture of a train.
            console = handler.console
            console.print = partial(console.print, emoji=False)  # type: ignore[method-assign]


def log_error(error: BaseException, text: str) -> None:
    """Log the error of a flow run in one line, and drop the records of the engine about it."""
    _REPORTED_ONCE.reported = error
    get_run_logger().error("%s", text)


def unpinned_warnings() -> Callable[[DatasetVersion], None]:
    """Return a function that logs a warning for a dataset that nothing pins, once for each."""
    warned: set[str] = set()

    def warn(dataset: DatasetVersion) -> None:
        reason = unpinned_reason(dataset)
        if reason is not None and dataset.name not in warned:
            warned.add(dataset.name)
            get_run_logger().warning("%s", one_line(reason))

    return warn
