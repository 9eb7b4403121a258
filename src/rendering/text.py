"""Plain text, as a terminal, a log or an image shows it: only printable characters.

A control character can move the cursor or change a line that was printed before, a line end can
forge a line, and a bidirectional override can reverse the order of what follows.
"""

import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from src.errors import truncated_repr

__all__ = [
    "as_text",
    "counted",
    "message",
    "one_line",
    "printable",
    "reason_first",
    "truncated_list",
]

MAX_NAMES = 5

# What precedes the reason in a message: a path, that is, a text with a slash or with the suffix of
# a config or a record, and perhaps the number of a line.
_PLACE = re.compile(r"(?P<path>.*/.*?|.*\.(?:jsonl?|ya?ml))(?P<line>(?::\d+)?)")


def printable(text: str) -> str:
    r"""Return text with an escape, e.g. `\x1b`, for each character that is not printable.

    `\n` is kept; see `one_line`. Printable text is unchanged.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: object) -> str:
    """Return `printable` text with escapes for line ends, too."""
    return printable(str(text)).replace("\n", "\\n")


def message(text: object) -> str:
    """Return `printable` text with its further lines indented.

    So none of them looks like another message.
    """
    return re.sub(r"\n(?!\n|$)", "\n  ", printable(str(text)))


def reason_first(error: BaseException) -> str:
    """Return the message of an error as one line of `printable` text that ends with the path.

    `c.yaml:5: epochs: expected 1.` becomes `epochs: expected 1 (c.yaml:5)`, for a page that shows
    only the start of a message. Lines are joined; a path that several of them begin with is given
    once, at the end.
    """
    if isinstance(error, OSError) and error.strerror is not None:
        return one_line(_with_place(error.strerror, error.filename))
    faults: list[tuple[str, str, str]] = []  # path, line, reason
    for text in filter(str.strip, str(error).split("\n")):
        head, _, reason = text.partition(": ")
        if reason and (place := _PLACE.fullmatch(head)):
            faults.append((place["path"], place["line"], reason))
        else:  # about the path of the line before
            faults.append((faults[-1][0] if faults else "", "", text.strip()))
    parts = []
    for path, group in groupby(faults, key=lambda fault: fault[0]):
        match list(group):
            case [(_, line, reason)]:
                parts.append(_with_place(reason, path and path + line))
            case lines:
                reasons = [
                    _with_place(reason, line and f"line {line[1:]}") for _, line, reason in lines
                ]
                parts.append(_with_place(_joined(reasons), path))
    return one_line(_joined(parts))


def _with_place(reason: str, place: object) -> str:
    return f"{reason.removesuffix('.')} ({place})" if place else reason


def _joined(parts: list[str]) -> str:
    """Join sentences; one that ends with a colon introduces the others."""
    return "; ".join(parts).replace(".; ", "; ").replace(":; ", ": ")


def as_text(value: Any) -> str:
    """Return a value as one line of printable text; `-` for `None`.

    Text that is not printable, or has spaces at an end, is quoted as in JSON.
    """
    if value is None:
        return "-"
    if isinstance(value, str) and value.isprintable() and value == value.strip():
        return value
    try:
        return json.dumps(value, sort_keys=True)
    except RecursionError:
        return truncated_repr(value)


def counted(count: int, noun: str) -> str:
    """Return a number and its noun: `1 model`, `2,000 models`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def truncated_list(names: Iterable[str], limit: int = MAX_NAMES) -> str:
    """Return the first names, and the number of the others: `a, b and 3 more`."""
    every = [*names]
    more = len(every) - limit
    return ", ".join(every[:limit]) + (f" and {more:,} more" if more > 0 else "")
