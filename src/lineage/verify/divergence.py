"""Differences between a recorded training and another one from the same inputs. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.records.canonical import dotted
from src.rendering.text import as_text

__all__ = ["changed_names", "environment_differences", "first_step_difference"]

LOSS = "loss"
LINES = "lines"  # the numbers of the lines of the batch in data.jsonl, from 1
MAX_LINES, MAX_CHANGES = 32, 5
MAX_TEXT = 100  # characters of a value

Point = Mapping[str, Any]
_ABSENT = object()  # which differs from a value that is null


def first_step_difference(recorded: Sequence[Point], new: Sequence[Point]) -> str:
    """Return the first step at which two histories differ, and how; empty if they are equal.

    A step with another loss is preferred to an earlier one with another value, such as a time.

    Args:
        recorded: The points of the recorded training, in the order of their steps.
        new: The points of the new training, in the same order.
    """
    ones, others = ({point["step"]: point for point in points} for points in (recorded, new))
    steps = sorted(ones.keys() | others.keys())
    changed = {step: changed_names(ones.get(step, {}), others.get(step, {})) for step in steps}
    differing = [step for step in steps if LOSS in changed[step]]
    differing = differing or [step for step in steps if changed[step]]
    if not differing:
        return ""
    step = differing[0]
    return f"step {step}: {_step_difference(ones.get(step, {}), others.get(step, {}))}"


def _step_difference(one: Point, other: Point) -> str:
    if not one or not other:
        return "recorded, but not trained again" if one else "trained again, but not recorded"
    names = changed_names(one, other)
    changes = [
        f"{name} {_text(one, name)} recorded, {_text(other, name)} now"
        for name in sorted(names, key=lambda name: name != LOSS)
    ]
    lines = one.get(LINES)
    if LINES not in names and isinstance(lines, list) and lines:
        more = ", ..." if len(lines) > MAX_LINES else ""
        shown = ", ".join(_cut(as_text(line)) for line in lines[:MAX_LINES])
        changes.append(f"lines {shown}{more} of data.jsonl")
    return "; ".join(changes[:MAX_CHANGES])


def environment_differences(recorded: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return how the environments of two trainings differ, one text per fact."""
    ones, others = dict(dotted(recorded)), dict(dotted(new))
    return [
        f"{name}: {_text(ones, name)} recorded, {_text(others, name)} now"
        for name in changed_names(ones, others)
    ]


def changed_names(recorded: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the names under which two mappings have other values, or only one of them has one."""
    return sorted(
        name
        for name in recorded.keys() | new.keys()
        if recorded.get(name, _ABSENT) != new.get(name, _ABSENT)
    )


def _text(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "none"
    return "null" if values[name] is None else _cut(as_text(values[name]))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
