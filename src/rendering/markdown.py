"""Markdown: source that shows a value as text, in CommonMark, GFM and Prefect's UI.

A character is escaped by a backslash, because Prefect's UI does not decode numeric character
references. Characters without a meaning in Markdown are not escaped: the UI's search compares the
source.
"""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from src.rendering.text import as_text

__all__ = ["Markdown", "code", "code_block", "lines", "link", "table", "text"]

SPECIAL = re.compile(
    r"[\\`*\[\]<&|~#$]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # model_v1 has no emphasis
    r"|^[-+=>]"
)
LIST_NUMBER = re.compile(r"^(\d{1,9})(?=[.)](?:\s|$))")
# GFM makes links of addresses, in some parsers also of escaped ones, but not in a code span. One
# pattern for a word with a mark would take quadratic time.
_WORD = re.compile(r"[^\s`|]+")
_ADDRESS_MARK = re.compile(r"@|://|www\.", re.IGNORECASE)


class Markdown(str):
    """Markdown source; values of other types must be escaped before they are a part of a page."""

    __slots__ = ()


def text(value: object) -> Markdown:
    """Return source that shows a value as one line of text, and an address in it as code."""
    source, parts, end = as_text(value), [], 0
    for word in _WORD.finditer(source):
        if _ADDRESS_MARK.search(word[0]):
            parts += [_escape_part(source, end, word.start()), f"`{word[0]}`"]
            end = word.end()
    return Markdown("".join([*parts, _escape_part(source, end, len(source))]))


def _escape_part(source: str, start: int, end: int) -> str:
    if start == 0:
        return LIST_NUMBER.sub(r"\1\\", _escape(source[:end]))
    # Only the start of the whole text can be the start of a line.
    return _escape("x" + source[start:end])[1:]


def lines(value: str) -> Markdown:
    """Return source that shows a text of several lines, also in the cell of a table."""
    return Markdown("<br>".join(text(line.strip()) for line in value.split("\n")))


def code(value: object) -> Markdown:
    """Return source that shows a value as code; as text, if a code span cannot hold it."""
    source = as_text(value)
    if not source or set(source) & set("`|"):  # in a table, `\|` in a code span is ambiguous
        return text(source)
    return Markdown(f"`{source}`")


def code_block(source: str) -> Markdown:
    """Return lines of printable text as a block of code."""
    return Markdown("".join(f"    {line}\n" for line in source.split("\n")))


def link(label: str, path: str, title: str | None = None) -> Markdown:
    """Return a link to a path, with its label as text; `title` is a version name."""
    target = quote(path) if title is None else f'{quote(path)} "{quote(title)}"'
    return Markdown(f"[{_escape(as_text(label))}]({target})")


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markdown:
    """Return a table, with a line end after each line; cells are shown as text."""
    marks = [Markdown("---")] * len(head)
    return Markdown("".join(f"| {' | '.join(map(_cell, row))} |\n" for row in [head, marks, *rows]))


def _cell(value: object) -> str:
    if isinstance(value, Markdown):
        return value
    return "-" if value is None else text(value)  # `text` escapes "-" at the start of a line


def _escape(source: str) -> str:
    return SPECIAL.sub(r"\\\g<0>", source)
