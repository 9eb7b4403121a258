"""The pipeline: from a training config to an evaluated model, without an engine."""

from pathlib import Path
from typing import Any

from src.artifacts import Artifacts, read_metadata
from src.environment import Invocation
from src.evaluation.evaluator import (
    Metrics,
    evaluate_model,
    load_evaluation,
    simulated_metrics,
)
from src.storage import Location, StorePath, open_path
from src.training.registry import check_registry, register_model
from src.training.trainer import train_model

__all__ = ["load_model_metadata", "run_training_pipeline"]


def load_model_metadata(
    model_version: str, models_dir: Location = "artifacts/models"
) -> dict[str, Any]:
    """Read the metadata.json of a model version.

    Raises:
        FileNotFoundError: There is no such model version.
        CorruptFileError: The file is not the metadata of this version.
        ValueError: `model_version` is not a valid name.
    """
    return read_metadata(model_version, open_path(models_dir))


def run_training_pipeline(
    training_config_path: str | Path | StorePath,
    model_version: str | None = None,
    *,
    artifacts_dir: Location = "artifacts",
    metrics: Metrics = simulated_metrics,
    invocation: Invocation | None = None,
) -> dict[str, Any]:
    """Train, register and evaluate one model.

    Afterwards `artifacts_dir` holds `models/<model_version>/metadata.json`, an equal entry in
    `models/registry.json`, `evaluations/<model_version>/evaluation.json`, and a provenance.json
    next to each of the two files. A second call with the same content changes no byte.

    Args:
        training_config_path: A YAML file; see `load_training_config`.
        model_version: Name of the version; derived from config and data if `None`.
        artifacts_dir: The artifacts root; holds `datasets/`.
        metrics: Measures the model.
        invocation: The run that provenance.json records; a run that starts now if `None`.

    Returns:
        The contents of evaluation.json: `model_version`, `dataset_version` and `metrics`.

    Raises:
        FileNotFoundError: The config, the dataset version or its data.jsonl does not exist.
        ModelVersionConflict: The version exists with other content. Nothing was changed.
        RegistryLostError: The registry was deleted or emptied. Nothing was changed.
        ValueError: The config, the data, a name or a file of the record is not valid.
        OSError: A file cannot be read or written, or a lock was held for too long; no partial
            file is left.
    """
    artifacts, invocation = Artifacts.open(artifacts_dir), invocation or Invocation()
    check_registry(artifacts)
    version = train_model(
        training_config_path,
        model_version,
        artifacts.models,
        datasets_dir=artifacts.datasets,
        invocation=invocation,
    ).name
    metadata = load_model_metadata(version, artifacts.models)
    check_registry(artifacts)  # training can take long
    register_model(metadata, artifacts.registry)
    evaluate_model(
        version,
        artifacts.models,
        artifacts.evaluations,
        metrics=metrics,
        invocation=invocation,
    )
    return load_evaluation(version, artifacts.evaluations)
