"""Names of dataset and model versions, and of metrics."""

import re
from bisect import bisect
from collections.abc import Iterable

from src.errors import truncated_repr

__all__ = [
    "MAX_LENGTH",
    "REGISTRY_FILE",
    "RESERVED",
    "VERSION_NAME",
    "check_version",
    "closest",
    "is_metric_name",
    "is_version",
    "nearest",
]

MAX_LENGTH = 128
REGISTRY_FILE = "registry.json"

RESERVED = {REGISTRY_FILE, f"{REGISTRY_FILE}.lock"}
VERSION_NAME = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_LENGTH - 1}}}"
_NAME = re.compile(VERSION_NAME)


def is_version(name: object) -> bool:
    """Return whether `name` is a valid version name; see `check_version`."""
    return (
        isinstance(name, str) and _NAME.fullmatch(name) is not None and name.lower() not in RESERVED
    )


def check_version(field: str, name: object) -> str:
    """Return `name` if it is a valid version name.

    A version name is one path component: letters, digits, `.`, `_` and `-`, starting with a
    letter or digit, at most 128 characters, and not the name of a registry file.

    Args:
        field: The field that holds the name, e.g. `model_version`; used in the error.
        name: The name to check.

    Raises:
        ValueError: The name is not valid.
    """
    if isinstance(name, str) and is_version(name):
        return name
    raise ValueError(
        f"{field}: expected a name of at most {MAX_LENGTH} letters, digits, '.', '_' and '-' that "
        f"starts with a letter or digit and is not {REGISTRY_FILE!r}, found {truncated_repr(name)}."
    )


def is_metric_name(name: object) -> bool:
    """Return whether `name` can name a metric: 1 to 128 printable characters."""
    return isinstance(name, str) and 0 < len(name) <= MAX_LENGTH and name.isprintable()


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the `known` name that `name` may be a misspelling of; `None` if there is none."""
    return next(iter(_close_matches(name, known, count=1, cutoff=0.6)), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return up to three similar `known` names, the most similar first, as text for an error.

    A name is similar if it may be what `name` was meant to be, or starts with it. Returns "none"
    if there is no such name. At most 200 names are compared: those next to `name` in sorted order.
    """
    names = sorted(known)
    place = bisect(names, name)
    candidates = names[max(0, place - 100) : place + 100]
    close = _close_matches(name, candidates, count=3, cutoff=0.6)
    longer = [each for each in candidates if name and each.startswith(name)]
    return ", ".join(list(dict.fromkeys([*close, *longer]))[:3]) or "none"


def _close_matches(name: str, known: Iterable[str], *, count: int, cutoff: float) -> list[str]:
    from difflib import get_close_matches  # slow to import, and used only in errors

    return get_close_matches(name, list(known), n=count, cutoff=cutoff)
