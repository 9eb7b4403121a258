"""Log lines: no control characters of text from outside, and each error once, in one line."""

import logging

from prefect.logging import get_run_logger
from prefect.logging.handlers import PrefectConsoleHandler

from src.rendering.text import message

__all__ = ["configure_log", "log_error"]


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
    """Make the console handler of Prefect print each log record as `message` returns it.

    Prefect's loggers no longer have records about an error that `log_error` logs.
    """
    for name in ("prefect.task_runs", "prefect.flow_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_REPORTED_ONCE)
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter
        is_escaping = isinstance(formatter, _EscapingFormatter)
        if isinstance(handler, PrefectConsoleHandler) and formatter and not is_escaping:
            handler.setFormatter(_EscapingFormatter(formatter))


def log_error(error: BaseException, text: str) -> None:
    """Log the error of a flow run in one line, and drop the records of the engine about it."""
    _REPORTED_ONCE.reported = error
    get_run_logger().error("%s", text)
