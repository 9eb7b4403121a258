"""Tables on stdout, fitted to the width of a terminal."""

import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from src.rendering import csv
from src.rendering.text import as_text, one_line

__all__ = ["packages_text", "print_table"]

GAP = "  "
LEAST_TEXT = 8  # characters; narrower text is hard to read
LEAST_FIRST = 20  # characters of the first column, before columns are left out
MAX_FITTED_ROWS = 100  # rich takes about a millisecond of CPU per row


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a table: its name and its values as text."""

    name: str
    cells: list[str]
    is_number: bool

    @property
    def longest(self) -> int:
        """The length of the longest value."""
        return max(map(len, self.cells))

    @property
    def full_width(self) -> int:
        """The width in which nothing is folded."""
        return max(len(self.name), self.longest)

    @property
    def least_width(self) -> int:
        """The least width: no number and no word of the name is folded."""
        text = self.longest if self.is_number else min(self.longest, LEAST_TEXT)
        return max(*map(len, _fold(self.name, 0)), text)


def print_table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    least: Sequence[str] = (),
    as_csv: bool = False,
) -> None:
    """Print a table.

    On a terminal, text is folded to fit its width, column names after an underscore. Columns that
    still do not fit are left out, and stderr names them: first those of `least`, then the last
    ones. A row is one line in a pipe, in a table of more than `MAX_FITTED_ROWS` rows, and on a
    terminal that is too narrow for a single column.

    Args:
        head: The names of the columns.
        rows: One value per column, at least one row. Columns of numbers are aligned right.
        least: Names of columns, the least important first.
        as_csv: Whether to print CSV, which has every column; see `src.rendering.csv`. There may be
            no rows. Every column needs a name, and values are not shortened.
    """
    if as_csv:
        click.echo(csv.table(head, rows), nl=False)
        return
    columns = [
        _Column(
            name=as_text(name),
            cells=[as_text(value) for value in values],
            is_number=all(isinstance(value, int | float | None) for value in values),
        )
        for name, values in zip(head, zip(*rows, strict=True), strict=True)
    ]
    if not sys.stdout.isatty():
        _print_plain(columns)
        return
    available = shutil.get_terminal_size().columns
    is_foldable = len(columns[0].cells) <= MAX_FITTED_ROWS
    shown = _fitting_columns(columns, least, available, is_foldable)
    _print_left_out([column for column in columns if column not in shown])
    if is_foldable and (widths := _fitted_widths(shown, available)):
        _print_fitted(shown, widths)
    else:
        _print_plain(shown)


def _fitting_columns(
    columns: list[_Column], least: Sequence[str], available: int, is_foldable: bool
) -> list[_Column]:
    """Return the columns that fit the terminal; all of them if not even the first one fits."""

    def excess(shown: list[_Column]) -> int:
        widths = [each.least_width if is_foldable else each.full_width for each in shown]
        return sum(widths) + len(GAP) * (len(widths) - 1) - available

    first = columns[0]
    more = min(first.longest, LEAST_FIRST) - first.least_width if is_foldable else 0
    shown = list(columns)
    for name in least:
        if excess(shown) + max(more, 0) > 0:
            shown = [column for column in shown if column.name != name]
    while len(shown) > 1 and excess(shown) > 0:
        shown.pop()
    return shown if excess(shown) <= 0 else columns


def _print_left_out(columns: list[_Column]) -> None:
    """Name columns on stderr, with the values that all rows share."""
    names = []
    for column in columns:
        is_same = len(set(column.cells)) == 1
        names.append(f"{column.name} ({column.cells[0]})" if is_same else column.name)
    if names:
        text = f"Left out, as the terminal is too narrow: {', '.join(names)}. --json has all."
        click.echo(one_line(text), err=True)


def _fitted_widths(columns: list[_Column], available: int) -> list[int] | None:
    """Return the widths of columns that fit the terminal; `None` if it is too narrow."""
    widths = [column.least_width for column in columns]
    full = [column.full_width for column in columns]
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


def _print_plain(columns: list[_Column]) -> None:
    padded = []
    for column in columns:
        width, lines = column.full_width, [column.name, *column.cells]
        padded.append(
            [line.rjust(width) if column.is_number else line.ljust(width) for line in lines]
        )
    click.echo("\n".join(GAP.join(line).rstrip() for line in zip(*padded, strict=True)))


def _print_fitted(columns: list[_Column], widths: list[int]) -> None:
    # Importing rich takes as long as a short command.
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        justify: Any = "right" if column.is_number else "left"
        folded = "\n".join(_fold(column.name, width))
        table.add_column(folded, justify=justify, width=width, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    Console(markup=False, emoji=False, highlight=False).print(table)


def packages_text(versions: Mapping[str, Any]) -> str:
    """Return a one-line summary of recorded packages."""
    return f"{len(versions)}; --json lists them"
