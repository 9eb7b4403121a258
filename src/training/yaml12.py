"""YAML as configs are written in: one small mapping, by the core schema of YAML 1.2."""

import math
import re
from collections.abc import Collection
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import yaml

from src.storage import naming, shown

__all__ = ["ConfigError", "Entry", "Faults", "read_bytes", "read_mapping", "value_of", "worded"]

MAX_BYTES = 1 << 20
MAX_NODES = 1000
MAX_DIGITS = 400  # a longer number is as good as endless: the greatest float has 309


class ConfigError(ValueError):
    """A config that cannot be used; the message lists every fault with its line."""


class Entry(NamedTuple):
    """One `key: value` of a file.

    Attributes:
        line: The line of its key, from 1.
        node: Its value.
    """

    line: int
    node: yaml.Node


class Faults(list[tuple[int, str]]):
    """What is wrong with a file: lines, from 1, and what to tell of them."""

    def check(self, source: str | Path, *more: str) -> None:
        """Raise if there is any.

        Args:
            source: The file.
            more: Faults that have no line.

        Raises:
            ConfigError: There is; lists all, in the order of their lines.
        """
        lines = [f"{source}:{line}: {fault}" for line, fault in sorted(self)]
        if lines or more:
            raise ConfigError("\n".join([*lines, *(f"{source}: {fault}" for fault in more)]))


def read_bytes(path: str | Path, kind: str) -> bytes:
    """Read a config file, but no more of it than shows that it is too large to be one.

    Args:
        path: The file.
        kind: What it is, e.g. `training config`; for the error.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It is a folder.
        OSError: It cannot be read; names it.
    """
    try:
        with naming(Path(path)), open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such {kind}.") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: expected a file, found a folder.") from error


def read_mapping(
    data: bytes, source: str | Path, kind: str, keys: Collection[str], faults: Faults
) -> dict[str, Entry]:
    """Read the one mapping in a YAML file.

    Args:
        data: The bytes of the file: UTF-8, at most 1 MiB.
        source: The file, for errors.
        kind: What it is, e.g. `training config`; for errors.
        keys: The keys it may have.
        faults: Gets unknown keys, and those given twice.

    Returns:
        The entries of the `keys` that are there, in the order of the file.

    Raises:
        ConfigError: It is not a mapping in YAML, has tags, or too many values.
    """
    found: dict[str, Entry] = {}
    for key, value in _root(data, source, kind, keys).value:
        name = key.value if isinstance(key, yaml.ScalarNode) else worded(value_of(key))
        line = key.start_mark.line + 1
        if name not in keys:
            from difflib import get_close_matches  # only an error has a use for it

            near = get_close_matches(name, keys, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(keys)}."
            faults.append((line, f"unknown key {worded(name)}, {hint}"))
        elif name in found:
            faults.append((line, f"{name}: this key is given twice. Keep one of the two."))
        else:
            found[name] = Entry(line, value)
    return found


class _Loader(yaml.SafeLoader):
    """SafeLoader for a small file of scalars: no tags, a bounded number of nodes."""

    nodes = 0
    kind = "config"

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"tags such as {worded(event.tag)} are not read here. Remove it",
                problem_mark=event.start_mark,
            )
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_NODES} values, so this is no {self.kind}",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


def _root(data: bytes, source: str | Path, kind: str, keys: Collection[str]) -> yaml.MappingNode:
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_BYTES} bytes, so this is no {kind}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}:{line}: not UTF-8 text. Save the file as UTF-8.") from error
    try:
        loader = _Loader(text)
        loader.kind = kind
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
        raise ConfigError(f"{source}: nested too deeply, so this is no {kind}.") from error
    if not isinstance(root, yaml.MappingNode):
        found = "an empty file" if root is None else worded(value_of(root))
        raise ConfigError(f"{source}: expected one mapping of {', '.join(keys)}, found {found}.")
    return root


def value_of(node: yaml.Node) -> object:
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


def worded(value: object) -> str:
    """Name a value in the words of the file it came from."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return shown(value)
