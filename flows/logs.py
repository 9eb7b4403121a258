"""Log lines on the console, without the control characters of text from outside."""

import logging

from prefect.logging.handlers import PrefectConsoleHandler

from src.rendering.text import message

__all__ = ["escape_log_lines"]


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
