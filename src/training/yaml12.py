"""YAML of configs: one small mapping, by the YAML 1.2 core schema without octal and hexadecimal.

A file may be named by mistake, and errors reach logs and the API. So an error quotes nothing of a
file but its first unknown key, and values of known keys, truncated.
"""

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from src.errors import CorruptFileError
from src.names import closest
from src.records.layout import CONFIG_LIMIT
from src.storage import StorePath, is_url, open_file, read_file
from src.training.faults import ConfigError, Faults, yaml_repr
from src.training.settings import MAX_INTEGER

__all__ = [
    "Entry",
    "json_value",
    "mapping_entries",
    "parse_mapping",
    "read_config",
    "scalar_value",
]

MAX_NODES = 1000
MAX_DIGITS = 400  # the largest float has 309
MAX_KEY = 40  # characters of an unknown key
MAX_LEVELS = 8  # of lists and mappings in a value


class Entry(NamedTuple):
    """One `key: value` of a file.

    Attributes:
        line: The line of its key, from 1.
        node: Its value.
    """

    line: int
    node: yaml.Node


def read_config(path: str | Path | StorePath, kind: str) -> bytes:
    """Read a config file of at most `CONFIG_LIMIT` bytes.

    Args:
        path: The file.
        kind: The kind of config, e.g. `training config`; used in errors.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: The file is too large, or not a regular file.
        OSError: The file cannot be read; names the file.
    """
    try:
        if isinstance(path, StorePath) or is_url(path):
            data = open_file(path).read(CONFIG_LIMIT)
        else:
            data = read_file(Path(path), CONFIG_LIMIT)
    except CorruptFileError as error:
        raise ConfigError(str(error).removesuffix(" Left as found.")) from error
    if data is None:
        raise FileNotFoundError(f"{path}: no such {kind}.")
    return data


def parse_mapping(
    data: bytes,
    source: str | Path,
    kind: str,
    keys: Collection[str],
    faults: Faults,
    *,
    groups: Collection[str] = (),
) -> dict[str, Entry]:
    """Parse the one mapping of a YAML file.

    Args:
        data: The bytes of the file: UTF-8, at most 1 MiB.
        source: The file; used in errors.
        kind: The kind of config, e.g. `training config`; used in errors.
        keys: The keys that the mapping may have.
        faults: Receives a fault for every unknown or duplicate key; only the first unknown key is
            quoted.
        groups: Names of groups of keys that it may have as well, e.g. `trainer` for `trainer.rank`.

    Returns:
        The entries that the file has, in the order of the file.

    Raises:
        ConfigError: The data is not a YAML mapping, has tags, or has too many values.
    """
    return mapping_entries(_root(data, source, kind, keys), keys, faults, groups=groups)


def mapping_entries(
    node: yaml.MappingNode,
    keys: Collection[str],
    faults: Faults,
    prefix: str = "",
    *,
    groups: Collection[str] = (),
) -> dict[str, Entry]:
    """Return the entries of a mapping.

    Args:
        node: The mapping.
        keys: The keys that it may have.
        faults: Receives a fault for every unknown or duplicate key; only the first unknown key is
            quoted.
        prefix: What comes before a key in a fault, e.g. `trainer.`.
        groups: See `parse_mapping`.

    Returns:
        The entries that it has, in the order of the file.
    """
    found: dict[str, Entry] = {}
    has_unknown = False
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else yaml_repr(scalar_value(key))
        line = key.start_mark.line + 1
        group, _, member = name.partition(".")
        is_member = group in groups and _PLAIN_KEY.fullmatch(member)
        if name not in keys and not is_member:
            unknown = _unknown_key(name, keys, is_first=not has_unknown)
            faults.append((line, f"{prefix.removesuffix('.')}: {unknown}" if prefix else unknown))
            has_unknown = True
        elif name in found:
            faults.append((line, f"{prefix}{name}: duplicate key. Remove one of the two."))
        else:
            found[name] = Entry(line, value)
    return found


def _unknown_key(name: str, keys: Collection[str], *, is_first: bool) -> str:
    close = closest(name[:MAX_KEY], keys)
    if not is_first:
        return f"unknown key, did you mean {close!r}?" if close else "unknown key."
    quoted = f" {name!r}" if _PLAIN_KEY.fullmatch(name) else ""
    hint = f"did you mean {close!r}?" if close else f"the keys are {', '.join(keys)}."
    return f"unknown key{quoted}, {hint}"


# A key that a person mistypes. Others, such as `PASSWORD=...` or a URL, are not quoted.
_PLAIN_KEY = re.compile(rf"<<|\w[\w .-]{{0,{MAX_KEY - 1}}}")


class _Loader(yaml.SafeLoader):
    """SafeLoader for a small file of scalars: no tags, a bounded number of nodes."""

    nodes = 0
    kind = "config"

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="tags such as !!int are not supported. Remove the tag",
                problem_mark=event.start_mark,
            )
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_NODES} values, so this is not a {self.kind}",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


def _root(data: bytes, source: str | Path, kind: str, keys: Collection[str]) -> yaml.MappingNode:
    if len(data) > CONFIG_LIMIT:
        raise ConfigError(f"{source}: larger than {CONFIG_LIMIT:,} bytes.")
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
        reason = f"the character {chr(error.character)!r} is not allowed in YAML. Remove it."
        raise ConfigError(f"{source}:{line}: {reason}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = _NAMES.sub(r"\1", ", ".join(filter(None, [error.context, error.problem])))
        raise ConfigError(f"{source}:{line}: not valid YAML: {reason}.") from error
    except ValueError as error:  # PyYAML does not wrap some errors, such as that of chr()
        reason = "a number or an escape is out of range"
        raise ConfigError(f"{source}:{loader.line + 1}: not valid YAML: {reason}.") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deeply.") from error
    if not isinstance(root, yaml.MappingNode):
        found = "an empty file" if root is None else _kind(scalar_value(root))
        raise ConfigError(f"{source}: expected one mapping of {', '.join(keys)}, found {found}.")
    return root


# PyYAML's messages quote single characters of a file, and these names.
_NAMES = re.compile(r"(alias|anchor|tag handle) (?:'[^']*'|\"[^\"]*\")")


def _kind(value: object) -> str:
    """Return the kind of a value, for an error that must not quote it."""
    if isinstance(value, str):
        return "text"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number else yaml_repr(value)


def scalar_value(node: yaml.Node) -> object:
    """Return the value of a node in the core schema of YAML 1.2; `{}` or `[]` for a collection."""
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


# https://yaml.org/spec/1.2.2/#103-core-schema, without octal and hexadecimal integers
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


def json_value(node: yaml.Node) -> Any:
    """Return the value of a node with everything in it, as JSON has it.

    Raises:
        ValueError: A number is not finite or too large, a key is not text or occurs twice, or the
            value has too many parts, or too many levels.
    """
    return _JsonValue().of(node)


class _JsonValue:
    """Counts the parts of a value: an alias can repeat a large one many times."""

    count = 0

    def of(self, node: yaml.Node, depth: int = 1) -> Any:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_LEVELS:
            raise ValueError(f"expected at most {MAX_NODES} values in {MAX_LEVELS} levels.")
        if isinstance(node, yaml.SequenceNode):
            return [self.of(each, depth + 1) for each in node.value]
        if not isinstance(node, yaml.MappingNode):
            return _json_scalar(scalar_value(node))
        value: dict[str, Any] = {}
        for key, each in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else yaml_repr(scalar_value(key))
            if not isinstance(key, yaml.ScalarNode) or not _PLAIN_KEY.fullmatch(name):
                raise ValueError(f"expected keys of at most {MAX_KEY} letters, digits and '_.-'.")
            if name in value:
                raise ValueError(f"{name}: duplicate key. Remove one of the two.")
            value[name] = self.of(each, depth + 1)
        return value


def _json_scalar(value: object) -> object:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError("expected text, found half of a character (a surrogate).") from error
    is_too_large = isinstance(value, int) and abs(value) > MAX_INTEGER
    if is_too_large or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"expected a finite number, found {yaml_repr(value)}.")
    return value
