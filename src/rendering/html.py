"""HTML: values from outside as text, as attributes, and as data of a script."""

import json
import re
from html import escape
from typing import Any

__all__ = ["json_data", "script", "text"]

# With these, text inside a script could end the element, or start a comment or an entity.
_MARKUP = re.compile("[<>&\u2028\u2029]")
_END = re.compile(r"</script|<!--|<script", re.IGNORECASE)


def text(value: object) -> str:
    """Return source that shows a value as text, in an element or in a quoted attribute."""
    return escape(str(value), quote=True)


def json_data(value: Any) -> str:
    """Return a JSON value for the inside of `<script type="application/json">`.

    The source has ASCII characters alone, and neither `<`, `>` nor `&`.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    source = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return _MARKUP.sub(lambda match: f"\\u{ord(match[0]):04x}", source)


def script(source: str) -> str:
    """Return the source of a script of this project or a library, for the inside of `<script>`.

    Raises:
        ValueError: The source would end the element, or is not safe inside of it.
    """
    if match := _END.search(source):
        raise ValueError(f"script: position {match.start()}: {match[0]!r} ends a script element.")
    return source
