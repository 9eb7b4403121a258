"""The pipeline: from a training config to an evaluated model, without an engine."""

from pathlib import Path
from typing import Any

from src.artifacts import Artifacts
from src.evaluation.evaluator import (
    Metrics,
    evaluate_model,
    load_evaluation,
    simulated_metrics,
)
from src.provenance import Invocation
from src.training.registry import register_model
from src.training.trainer import train_model
from src.versions import read_metadata

__all__ = ["load_model_metadata", "run_training_pipeline"]


def load_model_metadata(
    model_version: str, models_dir: str | Path = "artifacts/models"
) -> dict[str, Any]:
    """Read the metadata.json of a model version.

    Raises:
        FileNotFoundError: There is no such model version.
        CorruptFileError: The file does not hold its metadata.
        ValueError: `model_version` is not a name.
    """
    return read_metadata(model_version, Path(models_dir))


def run_training_pipeline(
    training_config_path: str | Path,
    model_version: str | None = None,
    *,
    artifacts_dir: str | Path = "artifacts",
    metrics: Metrics = simulated_metrics,
    invocation: Invocation | None = None,
) -> dict[str, Any]:
    """Train, register and evaluate one model.

    Afterwards there are, below `artifacts_dir`, `models/<model_version>/metadata.json`, an entry
    equal to it in `models/registry.json`, and `evaluations/<model_version>/evaluation.json`, and
    beside the two files a provenance.json each. A second call with the same content leaves every
    byte as it is.

    Args:
        training_config_path: A YAML file as `load_training_config` reads it.
        model_version: Name of the version; derived from config and data where `None`.
        artifacts_dir: The artifacts root; holds `datasets/`.
        metrics: Measures the model.
        invocation: The run, as the provenance tells of it; one that starts now where `None`.

    Returns:
        The contents of evaluation.json: `model_version`, `dataset_version` and `metrics`.

    Raises:
        FileNotFoundError: The config, the dataset version or its data.jsonl is missing.
        ModelVersionConflict: The version is bound to other content. Nothing was changed.
        ValueError: The config, the data, a name or a file of the record is not valid.
        OSError: The disk refused, or a lock was held too long; nothing half-written is left.
    """
    artifacts, invocation = Artifacts(artifacts_dir), invocation or Invocation()
    version = train_model(
        training_config_path,
        model_version,
        artifacts.models,
        datasets_dir=artifacts.datasets,
        invocation=invocation,
    ).name
    metadata = load_model_metadata(version, artifacts.models)
    register_model(metadata, artifacts.registry)
    evaluate_model(
        version,
        artifacts.models,
        artifacts.evaluations,
        metrics=metrics,
        invocation=invocation,
    )
    return load_evaluation(version, artifacts.evaluations)
