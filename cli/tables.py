"""Tables on stdout, fitted to the width of a terminal."""

import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from src.rendering.text import as_text

__all__ = ["packages_text", "print_table"]

GAP = "  "
LEAST_TEXT = 8  # characters; narrower text is hard to read
MAX_FITTED_ROWS = 100  # rich takes about a millisecond of CPU per row


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table.

    On a terminal, text is folded to fit its width, column names after an underscore. A row is one
    line in a pipe, in a table of more than `MAX_FITTED_ROWS` rows, and on a terminal that is too
    narrow for the numbers and the words of the head.

    Args:
        head: The names of the columns.
        rows: One value per column, at least one row. Columns of numbers are aligned right.
    """
    values = list(rows)
    right = [
        all(isinstance(value, int | float | None) for value in column)
        for column in zip(*values, strict=True)
    ]
    head = [as_text(name) for name in head]
    cells = [[as_text(value) for value in row] for row in values]
    widths = None
    if sys.stdout.isatty() and len(cells) <= MAX_FITTED_ROWS:
        widths = _fitted_widths(head, cells, right, shutil.get_terminal_size().columns)
    if widths:
        _print_fitted(head, cells, right, widths)
    else:
        _print_plain(head, cells, right)


def _fitted_widths(
    head: Sequence[str], cells: list[list[str]], right: list[bool], available: int
) -> list[int] | None:
    """Return the widths of columns that fit the terminal; `None` if it is too narrow."""
    columns = list(zip(*cells, strict=True))
    longest = [max(map(len, column)) for column in columns]
    widths = [
        max(*map(len, _fold(name, 0)), width if number else min(width, LEAST_TEXT))
        for name, number, width in zip(head, right, longest, strict=True)
    ]
    full = [max(len(name), width) for name, width in zip(head, longest, strict=True)]
    spare = available - sum(widths) - len(GAP) * (len(widths) - 1)
    if spare < 0:
        return None
    for _ in range(min(spare, sum(full) - sum(widths))):
        growing = [index for index, width in enumerate(widths) if width < full[index]]
        widths[min(growing, key=widths.__getitem__)] += 1
    return widths


def _fold(name: str, width: int) -> list[str]:
    """Fold a column name after underscores and spaces; no line is longer than needed."""
    lines = [""]
    for word in re.findall(r"[^_\s]*[_\s]*", name):
        if lines[-1] and len((lines[-1] + word).rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]


def _print_plain(head: Sequence[str], cells: list[list[str]], right: list[bool]) -> None:
    lines = [list(head), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        line[:] = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ]
    click.echo("\n".join(GAP.join(line).rstrip() for line in lines))


def _print_fitted(
    head: Sequence[str], cells: list[list[str]], right: list[bool], widths: list[int]
) -> None:
    # Importing rich takes as long as a short command.
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False)
    for name, number, width in zip(head, right, widths, strict=True):
        justify: Any = "right" if number else "left"
        folded = "\n".join(_fold(name, width))
        table.add_column(folded, justify=justify, width=width, overflow="fold")
    for row in cells:
        table.add_row(*row)
    Console(markup=False, emoji=False, highlight=False).print(table)


def packages_text(versions: Mapping[str, Any]) -> str:
    """Return a one-line summary of recorded packages."""
    return f"{len(versions)}; --json lists them"
