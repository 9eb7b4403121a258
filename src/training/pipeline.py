"""The pipeline: from a training config to an evaluated model, without an engine."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from src.artifacts import Artifacts, read_metadata
from src.environment import Invocation
from src.evaluation.evaluator import (
    SIMULATED_EVALUATOR,
    Evaluator,
    Metrics,
    as_evaluator,
    evaluate_model,
    load_evaluation,
)
from src.names import check_version
from src.records.dataset_version import DatasetVersion
from src.storage import Location, StorePath, open_path
from src.training.config import ConfigFile, read_config_file
from src.training.dataset import resolve_dataset, unpinned_reason
from src.training.hashing import HashDataset
from src.training.registry import check_registry, register_model
from src.training.trainer import train_config

__all__ = ["config_evaluator", "load_model_metadata", "run_training_pipeline"]

logger = logging.getLogger(__name__)


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


def config_evaluator(
    config_file: ConfigFile,
    dataset: DatasetVersion | str,
    artifacts: Artifacts,
    *,
    hash_dataset: HashDataset | None = None,
) -> Evaluator:
    """Return the evaluator that a config names; the simulated one if it names none.

    Args:
        config_file: The training config.
        dataset: The data of the model, or the name of its version: what an evaluator measures on
            that names no data.
        artifacts: The artifacts root.
        hash_dataset: Counts and hashes data that has to be resolved; see `resolve_dataset`.

    Raises:
        ComponentError: The evaluator cannot be used; names the line of the config.
        FileNotFoundError, ValueError, OSError: Its dataset version; see `resolve_dataset`.
    """
    component = config_file.evaluator
    if component is None:
        return SIMULATED_EVALUATOR
    from src.components.description import describe  # slow to import
    from src.evaluation.components import component_evaluator

    data = component.dataset_version or dataset
    if isinstance(data, str):
        data = resolve_dataset(data, artifacts.datasets, hash_dataset=hash_dataset)
    return component_evaluator(
        describe(component, "evaluator", config_file.component_path),
        data,
        partial(config_evaluator, config_file, dataset, artifacts, hash_dataset=hash_dataset),
    )


def run_training_pipeline(
    training_config_path: str | Path | StorePath,
    model_version: str | None = None,
    *,
    artifacts_dir: Location = "artifacts",
    metrics: Metrics | Evaluator | None = None,
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
        metrics: Measures the model: a function of its metadata, or an evaluator. The evaluator
            that the config names if `None`, by default the simulated one.
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
    if model_version is not None:
        check_version("model_version", model_version)
    config_file = read_config_file(training_config_path)
    dataset = resolve_dataset(config_file.config.dataset_version, artifacts.datasets)
    if reason := unpinned_reason(dataset):
        logger.warning("%s", reason)
    evaluator = as_evaluator(metrics or config_evaluator(config_file, dataset, artifacts))
    version = train_config(
        config_file, dataset, model_version, artifacts.models, invocation=invocation
    ).name
    metadata = load_model_metadata(version, artifacts.models)
    check_registry(artifacts)  # training can take long
    register_model(metadata, artifacts.registry)
    evaluate_model(
        version,
        artifacts.models,
        artifacts.evaluations,
        metrics=evaluator.current(),
        invocation=invocation,
    )
    return load_evaluation(version, artifacts.evaluations)
