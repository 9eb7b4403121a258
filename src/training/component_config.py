"""The mappings `trainer` and `evaluator` of a training config."""

import re
from collections.abc import Callable
from typing import Any

import yaml

from src.components.component import COMMAND, Component, Execution
from src.names import check_version, is_metric_name
from src.training.faults import Faults, yaml_repr
from src.training.settings import MAX_INTEGER
from src.training.yaml12 import json_value, mapping_entries, scalar_value

__all__ = [
    "COMPONENT_KEYS",
    "COMPONENT_NAME",
    "MAX_SECONDS",
    "MAX_TEXT",
    "OBJECT_NAME",
    "SEED",
    "check_seed",
    "keys_refused",
    "parse_component",
]

SEED = "seed"
MAX_TEXT = 4096
MAX_SECONDS = 1e9
COMPONENT_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
OBJECT_NAME = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_USE = re.compile(f"{COMPONENT_NAME}|{OBJECT_NAME}", re.ASCII)


def parse_component(key: str, node: yaml.Node, line: int, faults: Faults) -> Component | None:
    """Parse the mapping of a trainer or an evaluator.

    Args:
        key: `trainer` or `evaluator`.
        node: The mapping.
        line: The line of its key.
        faults: Receives a fault for everything that is not valid.

    Returns:
        The component; `None` if it has faults.
    """
    if not isinstance(node, yaml.MappingNode):
        found = yaml_repr(scalar_value(node))
        reason = f"{key}: expected a mapping, found {found}. Write e.g. `{key}: {{use: simulated}}`"
        faults.append((line, f"{reason}."))
        return None
    before = len(faults)
    entries = mapping_entries(node, COMPONENT_KEYS[key], faults, f"{key}.")
    values: dict[str, Any] = {}
    for name, entry in entries.items():
        try:
            values[name] = _CHECKS[name](json_value(entry.node))
        except ValueError as error:
            faults.append((entry.line, f"{key}.{name}: {error}"))
    if "use" not in entries:
        faults.append((line, f"{key}: missing key 'use'. Write e.g. `use: simulated`."))
    elif "use" in values:
        _check_command(key, values, entries["use"].line, faults)
    if len(faults) > before:
        return None
    lines = {name: entry.line for name, entry in entries.items()}
    if "options" in entries and isinstance(entries["options"].node, yaml.MappingNode):
        pairs = entries["options"].node.value
        lines |= {f"options.{name.value}": name.start_mark.line + 1 for name, _ in pairs}
    execution = {
        name: values.pop(given)
        for name, given in (
            ("python", "python"),
            ("timeout_seconds", "timeout_seconds"),
            ("settings", "run"),
        )
        if given in values
    }
    return Component(**values, execution=Execution(**execution), lines=lines)


def _check_command(key: str, values: dict[str, Any], line: int, faults: Faults) -> None:
    is_command = values["use"] == COMMAND
    if is_command and "argv" not in values:
        faults.append((line, f"{key}: missing key 'argv'. Write e.g. `argv: [python, train.py]`."))
    only = "only for" if not is_command else "not for"
    faults.extend(
        (line, f"{key}.{name}: {only} `use: command`. Remove it.")
        for name in keys_refused(is_command=is_command)
        if name in values
    )


def keys_refused(*, is_command: bool) -> tuple[str, ...]:
    """Return the keys that are not valid for a command, or for a function if not `is_command`."""
    return ("python",) if is_command else ("argv", "measured", "better")


def _use(value: object) -> str:
    if isinstance(value, str) and _USE.fullmatch(value):
        return value
    raise ValueError(
        "expected the name of an installed component, `module:attribute` or `command`, found "
        f"{yaml_repr(value)}."
    )


def _mapping(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"expected a mapping, found {yaml_repr(value)}.")


def check_seed(value: object) -> int:
    """Return a seed; raise `ValueError` if it is not valid."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"expected an integer >= 0, found {yaml_repr(value)}.")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT or "\0" in value:
        raise ValueError(
            f"expected text of at most {MAX_TEXT} characters, found {yaml_repr(value)}."
        )
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"expected a list of texts, found {yaml_repr(value)}.")
    return tuple(_text(each) for each in value)


def _metric_names(value: object) -> tuple[str, ...]:
    names = _texts(value)
    for name in names:
        if not is_metric_name(name):
            raise ValueError(f"expected names of metrics, found {yaml_repr(name)}.")
    return names


def _patterns(value: object) -> tuple[str, ...]:
    patterns = _texts(value if isinstance(value, list) else [value])
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise ValueError(
                f"expected patterns below the working directory, found {yaml_repr(pattern)}."
            )
    return patterns


def _seconds(value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= MAX_SECONDS
    ):
        raise ValueError(f"expected seconds above 0, found {yaml_repr(value)}.")
    return float(value)


def _directions(value: object) -> dict[str, str]:
    directions = _mapping(value)
    for name, direction in directions.items():
        if direction not in ("higher", "lower"):
            raise ValueError(f"{name}: expected higher or lower, found {yaml_repr(direction)}.")
    return directions


def _version(value: object) -> str:
    try:
        return check_version("", value)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(": ")) from error


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "use": _use,
    "options": _mapping,
    SEED: check_seed,
    "argv": _texts,
    "code": _patterns,
    "base_model": _patterns,
    "dataset_version": _version,
    "measured": _metric_names,
    "better": _directions,
    "python": _text,
    "timeout_seconds": _seconds,
    "run": _mapping,
}
_OF_EVALUATOR = ("dataset_version", "measured", "better")
_OF_TRAINER = ("base_model",)
COMPONENT_KEYS = {
    "trainer": [name for name in _CHECKS if name not in _OF_EVALUATOR],
    "evaluator": [name for name in _CHECKS if name not in _OF_TRAINER],
}
"""The keys of each of the two mappings."""
