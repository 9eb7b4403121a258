"""Training configs: YAML that a person edits in, one frozen value out."""

import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from src.storage import canonical_json, naming, sha256, shown
from src.versions import check_version

__all__ = [
    "ConfigError",
    "ConfigFile",
    "TrainingConfig",
    "load_training_config",
    "parse_training_config",
    "read_config_file",
]

MAX_BYTES = 1 << 20
MAX_NODES = 1000
MAX_TEXT = 256
MAX_RATE = sys.float_info.max
MAX_DIGITS = 400  # a longer number is as good as endless: the greatest float has 309
MAX_INTEGER = 2**53 - 1  # RFC 7493: beyond it, JSON readers disagree about the number


class ConfigError(ValueError):
    """A training config that cannot be used; the message lists every fault with its line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """The five settings of a training run, checked.

    Attributes:
        base_model: Identifier of the base model, e.g. `mistral-7b` or `org/name`.
        dataset_version: Name of a folder below `artifacts/datasets/`.
        learning_rate: Finite, above 0.
        epochs: At least 1.
        batch_size: At least 1.

    Raises:
        ConfigError: A value is not of its kind; names each.
    """

    base_model: str
    dataset_version: str
    learning_rate: float
    epochs: int
    batch_size: int

    def __post_init__(self) -> None:
        faults = []
        for name, check in _CHECKS.items():
            try:
                object.__setattr__(self, name, check(getattr(self, name)))
            except ValueError as error:
                faults.append(_fault(name, error))
        if faults:
            raise ConfigError("\n".join(faults))

    @property
    def config_hash(self) -> str:
        """SHA-256 of the canonical JSON of the five fields, as 64 hexadecimal digits."""
        return sha256(canonical_json(asdict(self)))


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFile:
    """A training config, and the very file that it was read from.

    Attributes:
        config: What the file says.
        path: The file, as it was given.
        sha256: SHA-256 of the bytes that were parsed, as 64 hexadecimal digits.
    """

    config: TrainingConfig
    path: str
    sha256: str


def load_training_config(path: str | Path) -> TrainingConfig:
    """Read a training config from a YAML file.

    Args:
        path: The file: UTF-8, at most 1 MiB, one mapping with exactly the five keys of
            `TrainingConfig`. Scalars are read by the core schema of YAML 1.2 (`2e-5` is a number,
            `no` and `2024-01-01` are text).

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: The file cannot be used; lists every fault, each with its line.
    """
    return read_config_file(path).config


def read_config_file(path: str | Path) -> ConfigFile:
    """As `load_training_config`, with what its provenance needs: one read gives both."""
    try:
        with naming(Path(path)), open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such training config.") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: expected a file, found a folder.") from error
    return ConfigFile(config=parse_training_config(data, path), path=str(path), sha256=sha256(data))


def parse_training_config(data: bytes, source: str | Path) -> TrainingConfig:
    """As `load_training_config`, from the bytes of the file `source`."""
    values: dict[str, object] = {}
    faults: list[tuple[int, str]] = []
    for line, key, value in _entries(data, source):
        if key not in _CHECKS:
            from difflib import get_close_matches  # only an error has a use for it

            near = get_close_matches(key, _CHECKS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(_CHECKS)}."
            faults.append((line, f"unknown key {_shown(key)}, {hint}"))
        elif key in values:
            faults.append((line, f"{key}: this key is given twice. Keep one of the two."))
        else:
            values[key] = value
            try:
                _CHECKS[key](value)
            except ValueError as error:
                faults.append((line, _fault(key, error)))
    lines = [f"{source}:{line}: {fault}" for line, fault in faults] + [
        f"{source}: missing key {key!r}. Write e.g. `{key}: {_EXAMPLES[key]}`."
        for key in _CHECKS
        if key not in values
    ]
    if lines:
        raise ConfigError("\n".join(lines))
    return TrainingConfig(**values)  # type: ignore[arg-type]  # each was checked above


# --- What YAML may say ---------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """SafeLoader for a small file of scalars: no tags, a bounded number of nodes."""

    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"tags such as {_shown(event.tag)} are not read here. Remove it",
                problem_mark=event.start_mark,
            )
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_NODES} values, so this is no training config",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


def _entries(data: bytes, source: str | Path) -> Iterator[tuple[int, str, object]]:
    """Give each entry of the one mapping in a YAML file: line, key, value."""
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{source}: larger than {MAX_BYTES} bytes, so this is no training config."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}:{line}: not UTF-8 text. Save the file as UTF-8.") from error
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"the character {chr(error.character)!r} may not stand in YAML. Remove it."
        raise ConfigError(f"{source}:{line}: {what}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = shorten(", ".join(filter(None, [error.context, error.problem])), 200)
        raise ConfigError(f"{source}:{line}: not usable YAML: {what}.") from error
    except ValueError as error:  # PyYAML lets some through, e.g. that of chr()
        what = shorten(str(error), 200)
        raise ConfigError(f"{source}:{loader.line + 1}: not usable YAML: {what}.") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deeply, so this is no training config.") from error
    if not isinstance(root, yaml.MappingNode):
        found = "an empty file" if root is None else _shown(_value(root))
        raise ConfigError(f"{source}: expected one mapping of {', '.join(_CHECKS)}, found {found}.")
    for key, value in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else _shown(_value(key))
        yield key.start_mark.line + 1, name, _value(value)


def _value(node: yaml.Node) -> object:
    """Give what a node means in the core schema of YAML 1.2; a collection only as its kind."""
    if not isinstance(node, yaml.ScalarNode):
        return {} if isinstance(node, yaml.MappingNode) else []
    text: str = node.value
    if node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text if len(text) <= MAX_DIGITS else text[0] + "9" * MAX_DIGITS)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


# https://yaml.org/spec/1.2.2/#103-core-schema, less its octal and hexadecimal integers
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = (
    dict.fromkeys(["", "~", "null", "Null", "NULL"])
    | dict.fromkeys(["true", "True", "TRUE"], True)
    | dict.fromkeys(["false", "False", "FALSE"], False)
    | dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan)
    | dict.fromkeys(
        [sign + word for sign in ("", "+") for word in (".inf", ".Inf", ".INF")], math.inf
    )
    | dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf)
)


# --- What a value may be ------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text (in quotes, if need be), found {_shown(value)}.")
    text = value.strip()
    if not text:
        raise ValueError("expected text, found nothing but white space.")
    if len(text) > MAX_TEXT or not text.isprintable():
        raise ValueError(
            f"expected at most {MAX_TEXT} printable characters on one line, found {_shown(text)}."
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
        raise ValueError(f"expected a finite number above 0, found {_shown(value)}.")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected a whole number >= 1, found {_shown(value)}.")
    if value > MAX_INTEGER:
        raise ValueError(f"expected a whole number <= {MAX_INTEGER}, found {_shown(value)}.")
    return value


_CHECKS: dict[str, Callable[[object], Any]] = {
    "base_model": _text,
    "dataset_version": _version,
    "learning_rate": _rate,
    "epochs": _count,
    "batch_size": _count,
}
_EXAMPLES = {
    "base_model": "mistral-7b",
    "dataset_version": "dataset_v1",
    "learning_rate": "2e-5",
    "epochs": "3",
    "batch_size": "16",
}


def _fault(key: str, error: ValueError) -> str:
    return f"{key}: {error} Write e.g. `{key}: {_EXAMPLES[key]}`."


def _shown(value: object) -> str:
    """Name a value in the words of the file it came from."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return shown(value)
