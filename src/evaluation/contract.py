"""The contract of an evaluator: what it gets, and what it returns.

An evaluator is a callable that receives an `EvaluationRun` and returns its metrics by name, which
are finite numbers. It may have the attributes `version`, `check_options`, `measured` and `better`;
see `src.components.child`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.records.dataset_version import DatasetVersion

__all__ = ["EvaluationRun"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRun:
    """One evaluation, as an evaluator gets it.

    Attributes:
        model: The folder with the files of the model; `None` if the trainer was the simulated one.
        metadata: The contents of the model's metadata.json.
        dataset: The data to measure on; `dataset.path` is its data.jsonl.
        options: The options of the evaluator.
        seed: Seed of its random numbers.
        settings: Values for this run only, e.g. a device. They are not recorded.
    """

    model: Path | None
    metadata: Mapping[str, Any]
    dataset: DatasetVersion
    options: Mapping[str, Any]
    seed: int
    settings: Mapping[str, Any]
