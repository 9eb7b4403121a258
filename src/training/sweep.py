"""Sweeps: which training configs there are to run."""

from collections.abc import Iterable
from dataclasses import replace
from glob import glob, has_magic
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import yaml

from src.artifacts import Artifacts
from src.storage import CorruptFileError, create
from src.training.config import (
    CHECKS,
    TrainingConfig,
    config_text,
    fault,
    load_training_config,
)
from src.training.yaml12 import (
    ConfigError,
    Entry,
    Faults,
    read_bytes,
    read_mapping,
    value_of,
    worded,
)

__all__ = ["find_configs", "read_grid", "write_grid"]

KIND = "sweep"
BASE = "base_config"
MAX_CONFIGS = 10_000
EXAMPLE = f"{BASE}: configs/training/mistral_finetune.yaml"


def find_configs(patterns: Iterable[str]) -> list[str]:
    """List training configs, each once, in the order given.

    Args:
        patterns: Files, or patterns such as `configs/training/**/*.yaml`, the matches of which
            come in the order of their names. A file need not be there.

    Raises:
        FileNotFoundError: Nothing matches a pattern; names it.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        # Not Path.glob: a pattern may be absolute.
        matches = sorted(glob(pattern, recursive=True)) if has_magic(pattern) else [pattern]  # noqa: PTH207
        if not matches:
            raise FileNotFoundError(f"{pattern}: no training config matches this.")
        found |= dict.fromkeys(matches)
    return list(found)


def write_grid(path: str | Path, artifacts: Artifacts) -> list[str]:
    """Write down every config of a grid, so that each can be run again by itself.

    Afterwards there is `sweeps/<name of the grid>-<digest>.yaml` below the artifacts root for
    each: the digest is 12 hexadecimal digits of the config's hash, so the file never changes.

    Args:
        path: The grid, as `read_grid` reads it.
        artifacts: Where they go.

    Returns:
        The files, in the order of `read_grid`.

    Raises:
        FileNotFoundError, ConfigError: As `read_grid`.
        CorruptFileError: One of the files was edited.
        OSError, ValueError: As `storage.create`.
    """
    files = []
    for config in read_grid(path):
        file = artifacts.sweeps / f"{Path(path).stem}-{config.config_hash[:12]}.yaml"
        text = config_text(config)
        if create(file, text, root=Path(artifacts.root)) != text:
            what = "edited since it was written. Left as found; delete it to have it written again."
            raise CorruptFileError(f"{file}: {what}")
        files.append(str(file))
    return files


def read_grid(path: str | Path) -> list[TrainingConfig]:
    """Read the configs of a grid from a YAML file.

    Args:
        path: The file: `base_config`, a training config; and any of its keys, each with the values
            that it takes in turn: `learning_rate: [1e-5, 2e-5]`. Limits are those of a config.

    Returns:
        The base config with every combination of the values, the last key's values varying first.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: The file, or the base config, cannot be used; lists every fault with its line.
    """
    faults = Faults()
    entries = read_mapping(read_bytes(path, KIND), path, KIND, [BASE, *CHECKS], faults)
    missing = [] if BASE in entries else [f"missing key {BASE!r}. Write e.g. `{EXAMPLE}`."]
    values = {
        key: _base(entry, faults) if key == BASE else _values(key, entry, faults)
        for key, entry in entries.items()
    }
    faults.check(path, *missing)
    bases = values.pop(BASE)
    if (count := prod(map(len, values.values()))) > MAX_CONFIGS:
        raise ConfigError(f"{path}: {count:,} configs; a sweep has at most {MAX_CONFIGS:,}.")
    return [
        replace(base, **dict(zip(values, point, strict=True)))
        for base, *point in product(bases, *values.values())
    ]


def _base(entry: Entry, faults: Faults) -> list[TrainingConfig]:
    path = value_of(entry.node)
    if not isinstance(path, str):
        what = f"expected the path of a training config, found {worded(path)}."
        faults.append((entry.line, f"{BASE}: {what}"))
        return []
    try:
        return [load_training_config(path)]
    except (OSError, ValueError) as error:
        faults.append((entry.line, f"{BASE}: {error}"))
        return []


def _values(key: str, entry: Entry, faults: Faults) -> list[Any]:
    """Give the values of one key; adds what is wrong with them to `faults`."""
    nodes = entry.node.value if isinstance(entry.node, yaml.SequenceNode) else [entry.node]
    values: list[Any] = []
    for node in nodes:
        line = node.start_mark.line + 1
        try:
            value = CHECKS[key](value_of(node))
        except ValueError as error:
            faults.append((line, fault(key, error)))
            continue
        if value in values:
            faults.append((line, f"{key}: {value!r} is given twice."))
        values.append(value)
    if not nodes:
        faults.append((entry.line, f"{key}: expected a list of values, found an empty one."))
    return values
