"""Log lines: no control characters of text from outside, and no traceback of a reported error."""

import logging

from prefect.logging.handlers import PrefectConsoleHandler

from src.rendering.text import message

__all__ = ["escape_log_lines", "log_no_traceback_of"]


class _EscapingFormatter(logging.Formatter):
    """Formatter that escapes the output of another formatter."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return message(self._formatter.format(record))


def escape_log_lines() -> None:
    """Make the console handler of Prefect print each log record as `message` returns it."""
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter
        is_escaping = isinstance(formatter, _EscapingFormatter)
        if isinstance(handler, PrefectConsoleHandler) and formatter and not is_escaping:
            handler.setFormatter(_EscapingFormatter(formatter))


class _WithoutError(logging.Filter):
    """Filter that drops the log records of one error."""

    error: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.exc_info or record.exc_info[1] is not self.error


_REPORTED = _WithoutError()


def log_no_traceback_of(error: BaseException) -> None:
    """Keep the engine of a deployed run from logging an error that is in the state of the run."""
    _REPORTED.error = error
    logging.getLogger("prefect.engine").addFilter(_REPORTED)
