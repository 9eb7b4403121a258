"""Program: describe or run an evaluator that is written in Python; see `src.components.child`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from collections.abc import Callable, Mapping
from typing import Any

from src.components.child import FAULT_FILE, METRICS_FILE, plain_number, serve, write_json
from src.errors import truncated_repr
from src.evaluation.contract import EvaluationRun
from src.records.dataset_version import DatasetVersion

__all__ = ["main"]


def main() -> None:
    """Run the evaluator that the file of the run names."""
    serve("evaluator", _evaluate)


def _evaluate(evaluator: Callable[..., Any], run: dict[str, Any], _: int) -> None:
    metrics = evaluator(
        EvaluationRun(
            model=None if run["model"] is None else Path(run["model"]),
            metadata=run["metadata"],
            dataset=DatasetVersion(**run["dataset_version"]),
            options=run["options"],
            seed=run["seed"],
            settings=run["settings"],
        )
    )
    output = Path(run["output"])
    try:
        write_json(output / METRICS_FILE, _numbers(metrics))
    except ValueError as error:
        write_json(output / FAULT_FILE, {"error": str(error)})


def _numbers(metrics: object) -> dict[str, float]:
    """Return the metrics that an evaluator returned, as plain numbers by name.

    Raises:
        ValueError: They are not numbers by name; the message has the value that was found.
    """
    if not isinstance(metrics, Mapping):
        raise ValueError(f"expected a dict of numbers, found {type(metrics).__name__}.")
    numbers = {}
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise ValueError(f"expected names that are texts, found {truncated_repr(name)}.")
        at = truncated_repr(name)
        try:
            number = plain_number(value)
        except Exception as error:  # of the library of the value, e.g. for an array
            raise ValueError(f"{at}: expected one number, found {_kind(value)}.") from error
        if not isinstance(number, int | float):
            raise ValueError(f"{at}: expected a number, found {_kind(number)}.")
        numbers[name] = number
    return numbers


def _kind(value: object) -> str:
    return f"{truncated_repr(value)} ({type(value).__name__})"


if __name__ == "__main__":
    main()
