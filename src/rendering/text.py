"""Plain text, as a terminal, a log or an image shows it: only printable characters.

A control character can move the cursor or change a line that was printed before, a line end can
forge a line, and a bidirectional override can reverse the order of what follows.
"""

import json
import re
from typing import Any

from src.errors import truncated_repr

__all__ = ["as_text", "message", "one_line", "printable"]


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
