"""The options and the run settings of the trainer and the evaluator, checked."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from src.errors import truncated_repr
from src.finetuning.samples import Template
from src.names import closest

__all__ = ["check_module_names", "evaluator_options", "run_settings", "trainer_options"]

ALL_LINEAR = "all-linear"
DTYPES = ("float32", "bfloat16")
DEVICES = ("cpu", "cuda")

_Check = Callable[[Any], Any]
_COMMIT = re.compile("[0-9a-f]{40}")


def trainer_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `lora` with their defaults.

    Raises:
        ValueError: Names each option that is not valid, one per line.
    """
    return _checked(options, _TRAINER, "option")


def evaluator_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `held-out-loss` with their defaults; raises as `trainer_options`."""
    return _checked(options, _EVALUATOR, "option")


def run_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the key `run` with their defaults; raises as `trainer_options`."""
    return _checked(settings, _RUN, "setting of `run`", prefix="run.")


def check_module_names(options: Mapping[str, Any], modules: Sequence[str]) -> None:
    """Check that each module that the options of `lora` name exists, as peft ignores unknown ones.

    Raises:
        ValueError: Names each that does not, one per line.
    """
    last_parts = sorted({module.rpartition(".")[2] for module in modules})
    faults = []
    for option in ("target_modules", "modules_to_save"):
        names = options[option]
        for name in [] if names == ALL_LINEAR else names:
            if not any(f".{module}".endswith(f".{name}") for module in modules):
                near = closest(name, last_parts)
                hint = f", did you mean {near!r}?" if near else "."
                faults.append(f"trainer.options.{option}: the base model has no {name!r}{hint}")
    if faults:
        raise ValueError("\n".join(faults))


def _checked(
    given: Mapping[str, Any],
    checks: Mapping[str, tuple[Any, _Check]],
    kind: str,
    *,
    prefix: str = "",
) -> dict[str, Any]:
    faults = []
    for name in given.keys() - checks.keys():
        near = closest(name, checks)
        hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(checks)}."
        faults.append(f"{prefix}{name}: unknown {kind}, {hint}")
    values = {}
    for name, (default, check) in checks.items():
        try:
            values[name] = check(given[name]) if name in given else default
        except ValueError as error:
            faults.append(f"{prefix}{name}: {error}")
    if faults:
        raise ValueError("\n".join(sorted(faults)))
    return values


def _expected(expected: str, found: object) -> ValueError:
    return ValueError(f"expected {expected}, found {truncated_repr(found)}.")


def _optional(check: _Check) -> _Check:
    return lambda value: None if value is None else check(value)


def _text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise _expected("text", value)


def _commit(value: object) -> str:
    if isinstance(value, str) and _COMMIT.fullmatch(value):
        return value
    raise _expected("the hash of a commit, 40 hexadecimal digits", value)


def _template(value: object) -> str:
    if not isinstance(value, str):
        raise _expected("text with names of fields, such as '{input}'", value)
    return Template(value).text


def _integer(least: int) -> _Check:
    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        raise _expected(f"an integer >= {least}", value)

    return check


def _number(expected: str, is_valid: Callable[[float], bool]) -> _Check:
    def check(value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and is_valid(value):  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
        raise _expected(expected, value)

    return check


def _one_of(names: tuple[str, ...]) -> _Check:
    def check(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise _expected(" or ".join(names), value)

    return check


def _names(value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(each, str) and each for each in value):
        return sorted(set(value))
    raise _expected("a list of names of modules", value)


def _targets(value: object) -> str | list[str]:
    if value == ALL_LINEAR:
        return ALL_LINEAR
    if isinstance(value, list) and value:
        return _names(value)
    raise _expected(f"{ALL_LINEAR} or a list of names of modules", value)


_FRACTION = _number("a number from 0, below 1", lambda value: 0 <= value < 1)
_TRAINER: dict[str, tuple[Any, _Check]] = {
    "model": (None, _optional(_text)),  # by default `base_model` of the config
    "revision": (None, _optional(_commit)),
    "prompt": ("{input}\n", _template),
    "completion": ("{output}", _template),
    "max_length": (512, _integer(2)),
    "rank": (8, _integer(1)),
    "alpha": (16.0, _number("a number above 0", lambda value: 0 < value < float("inf"))),
    "dropout": (0.0, _FRACTION),
    "target_modules": (ALL_LINEAR, _targets),
    "modules_to_save": ([], _names),
    "held_out": (0.1, _FRACTION),
    "max_steps": (None, _optional(_integer(1))),  # by default all epochs
    "save_steps": (50, _integer(1)),
    "dtype": ("float32", _one_of(DTYPES)),
}
_EVALUATOR: dict[str, tuple[Any, _Check]] = {
    "batch_size": (8, _integer(1)),
    "price_per_million_tokens": (
        0.0,
        _number("a number from 0", lambda value: 0 <= value < float("inf")),
    ),
}
_RUN: dict[str, tuple[Any, _Check]] = {
    "device": (None, _optional(_one_of(DEVICES))),  # by default cuda if there is one
    "threads": (1, _integer(1)),
}
