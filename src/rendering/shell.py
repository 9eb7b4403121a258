"""Commands that a person copies into a shell."""

import json
import shlex

__all__ = ["prefect_parameter", "quote"]


def quote(word: str) -> str:
    """Quote text so that a POSIX shell reads it as one argument; one line of printable text.

    Text with characters that are not printable has the form `$'...'` (POSIX 2024; not all shells
    support it).
    """
    if not word.isprintable():
        octal = (f"\\{byte:03o}" for byte in word.encode(errors="surrogateescape"))
        return f"$'{''.join(octal)}'"
    # In a block of code, Prefect's UI decodes `&#39;`, which would end the quotation.
    return shlex.quote(word).replace("&", "'\\&'")


def prefect_parameter(name: str, value: str) -> str:
    """Return the option of `prefect deployment run` that sets a parameter to a text.

    Prefect parses the value as JSON; if that fails, as the contents of a JSON string.
    """
    is_valid_unquoted = value.isprintable() and not set(value) & set('"\\')
    if not is_valid_unquoted or value.startswith(("{", "[")) or _is_json(value):
        value = json.dumps(value)
    return f"-p {quote(f'{name}={value}')}"


def _is_json(source: str) -> bool:
    try:
        json.loads(source)
    except json.JSONDecodeError:
        return False
    except ValueError:  # an integer of too many digits
        return True
    return True
