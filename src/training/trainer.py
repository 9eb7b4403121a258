"""The trainer: binds a model version to its config and data, in metadata.json."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.storage import CorruptFileError, canonical_json, create, parse_json, read, sha256
from src.training.config import TrainingConfig, load_training_config
from src.training.dataset import DatasetVersion, resolve_dataset
from src.training.registry import is_registered, list_models
from src.versions import REGISTRY_NAME, ModelVersionConflict, check_version, differences

__all__ = ["derive_model_version", "model_metadata", "train_model", "write_metadata"]


def train_model(
    training_config_path: str | Path,
    model_version: str | None = None,
    artifacts_dir: str | Path = "artifacts/models",
    *,
    datasets_dir: str | Path = "artifacts/datasets",
) -> Path:
    """Record a training run of a config.

    Afterwards `<artifacts_dir>/<model_version>/metadata.json` is on the disk, with exactly the
    fields of `model_metadata`. Doing it again with the same content changes nothing.

    Args:
        training_config_path: A YAML file as `load_training_config` reads it.
        model_version: Name of the new version; derived from config and data where `None`.
        artifacts_dir: Folder of all model versions.
        datasets_dir: Folder of all dataset versions.

    Returns:
        The path of the model version's directory.

    Raises:
        FileNotFoundError: The config, the dataset version or its data.jsonl is missing.
        ModelVersionConflict: The version is bound to other content.
        ValueError: The config, the data or the name is not valid; see the functions called.
        OSError: The disk refused; nothing half-written is left.
    """
    if model_version is not None:
        check_version("model_version", model_version)
    config = load_training_config(training_config_path)
    dataset = resolve_dataset(config.dataset_version, datasets_dir)
    if model_version is None:
        model_version = derive_model_version(config, dataset)
    write_metadata(model_metadata(config, dataset, model_version), artifacts_dir)
    return Path(artifacts_dir) / model_version


def derive_model_version(config: TrainingConfig, dataset: DatasetVersion) -> str:
    """Name a model version after what it is made of.

    The same config and data give the same name, for ever; anything else gives another one:
    `<base model>-<dataset version>-<digest>`, the digest being 12 hexadecimal digits of the
    SHA-256 over the config's hash and the data's.
    """
    digest = sha256(canonical_json({"config": config.config_hash, "data": dataset.sha256}))
    base_model = re.sub("[^A-Za-z0-9._-]+", "-", config.base_model).lstrip("._-") or "model"
    return f"{base_model[:50]}-{dataset.name[:50]}-{digest[:12]}"


def model_metadata(
    config: TrainingConfig, dataset: DatasetVersion, model_version: str
) -> dict[str, Any]:
    """Give what metadata.json says of a model: exactly these five fields."""
    return {
        "model_version": check_version("model_version", model_version),
        "base_model": config.base_model,
        "dataset_version": config.dataset_version,
        "training_config": asdict(config),
        "num_training_samples": dataset.num_samples,
    }


def write_metadata(metadata: dict[str, Any], models_dir: str | Path = "artifacts/models") -> Path:
    """Bind a model version to its metadata, for ever.

    Afterwards `<models_dir>/<model_version>/metadata.json` holds the canonical JSON of
    `metadata`, written by this call or an earlier one.

    Returns:
        The path of that file.

    Raises:
        ModelVersionConflict: The version is bound to other content, by its file or by its
            registry entry. Nothing was changed.
        CorruptFileError: The file is there, but is not what it must be; or the registry is not.
        OSError: The disk refused; nothing half-written is left.
    """
    models_dir = Path(models_dir)
    version = check_version("model_version", metadata["model_version"])
    path = models_dir / version / "metadata.json"
    if read(path) is None:
        # The file may have been deleted; the registry then still knows what the version is.
        registry = models_dir / REGISTRY_NAME
        is_registered(metadata, list_models(registry), registry)
    expected = canonical_json(metadata)
    found = create(path, expected, root=models_dir)
    if found != expected:
        raise _not_as_written(path, metadata, expected, found)
    return path


def _not_as_written(
    path: Path, metadata: dict[str, Any], expected: bytes, found: bytes
) -> ValueError:
    change = f"expected sha256 {sha256(expected)}, found {sha256(found)}"
    try:
        details = differences(recorded=parse_json(found, path), new=metadata)
    except CorruptFileError as error:
        return CorruptFileError(f"{error}\n{path}: {change}.")
    if details:
        return ModelVersionConflict(metadata["model_version"], path, details)
    return CorruptFileError(
        f"{path}: {change}, with the same five fields: it was edited since it was written. "
        "Left as found; restore it, or delete it to have it written again."
    )
