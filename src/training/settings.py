"""The five settings of a training run, and the rules that their values follow.

Imports only the standard library, so that a trainer in another environment gets these values, too.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from src.names import check_version
from src.records.canonical import canonical_json, sha256
from src.training.faults import ConfigError, yaml_repr

__all__ = ["CHECKS", "EXAMPLES", "MAX_INTEGER", "TrainingConfig", "config_fault"]

MAX_TEXT = 256
MAX_RATE = sys.float_info.max
MAX_INTEGER = 2**53 - 1  # RFC 7493: beyond it, JSON readers disagree about the number


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """The five settings of a training run, validated.

    Attributes:
        base_model: Identifier of the base model, e.g. `mistral-7b` or `org/name`.
        dataset_version: Name of a folder below `artifacts/datasets/`.
        learning_rate: Finite, above 0.
        epochs: At least 1.
        batch_size: At least 1.

    Raises:
        ConfigError: A value is not valid; lists every such value.
    """

    base_model: str
    dataset_version: str
    learning_rate: float
    epochs: int
    batch_size: int

    def __post_init__(self) -> None:
        faults = []
        for name, check in CHECKS.items():
            try:
                object.__setattr__(self, name, check(getattr(self, name)))
            except ValueError as error:
                faults.append(config_fault(name, error))
        if faults:
            raise ConfigError("\n".join(faults))

    @property
    def config_hash(self) -> str:
        """SHA-256 of the canonical JSON of the five fields, as 64 hexadecimal digits."""
        return sha256(canonical_json(asdict(self)))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text (in quotes if needed), found {yaml_repr(value)}.")
    text = value.strip()
    if not text:
        raise ValueError("expected text, found only white space.")
    if len(text) > MAX_TEXT or not text.isprintable():
        raise ValueError(
            f"expected at most {MAX_TEXT} printable characters on one line, found "
            f"{yaml_repr(text)}."
        )
    return text


def _version(value: object) -> str:
    text = _text(value)
    try:
        return check_version("", text)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(": ")) from error


def _rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_RATE:
        raise ValueError(f"expected a finite number above 0, found {yaml_repr(value)}.")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected an integer >= 1, found {yaml_repr(value)}.")
    if value > MAX_INTEGER:
        raise ValueError(f"expected an integer <= {MAX_INTEGER}, found {yaml_repr(value)}.")
    return value


CHECKS: dict[str, Callable[[object], Any]] = {
    "base_model": _text,
    "dataset_version": _version,
    "learning_rate": _rate,
    "epochs": _count,
    "batch_size": _count,
}
"""Validators by key: each returns the config value of a YAML value, or raises ValueError."""

EXAMPLES = {
    "base_model": "mistral-7b",
    "dataset_version": "dataset_v1",
    "learning_rate": "2e-5",
    "epochs": "3",
    "batch_size": "16",
}


def config_fault(key: str, error: ValueError) -> str:
    """Return the message for a value that its check refused, with an example of a valid one."""
    return f"{key}: {error} Write e.g. `{key}: {EXAMPLES[key]}`."
