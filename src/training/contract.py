"""The contract of a trainer: what it gets, and what it leaves.

A trainer is a callable that receives a `TrainingRun`. The files that it leaves in `output` are the
model. It may have the attributes `version`, `check_options` and `base_model`; see
`src.components.child`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.records.dataset_version import DatasetVersion
from src.training.settings import TrainingConfig

__all__ = ["TrainingRun"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRun:
    """One training, as a trainer gets it.

    Attributes:
        config: The five settings.
        options: The options of the trainer.
        seed: Seed of its random numbers.
        dataset: The data; `dataset.path` is its data.jsonl.
        model_version: The version that is trained.
        output: An empty folder for the files of the model.
        checkpoints: A folder that is kept until the model is complete. A trainer that was stopped
            is called again with the same folder, and continues from its last complete checkpoint.
        settings: Values for this run only, e.g. a device. They do not change the version.
        log: Called as `log(step, loss=...)` after a step; writes a point of the history.
    """

    config: TrainingConfig
    options: Mapping[str, Any]
    seed: int
    dataset: DatasetVersion
    model_version: str
    output: Path
    checkpoints: Path
    settings: Mapping[str, Any]
    log: Callable[..., None]
