"""The trainer: binds a model version to its config and data, in metadata.json."""

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.provenance import PROVENANCE_NAME, Invocation, Material, bind_model
from src.storage import CorruptFileError, canonical_json, create, parse_json, read, sha256
from src.training.config import ConfigFile, TrainingConfig, read_config_file
from src.training.dataset import DatasetVersion, resolve_dataset
from src.training.registry import is_registered
from src.versions import REGISTRY_NAME, ModelVersionConflict, check_version, differences

__all__ = [
    "derive_model_version",
    "model_materials",
    "model_metadata",
    "train_model",
    "write_metadata",
]

logger = logging.getLogger(__name__)


def train_model(
    training_config_path: str | Path,
    model_version: str | None = None,
    artifacts_dir: str | Path = "artifacts/models",
    *,
    datasets_dir: str | Path = "artifacts/datasets",
    invocation: Invocation | None = None,
) -> Path:
    """Record a training run of a config.

    Afterwards `<artifacts_dir>/<model_version>/metadata.json` is on the disk, with exactly the
    fields of `model_metadata`, and beside it provenance.json, which tells of the first run that
    made it. Doing it again with the same content changes nothing.

    Args:
        training_config_path: A YAML file as `load_training_config` reads it.
        model_version: Name of the new version; derived from config and data where `None`.
        artifacts_dir: Folder of all model versions.
        datasets_dir: Folder of all dataset versions.
        invocation: The run, as the provenance tells of it; one that starts now where `None`.

    Returns:
        The path of the model version's directory.

    Raises:
        FileNotFoundError: The config, the dataset version or its data.jsonl is missing.
        ModelVersionConflict: The version is bound to other content.
        ValueError: The config, the data or the name is not valid; see the functions called.
        OSError: The disk refused; nothing half-written is left.
    """
    invocation = invocation or Invocation()
    if model_version is not None:
        check_version("model_version", model_version)
    config_file = read_config_file(training_config_path)
    config = config_file.config
    dataset = resolve_dataset(config.dataset_version, datasets_dir)
    if model_version is None:
        model_version = derive_model_version(config, dataset)
    write_metadata(
        model_metadata(config, dataset, model_version),
        artifacts_dir,
        materials=model_materials(config_file, dataset),
        invocation=invocation,
    )
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


def model_materials(config_file: ConfigFile, dataset: DatasetVersion) -> list[Material]:
    """Give what provenance.json says that a model was made of, less the code and what runs it."""
    folder = f"datasets/{dataset.name}"
    materials = [
        Material(
            name="config",
            uri=config_file.path.encode(errors="backslashreplace").decode(),
            digest={"sha256": config_file.sha256},
        ),
        Material(
            name="dataset",
            uri=f"{folder}/{dataset.path.name}",
            digest={"sha256": dataset.sha256},
            annotations={"num_samples": dataset.num_samples},
        ),
    ]
    if dataset.record_sha256 is not None:
        digest = {"sha256": dataset.record_sha256}
        materials.append(
            Material(name="dataset metadata", uri=f"{folder}/metadata.json", digest=digest)
        )
    return materials


def write_metadata(
    metadata: dict[str, Any],
    models_dir: str | Path = "artifacts/models",
    *,
    materials: Sequence[Material] = (),
    invocation: Invocation | None = None,
) -> Path:
    """Bind a model version to its metadata, and to its data, for ever.

    Afterwards `<models_dir>/<model_version>/metadata.json` holds the canonical JSON of
    `metadata`, written by this call or an earlier one. So does provenance.json beside it hold
    what the model was made of, if `materials` are given.

    Args:
        metadata: As `model_metadata` gives it.
        models_dir: Folder of all model versions.
        materials: As `model_materials` gives them; without them no provenance is written.
        invocation: The run, as the provenance tells of it; one that starts now where `None`.

    Returns:
        The path of metadata.json.

    Raises:
        ModelVersionConflict: The version is bound to other content, by its files or by its
            registry entry. Nothing was changed.
        CorruptFileError: A file is there, but is not what it must be; or the registry is not.
        OSError: The disk refused; nothing half-written is left.
    """
    models_dir = Path(models_dir)
    version = check_version("model_version", metadata["model_version"])
    path = models_dir / version / "metadata.json"
    expected = canonical_json(metadata)
    found = read(path)
    if found is None:
        # The file may have been deleted; the registry then still knows what the version is.
        is_registered(metadata, models_dir / REGISTRY_NAME)
    elif found != expected:
        raise _not_as_written(path, metadata, expected, found)
    if materials:
        run = invocation or Invocation()
        added = bind_model(metadata, path.parent, materials, run, root=models_dir)
        if added and found is not None:
            logger.warning(
                "%s: there was none beside %s, which an older release wrote, or it was deleted. "
                "Written: it tells of this run, not of the first.",
                path.with_name(PROVENANCE_NAME),
                path.name,
            )
    now = create(path, expected, root=models_dir)
    if now != expected:
        raise _not_as_written(path, metadata, expected, now)
    logger.info("%s: %s.", path, "written" if found is None else "there already")
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
