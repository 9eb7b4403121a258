"""Tables on pages of the UI, fitted to its width. A cell of the UI is one line that never wraps."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.records.evaluation import is_metric
from src.rendering import markdown
from src.rendering.markdown import Markdown
from src.rendering.text import as_text, one_line
from src.training.settings import MAX_INTEGER

__all__ = ["CELL", "FittedTable", "fit_table", "fold", "short_digests", "shorten"]

CELL = 34  # characters; a derived version of a short base model
PAGE_WIDTH = 815  # pixels of a table on a page of 1,400
PADDING = 24
NARROW, OTHER, WIDE = 5.0, 8.0, 14.0  # pixels of a character
WIDTHS = dict.fromkeys("fijlrt1I.,:;'|!()[]-", NARROW) | dict.fromkeys("mw@%…", 11.0)
WIDTHS |= dict.fromkeys("ABCDEFGHJKLMNOPQRSTUVWXYZ", 10.0)
DIGEST_DIGITS = 12
HEADS = {
    "model_version": "model",
    "quality_score": "quality",
    "cost_per_1k_tokens": "cost_per_1k",
    "dataset_version": "dataset",
    "num_training_samples": "samples",
}
LINK_TARGET = re.compile(r"\]\([^)]*\)")
DIGEST = re.compile(r"\b([0-9a-f]{40}|[0-9a-f]{64})\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedTable:
    """A table that fits a page.

    Attributes:
        rows: The rows, with the same columns each.
        caption: The columns that are left out: values that all rows share, and names of others.
        left_out: The number of the others.
    """

    rows: list[dict[str, Any]]
    caption: Markdown
    left_out: int

    def to_markdown(self) -> Markdown:
        """Return the table in Markdown, below its caption."""
        table = markdown.table(list(self.rows[0]), [list(row.values()) for row in self.rows])
        return Markdown(f"{self.caption}\n\n{table}" if self.caption else table)


def fit_table(rows: Sequence[Mapping[str, Any]]) -> FittedTable:
    """Leave out the columns in which all rows are equal, and then the last ones, until it fits.

    Args:
        rows: At least one row; the columns of the first one, the most important first. The first
            column is always shown.
    """
    first, *names = dict.fromkeys(name for row in rows for name in row)
    equal = [name for name in names if all(row.get(name) == rows[0].get(name) for row in rows)]
    shown = [first, *(name for name in names if len(rows) == 1 or name not in equal)]
    cells = {name: [_cell(row.get(name)) for row in rows] for name in (first, *names)}
    while sum(_width(name, cells[name]) for name in shown) > PAGE_WIDTH and len(shown) > 1:
        shown.pop()
    hidden = [name for name in names if name not in shown]
    values = [f"{name} {as_text(rows[0].get(name))}" for name in hidden if name in equal]
    others = [name for name in hidden if name not in equal]
    return FittedTable(
        rows=[
            {one_line(HEADS.get(name, name)): cells[name][index] for name in shown}
            for index in range(len(rows))
        ],
        caption=_caption(values, others),
        left_out=len(others),
    )


def _caption(values: list[str], others: list[str]) -> Markdown:
    sentences = []
    if values:
        sentences.append(markdown.text(f"The same in every row: {', '.join(values)}."))
    if others:
        sentences.append(markdown.text(f"On the page of each model: {', '.join(others)}."))
    return Markdown(" ".join(sentences))


def _width(name: str, cells: list[Any]) -> float:
    lines = [HEADS.get(name, name)]
    for cell in cells:
        lines += LINK_TARGET.sub("]", as_text(cell)).split("<br>")
    return max(map(_text_width, lines)) + PADDING


def _text_width(text: str) -> float:
    return sum(WIDTHS.get(each, OTHER if each.isascii() else WIDE) for each in text)


def _cell(value: object) -> object:
    is_exact = is_metric(value) and (isinstance(value, float) or abs(value) <= MAX_INTEGER)
    if value is None or is_exact or isinstance(value, Markdown):
        return value
    return markdown.text(shorten(as_text(value)))


def shorten(text: str, length: int = CELL) -> str:
    """Return text of at most `length` characters: long text without its middle."""
    if len(text) <= length:
        return text
    end = min(DIGEST_DIGITS, length // 2)
    return f"{text[: length - end - 1]}…{text[-end:]}"


def short_digests(text: str) -> str:
    """Return text with the first digits of each digest and commit in it."""
    return DIGEST.sub(lambda digest: digest[0][:DIGEST_DIGITS], text)


def fold(text: str, length: int) -> Markdown:
    """Return the lines of a text, folded to at most `length` characters, for a cell of a table."""
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, length) or [""]]
    return markdown.lines("\n".join(lines))
