"""Training configs: parse the YAML that a person edits into one frozen value."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.errors import CorruptFileError
from src.names import check_version
from src.records.canonical import canonical_json, sha256
from src.storage import StorePath
from src.training.yaml12 import (
    ConfigError,
    Faults,
    parse_mapping,
    read_config,
    scalar_value,
    yaml_repr,
)

__all__ = [
    "CHECKS",
    "ConfigError",
    "ConfigFile",
    "TrainingConfig",
    "config_fault",
    "config_text",
    "load_training_config",
    "parse_training_config",
    "read_config_file",
]

KIND = "training config"
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFile:
    """A training config and the file that it was read from.

    Attributes:
        config: The parsed config.
        path: The file, as the caller named it.
        sha256: SHA-256 of the bytes that were parsed, as 64 hexadecimal digits.
    """

    config: TrainingConfig
    path: str
    sha256: str


def load_training_config(path: str | Path) -> TrainingConfig:
    """Read a training config from a YAML file.

    Args:
        path: The file: UTF-8, at most 1 MiB, one mapping with exactly the five keys of
            `TrainingConfig`. Scalars follow the core schema of YAML 1.2 (`2e-5` is a number,
            `no` and `2024-01-01` are text).

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: The file is not a valid config; lists every fault with its line.
    """
    return read_config_file(path).config


def read_config_file(
    path: str | Path | StorePath, expected_sha256: str | None = None
) -> ConfigFile:
    """Read a training config and the digest of its file.

    Args:
        path: The file.
        expected_sha256: SHA-256 of the bytes that it must have, for a file that a sweep wrote.

    Raises:
        FileNotFoundError, ConfigError, OSError: See `load_training_config`.
        CorruptFileError: The file has other bytes; quotes none of them.
    """
    data = read_config(path, KIND)
    digest = sha256(data)
    if expected_sha256 not in (None, digest):
        raise CorruptFileError(
            f"{path}: changed after the sweep wrote it. Left as found; delete the file to have it "
            "written again."
        )
    return ConfigFile(config=parse_training_config(data, str(path)), path=str(path), sha256=digest)


def parse_training_config(data: bytes, source: str | Path) -> TrainingConfig:
    """Parse the bytes of the training config `source`; raises as `load_training_config`."""
    faults, values = Faults(), {}
    entries = parse_mapping(data, source, KIND, CHECKS, faults)
    for key, (line, node) in entries.items():
        try:
            values[key] = CHECKS[key](scalar_value(node))
        except ValueError as error:
            faults.append((line, config_fault(key, error)))
    missing = [key for key in CHECKS if key not in entries]
    faults.check(
        source, *(f"missing key {key!r}. Write e.g. `{key}: {_EXAMPLES[key]}`." for key in missing)
    )
    return TrainingConfig(**values)


def config_text(config: TrainingConfig) -> bytes:
    """Serialize a config to YAML that parses to the same config."""
    return "".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in asdict(config).items()
    ).encode()


# --- Values --------------------------------------------------------------------------------------


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

_EXAMPLES = {
    "base_model": "mistral-7b",
    "dataset_version": "dataset_v1",
    "learning_rate": "2e-5",
    "epochs": "3",
    "batch_size": "16",
}


def config_fault(key: str, error: ValueError) -> str:
    """Return the message for a value that its check refused, with an example of a valid one."""
    return f"{key}: {error} Write e.g. `{key}: {_EXAMPLES[key]}`."
