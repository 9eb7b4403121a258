"""Output on a terminal: text from outside cannot move the cursor, set colours or forge a line."""

import json

import click

from src.records.canonical import canonical_json
from src.rendering.text import message, one_line

__all__ = ["print_error", "print_json", "print_line"]


def print_line(text: object) -> None:
    """Print one line."""
    click.echo(one_line(text))


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
