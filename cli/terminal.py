"""Output on a terminal: text from outside cannot move the cursor, set colours or forge a line."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from src.records.canonical import canonical_json
from src.rendering.text import message, one_line

__all__ = ["print_error", "print_json", "print_line", "printed_log"]


def print_line(text: object, *, err: bool = False) -> None:
    """Print one line, on stderr if `err`."""
    click.echo(one_line(text), err=err)


def print_error(error: object) -> None:
    """Print an error on stderr."""
    click.echo(f"error: {message(error)}", err=True)


def print_json(value: object) -> None:
    """Print a value as canonical JSON, where characters that are not printable are escaped."""
    source = canonical_json(value).decode()
    if not source.replace("\n", "").isprintable():
        source = "".join(map(_json_character, source))
    click.echo(source, nl=False)


def _json_character(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return json.dumps(character)[1:-1]


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(message(self.format(record)), err=True)


@contextmanager
def printed_log() -> Iterator[None]:
    """Print the log of the core on stderr, in the form in which Prefect prints it."""
    logger, printer = logging.getLogger("src"), _Printer()
    form = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(name)s - %(message)s"
    printer.setFormatter(logging.Formatter(form, "%H:%M:%S"))
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(printer)
    try:
        yield
    finally:
        logger.removeHandler(printer)
        logger.setLevel(level)
