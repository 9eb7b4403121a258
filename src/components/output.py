"""The output of a component, in the log of a run."""

import logging
from collections.abc import Callable

from src.rendering.text import printable

__all__ = ["line_logger"]

MAX_LINES = 10_000  # a log of all lines could fill a disk


def line_logger(logger: logging.Logger) -> Callable[[str], None]:
    """Return a function that logs the lines of one try, at most `MAX_LINES`."""
    count = 0

    def log_line(line: str) -> None:
        nonlocal count
        count += 1
        if count <= MAX_LINES:
            logger.info("%s", printable(line))
        elif count == MAX_LINES + 1:
            logger.warning("More than %d lines: further output is not logged.", MAX_LINES)

    return log_line
