"""CSV (RFC 4180): a table that scripts and spreadsheets read.

A spreadsheet runs a text that begins with `=`, `+`, `-` or `@` as a formula, which can send other
cells elsewhere. The escape is that of OWASP ("CSV Injection"): an apostrophe before such a text.
"""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from io import StringIO

from src.rendering.text import as_text

__all__ = ["cell", "table"]

# Spreadsheets ignore white space before a formula, and some take the full-width forms, too.
_FORMULA = re.compile(r" *[=+\-@＝＋－＠]")  # noqa: RUF001
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Return a table as CSV, one line per row; the lines end with `\n`.

    Args:
        head: The names of the columns, the first row.
        rows: One value per column; see `cell`.
    """
    output = StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerows([cell(value) for value in row] for row in [head, *rows])
    return output.getvalue()


def cell(value: object) -> str:
    """Return the text of a cell: one line of printable characters that is no formula.

    `None` is empty. A number has all of its digits. JSON is written for any other value, and for a
    text with characters that are not printable, such as line ends. A text that a spreadsheet would
    take for a formula, and not for a number, has an apostrophe before it.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return as_text(value)
    text = value if value.isprintable() else json.dumps(value)
    is_formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text.strip())
    return f"'{text}" if is_formula else text
