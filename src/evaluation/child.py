"""Program: describe or run an evaluator that is written in Python; see `src.components.child`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from collections.abc import Callable
from typing import Any

from src.components.child import METRICS_FILE, plain_number, serve, write_json
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
    numbers = {str(name): plain_number(value) for name, value in metrics.items()}
    write_json(Path(run["output"]) / METRICS_FILE, numbers)


if __name__ == "__main__":
    main()
