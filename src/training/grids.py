"""Configs of a sweep: files found by pattern, grids of values, and variants of one config."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from glob import escape, glob, has_magic
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from src.artifacts import Artifacts
from src.errors import CorruptFileError, truncated_repr
from src.records.canonical import is_same_json, sha256
from src.storage import StorePath
from src.training.component_config import COMPONENT_KEYS
from src.training.config import (
    BASE,
    ConfigFile,
    base_path,
    config_text,
    read_config_file,
    with_options,
)
from src.training.faults import ConfigError, Faults, yaml_repr
from src.training.settings import CHECKS, TrainingConfig, config_fault
from src.training.yaml12 import Entry, json_value, parse_mapping, read_config, scalar_value

__all__ = ["GridPoint", "find_configs", "read_grid", "write_grid", "write_variant"]

KIND = "sweep"
MAX_CONFIGS = 10_000
EXAMPLE = f"{BASE}: configs/training/mistral_finetune.yaml"


class GridPoint(NamedTuple):
    """One config of a grid.

    Attributes:
        config: Its settings.
        options: The options of trainer and evaluator whose values differ from the config that names
            these; see `with_options`.
    """

    config: TrainingConfig
    options: Mapping[str, Any]


def find_configs(patterns: Iterable[str]) -> list[str]:
    """Return the training configs that match, each once, in the order given.

    Args:
        patterns: Paths, or patterns such as `configs/training/**/*.yaml` whose matches are sorted
            by name; `**` follows no links to folders. The file at a path need not exist.

    Raises:
        FileNotFoundError: No file matches a pattern; names the pattern.
        OSError: A folder below a `**` cannot be listed; names the folder.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = sorted(_matches(pattern)) if has_magic(pattern) else [pattern]
        if not matches:
            raise FileNotFoundError(f"{pattern}: no training config matches this pattern.")
        found |= dict.fromkeys(matches)
    return list(found)


def _matches(pattern: str) -> Iterator[str]:
    """Yield the paths that match a pattern, in any order.

    The `**` of `glob` follows links, and does not end if two links lead to their own folder. That
    of `Path.glob` finds hidden files, and both skip folders that cannot be listed.
    """
    if pattern.endswith("**"):
        pattern += "/*"
    head, recursive, tail = pattern.partition("**/")
    if not recursive or (head and not head.endswith("/")):
        yield from glob(pattern)  # noqa: PTH207  # Path.glob does not take absolute patterns
        return
    for top in glob(head) if head else ["./"]:  # noqa: PTH207
        for here, folders, _ in os.walk(top, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            place = os.path.join(escape(here), tail)  # noqa: PTH118  # keeps the pattern as it is
            yield from _matches(place if head else place.removeprefix("./"))


def _raise(error: OSError) -> None:
    raise error


def write_grid(path: str | Path, artifacts: Artifacts) -> dict[str, str]:
    """Write every config of a grid to a file, so that each can be run alone.

    Afterwards the artifacts root holds `sweeps/<name of the grid>-<digest>.yaml` for each config.
    The digest is the first 12 hexadecimal digits of the config hash, or of the SHA-256 of the file
    if the base config names a trainer or an evaluator. So a file never changes.

    Args:
        path: The grid; see `read_grid`.
        artifacts: The artifacts root.

    Returns:
        The SHA-256 of each file by its path, in the order of `read_grid`.

    Raises:
        FileNotFoundError, ConfigError: See `read_grid`.
        CorruptFileError: One of the files exists and was edited.
        OSError, ValueError: The file cannot be written; see `Store.create`.
    """
    base, points = _read_grid(path)
    files = dict(_file(point, base, Path(path).stem, artifacts) for point in points)
    durable = artifacts.root.store.create_many({file.key: text for file, text in files.items()})
    for file, text in files.items():
        if file.key not in durable:
            _create(file, text)
    return {str(file): sha256(text) for file, text in files.items()}


def write_variant(path: str | Path, settings: Sequence[str], artifacts: Artifacts) -> StorePath:
    """Write a config with other values to a file; the config itself is not changed.

    Afterwards the artifacts root holds `sweeps/<name of the config>-<digest>.yaml`; see
    `write_grid`.

    Args:
        path: The training config.
        settings: The new values, each as `key=value`, e.g. `learning_rate=1e-4` or
            `trainer.rank=8`. A value is written as in a config.
        artifacts: The artifacts root.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: There is no such config.
        ConfigError: The config or a setting is not valid; lists every such setting.
        CorruptFileError, OSError, ValueError: See `write_grid`.
    """
    base = read_config_file(path)
    values = _settings(settings)
    try:
        point = _point(base, values)
    except ValueError as error:
        raise ConfigError(f"setting {error}") from error
    file, text = _file(point, base, Path(path).stem, artifacts)
    _create(file, text)
    return file


def _point(base: ConfigFile, values: Mapping[str, Any]) -> GridPoint:
    """Return a config with other values of its settings and of options of its components.

    Raises:
        ValueError: See `with_options`.
    """
    settings = {name: value for name, value in values.items() if name in CHECKS}
    options = {name: value for name, value in values.items() if name not in CHECKS}
    with_options(base, options)  # for its errors alone
    return GridPoint(replace(base.config, **settings), {**base.changed_options, **options})


def _file(
    point: GridPoint, base: ConfigFile, name: str, artifacts: Artifacts
) -> tuple[StorePath, bytes]:
    """Return the path of the file of a config, from its name and digest, and its bytes.

    The file names no code: it refers to the config that names trainer and evaluator.
    """
    path = base.component_path if base.has_component else None
    text = config_text(point.config, path, point.options)
    digest = sha256(text) if base.has_component else point.config.config_hash
    return artifacts.sweeps / f"{name}-{digest[:12]}.yaml", text


def _create(file: StorePath, text: bytes) -> None:
    """Write a file unless it exists; raise `CorruptFileError` if it has other bytes."""
    if file.create(text) != text:
        raise CorruptFileError(
            f"{file}: edited after it was written. Left as found; delete the file to have it "
            "written again."
        )


def _settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse settings of the form `key=value` with the rules of a config."""
    values: dict[str, Any] = {}
    faults = []
    for setting in settings:
        try:
            key, value = _setting(setting)
            if key in values:
                faults.append(f"{_label(setting)}: duplicate key. Remove one of the two.")
            values[key] = value
        except ConfigError as error:
            label = _label(setting)  # followed by a line number, which is always 1
            faults.append(str(error).replace(f"{label}:1:", f"{label}:"))
    if faults:
        raise ConfigError("\n".join(faults))
    return values


def _setting(setting: str) -> tuple[str, Any]:
    label, faults = _label(setting), Faults()
    key, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"{label}: expected key=value. Write e.g. `epochs=3`.")
    document = f"{key}: {text}".encode(errors="surrogateescape")
    entries = parse_mapping(document, label, "setting", CHECKS, faults, groups=COMPONENT_KEYS)
    faults.check(label)
    if list(entries) != [key]:  # a line end or a bracket can hide another key
        raise ConfigError(f"{label}: expected one value. Write e.g. `epochs=3`.")
    try:
        return key, _value(key, entries[key].node)
    except ValueError as error:
        raise ConfigError(f"{label}: {error}") from error


def _label(setting: str) -> str:
    return f"setting {truncated_repr(setting)}"


def read_grid(path: str | Path) -> list[GridPoint]:
    """Read the configs of a grid from a YAML file.

    Args:
        path: The file. `base_config` names a training config; every other key is a key of a
            config, or an option of its trainer or evaluator, with the list of its values, e.g.
            `learning_rate: [1e-5, 2e-5]` and `trainer.rank: [4, 8]`. Syntax and size limit are
            those of a config; there are at most 10,000 combinations.

    Returns:
        The base config with every combination of the values; the values of the last key vary
        first.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: The file or the base config is not valid; lists every fault with its line.
    """
    return _read_grid(path)[1]


def _read_grid(path: str | Path) -> tuple[ConfigFile, list[GridPoint]]:
    """Return the base config of a grid, and the configs; see `read_grid`."""
    faults = Faults()
    keys = [BASE, *CHECKS]
    data = read_config(path, KIND)
    entries = parse_mapping(data, path, KIND, keys, faults, groups=COMPONENT_KEYS)
    missing = [] if BASE in entries else [f"missing key {BASE!r}. Write e.g. `{EXAMPLE}`."]
    values = {
        key: _base(entry, faults) if key == BASE else _values(key, entry, faults)
        for key, entry in entries.items()
    }
    for key, entry in entries.items():
        if inner := [each for each in entries if each.startswith(f"{key}.")]:
            faults.append((entry.line, f"{key}: contains {inner[0]}. Vary one of the two."))
    faults.check(path, *missing)
    [base] = values.pop(BASE)
    if (count := prod(map(len, values.values()))) > MAX_CONFIGS:
        raise ConfigError(f"{path}: {count:,} configs. A sweep has at most {MAX_CONFIGS:,}.")
    try:
        return base, [
            _point(base, dict(zip(values, point, strict=True)))
            for point in product(*values.values())
        ]
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _base(entry: Entry, faults: Faults) -> list[ConfigFile]:
    """Return the base config as the only item; append a fault if it is not valid."""
    before = len(faults)
    path = base_path(entry, faults)
    if len(faults) > before:
        return []
    try:
        return [read_config_file(path)]
    except (OSError, ValueError) as error:
        faults.append((entry.line, f"{BASE}: {error}"))
        return []


def _value(key: str, node: yaml.Node) -> Any:
    """Return the value of a setting or of an option; raise `ValueError` if it is not valid."""
    return CHECKS[key](scalar_value(node)) if key in CHECKS else json_value(node)


def _values(key: str, entry: Entry, faults: Faults) -> list[Any]:
    """Return the values of one key; append a fault for each that is not valid."""
    nodes = entry.node.value if isinstance(entry.node, yaml.SequenceNode) else [entry.node]
    values: list[Any] = []
    for node in nodes:
        line = node.start_mark.line + 1
        try:
            value = _value(key, node)
        except ValueError as error:
            is_setting = key in CHECKS
            faults.append((line, config_fault(key, error) if is_setting else f"{key}: {error}"))
            continue
        if any(is_same_json(value, each) for each in values):
            faults.append((line, f"{key}: duplicate value {yaml_repr(value)}."))
        values.append(value)
    if not nodes:
        faults.append((entry.line, f"{key}: expected a list of values, found an empty list."))
    return values
