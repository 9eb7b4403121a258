"""Tables on stdout: fitted to a terminal by rich; plain and complete everywhere else."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from src.lineage.compare import as_text

__all__ = ["draw"]

GAP = "  "
MOST_FITTED_ROWS = 100  # rich takes about a millisecond of CPU a row


def draw(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table.

    On a terminal, texts are folded to its width. Where that does not do, because numbers or the
    words of the head would have to be cut as well, and in a pipe, a row is one line.

    Args:
        head: What stands above the columns.
        rows: A value for each column, at least one row; a column of numbers is set flush right.
    """
    values = list(rows)
    columns = list(zip(*values, strict=True))
    right = [all(isinstance(value, int | float | None) for value in each) for each in columns]
    cells = [[as_text(value) for value in row] for row in values]
    least = [
        max(map(len, [*name.split(), *(map(as_text, column) if number else ())]), default=0)
        for name, column, number in zip(head, columns, right, strict=True)
    ]
    width = sum(least) + len(GAP) * (len(least) - 1)
    if (
        sys.stdout.isatty()
        and len(cells) <= MOST_FITTED_ROWS
        and width <= shutil.get_terminal_size().columns
    ):
        _draw_fitted(head, cells, right, least)
    else:
        _draw_plain(head, cells, right)


def _draw_plain(head: Sequence[str], cells: list[list[str]], right: list[bool]) -> None:
    lines = [list(head), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        line[:] = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ]
    click.echo("\n".join(GAP.join(line).rstrip() for line in lines))


def _draw_fitted(
    head: Sequence[str], cells: list[list[str]], right: list[bool], least: list[int]
) -> None:
    # Only here, for it takes as long to import as all that a short command does.
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False)
    for name, number, width in zip(head, right, least, strict=True):
        justify: Any = "right" if number else "left"
        table.add_column(name, justify=justify, min_width=width, overflow="fold")
    for row in cells:
        table.add_row(*row)
    Console(markup=False, emoji=False, highlight=False).print(table)
