"""Canonical JSON: one form for writing and hashing values, and one strict parser."""

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from src.errors import CorruptFileError, truncated_repr

__all__ = [
    "canonical_json",
    "dotted",
    "is_deep",
    "is_same_json",
    "parse_canonical_json",
    "parse_json",
    "sha256",
]

MAX_DEPTH = 50
MAX_PART_DEPTH = 40  # of a value of a component, which a statement holds some levels below


def canonical_json(value: object) -> bytes:
    """Serialize a value to the one form in which it is written and hashed.

    The form is UTF-8 JSON with sorted keys, two spaces of indentation and a final newline; floats
    use Python's shortest round-trip form. The same value gives the same bytes on every machine and
    release, so `sha256sum` of a file is the digest of its value.

    Raises:
        ValueError: The value holds NaN, an infinity, text that is not valid Unicode, a type that
            JSON does not have, or is nested too deeply.
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a JSON value: {error}") from error
    return text.encode() + b"\n"


def is_same_json(one: object, other: object) -> bool:
    """Return whether two values have one canonical form; 1, 1.0 and true are three values."""
    if type(one) is type(other) and isinstance(one, str | int | None):
        return one == other
    try:
        return canonical_json(one) == canonical_json(other)
    except ValueError:  # not JSON
        return type(one) is type(other) and one == other


def dotted(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values in nested objects, each with its path, e.g. `torch.threads`."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from dotted(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def parse_json(data: bytes, source: object) -> dict[str, Any]:
    """Parse one JSON object, strictly.

    Args:
        data: The bytes of the file.
        source: The file the bytes came from; used in errors.

    Raises:
        CorruptFileError: The data is not UTF-8, not JSON, not an object, has a duplicate key or a
            number that is not finite; names the file and the position.
    """
    try:
        text = data.decode()
        value = json.loads(text, **_STRICT)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # fails on an escaped lone surrogate
    except UnicodeDecodeError as error:
        place = f"byte {error.start}"
        raise CorruptFileError(f"{source}: {place}: not UTF-8 text. Left as found.") from error
    except json.JSONDecodeError as error:
        reason = f"not valid JSON ({error.msg})" if data.strip() else "the file is empty"
        place = f"line {error.lineno}, column {error.colno}"
        raise CorruptFileError(f"{source}: {place}: {reason}. Left as found.") from error
    except RecursionError as error:
        raise CorruptFileError(f"{source}: nested too deeply. Left as found.") from error
    except UnicodeEncodeError as error:
        reason = "an escape that is half of a character (a lone surrogate)"
        raise CorruptFileError(f"{source}: {reason}. Left as found.") from error
    except CorruptFileError as error:
        raise CorruptFileError(f"{source}: {error}. Left as found.") from error
    except ValueError as error:
        reason = f"an integer of more than {sys.get_int_max_str_digits():,} digits"
        raise CorruptFileError(f"{source}: {reason}. Left as found.") from error
    return _object(value, source)


def is_deep(value: object, levels: int = MAX_DEPTH) -> bool:
    """Return whether a JSON value is nested in more than `levels` levels.

    Functions that copy or compare values would fail on it.
    """
    level = [value]
    for _ in range(levels):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def parse_canonical_json(data: bytes, source: object) -> dict[str, Any]:
    """Parse one JSON object that `canonical_json` is known to have written.

    Skips the checks of `parse_json`, which such data always passes; several times as fast.
    """
    return _object(json.loads(data), source)


def _object(value: Any, source: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise CorruptFileError(f"{source}: expected a JSON object, found a {kind}. Left as found.")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        duplicate, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise CorruptFileError(f"duplicate key {truncated_repr(duplicate)}")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise CorruptFileError(f"the number {text[:50]} is not finite")
    return number


_STRICT: dict[str, Any] = {
    "object_pairs_hook": _unique_keys,
    "parse_float": _finite,
    "parse_constant": _finite,
}
