"""The trainer: train a model version, and record its config and its data."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.artifacts import read_statement
from src.components.component import may_run
from src.components.work import has_lock, locked_work
from src.environment import Invocation
from src.errors import CorruptFileError
from src.names import check_version
from src.records.canonical import canonical_json, parse_json, sha256
from src.records.layout import (
    DATA_FILE,
    DATASETS_FOLDER,
    METADATA_FILE,
    METADATA_LIMIT,
    REGISTRY_FILE,
    STATEMENT_FILE,
    WEIGHTS_FOLDER,
)
from src.records.metadata import ModelVersionConflict, conflict_details
from src.records.statement import ResolvedDependency
from src.storage import Location, StorePath, open_path, plain_path
from src.training.binding import bind_model, check_binding, dataset_sha256
from src.training.config import ConfigFile, TrainingConfig, read_config_file
from src.training.dataset import DatasetVersion, resolve_dataset
from src.training.registry import is_registered
from src.training.trained import Training, recorded_training

if TYPE_CHECKING:
    from src.components.description import Description

__all__ = [
    "DERIVED_DIGITS",
    "derive_model_version",
    "derived_name",
    "describe_trainer",
    "model_dependencies",
    "model_metadata",
    "put_metadata",
    "train_config",
    "train_model",
    "train_weights",
    "write_metadata",
]

logger = logging.getLogger(__name__)

DERIVED_DIGITS = 12  # of the digest in a derived version

RESTORE = (
    "The file was edited after it was written: restore it, or delete it to have it written again."
)


def train_model(
    training_config_path: str | Path | StorePath,
    model_version: str | None = None,
    artifacts_dir: Location = "artifacts/models",
    *,
    datasets_dir: Location = "artifacts/datasets",
    invocation: Invocation | None = None,
) -> Path | StorePath:
    """Train a model version, and write its metadata.json and provenance.json.

    Nothing is trained if the config names no trainer. Afterwards `<artifacts_dir>/<model_version>/`
    holds metadata.json, with exactly the fields of `model_metadata`, and provenance.json, which
    describes the first run that wrote it; if there is a trainer, also weights/ and training.jsonl.
    A second call with the same content changes nothing.

    Args:
        training_config_path: A YAML file; see `load_training_config`.
        model_version: Name of the new version; derived from config and data if `None`.
        artifacts_dir: Folder of all model versions; named by the specification.
        datasets_dir: Folder of all dataset versions.
        invocation: The run that provenance.json records; a run that starts now if `None`.

    Returns:
        The path of the folder of the model version; a `StorePath` if `artifacts_dir` is no folder.

    Raises:
        FileNotFoundError: The config, the dataset version or its data.jsonl does not exist.
        ModelVersionConflict: The version exists with other content.
        ValueError: The config, the data or the name is not valid, or the trainer has left no model.
        CommandError: The trainer failed; its checkpoints are kept.
        OSError: A file cannot be read or written; no partial file is left.
    """
    if model_version is not None:
        check_version("model_version", model_version)
    config_file = read_config_file(training_config_path)
    dataset = resolve_dataset(config_file.config.dataset_version, datasets_dir)
    return train_config(config_file, dataset, model_version, artifacts_dir, invocation=invocation)


def train_config(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    model_version: str | None = None,
    artifacts_dir: Location = "artifacts/models",
    *,
    invocation: Invocation | None = None,
) -> Path | StorePath:
    """Do what `train_model` does, for a config and data that were read already."""
    config, trainer = config_file.config, describe_trainer(config_file)
    if model_version is None:
        model_version = derive_model_version(config, dataset, trainer)
    models = open_path(artifacts_dir)
    training = None
    if trainer is not None:
        training = train_weights(config_file, dataset, trainer, model_version, models)
    write_metadata(
        model_metadata(config, dataset, model_version),
        models,
        dependencies=model_dependencies(config_file, dataset),
        invocation=invocation or Invocation(),
        training=training,
    )
    return plain_path(models / model_version)


def train_weights(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    trainer: "Description",
    model_version: str,
    models: StorePath,
    *,
    on_point: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Training:
    """Train the weights of a version, unless the version exists with other content; see `train`.

    Raises:
        ModelVersionConflict: See `train`; or metadata.json or the registry has other content.
        CorruptFileError: The version exists, and its provenance.json was deleted.
    """
    from src.training.weights import train  # slow to import

    metadata = model_metadata(config_file.config, dataset, model_version)
    found = _find_metadata(metadata, models, model_dependencies(config_file, dataset))
    folder = models / model_version
    exists = found is not None or is_registered(metadata, models / REGISTRY_FILE)
    if exists and read_statement(folder) is None:
        raise CorruptFileError(
            f"{folder / STATEMENT_FILE}: no such file, but the version exists. Nothing was "
            "trained. Restore the file from a backup, or choose another model_version."
        )
    return train(config_file, dataset, trainer, model_version, models, on_point=on_point)


def describe_trainer(config_file: ConfigFile) -> "Description | None":
    """Describe the trainer of a config; `None` for the simulated one.

    Raises:
        ComponentError: The trainer cannot be used; names the line of the config.
    """
    if config_file.trainer is None:
        return None
    from src.components.description import describe  # slow to import

    source, config = config_file.component_path, asdict(config_file.config)
    return describe(config_file.trainer, "trainer", source, config)


def derive_model_version(
    config: TrainingConfig, dataset: DatasetVersion, trainer: "Description | None" = None
) -> str:
    """Return the name of a model version that is derived from its config, data and trainer.

    The name is `<base model>-<dataset version>-<digest>`, where the digest is the first 12
    hexadecimal digits of a SHA-256 over the config hash, the SHA-256 of the data and the trainer
    with its options, seed and code; the simulated trainer adds nothing. The same inputs always give
    the same name; any other input gives another name.
    """
    return derived_name(config, dataset, None if trainer is None else trainer.identity())


def derived_name(
    config: TrainingConfig, dataset: DatasetVersion, identity: Mapping[str, Any] | None
) -> str:
    """Return the derived name for a trainer of this identity; see `derive_model_version`."""
    inputs: dict[str, Any] = {"config": config.config_hash, "data": dataset.sha256}
    if identity is not None:
        inputs["trainer"] = identity
    digest = sha256(canonical_json(inputs))
    base_model = re.sub("[^A-Za-z0-9._-]+", "-", config.base_model).lstrip("._-") or "model"
    return f"{base_model[:50]}-{dataset.name[:50]}-{digest[:DERIVED_DIGITS]}"


def model_metadata(
    config: TrainingConfig, dataset: DatasetVersion, model_version: str
) -> dict[str, Any]:
    """Return the contents of a model's metadata.json: exactly five fields."""
    return {
        "model_version": check_version("model_version", model_version),
        "base_model": config.base_model,
        "dataset_version": config.dataset_version,
        "training_config": asdict(config),
        "num_training_samples": dataset.num_samples,
    }


def model_dependencies(
    config_file: ConfigFile, dataset: DatasetVersion
) -> list[ResolvedDependency]:
    """Return the config and the data of a model as resolved dependencies."""
    folder = f"{DATASETS_FOLDER}/{dataset.name}"
    dependencies = [
        ResolvedDependency(
            name="config",
            uri=config_file.path.encode(errors="backslashreplace").decode(),
            digest={"sha256": config_file.sha256},
        ),
        ResolvedDependency(
            name="dataset",
            uri=f"{folder}/{DATA_FILE}",
            digest={"sha256": dataset.sha256},
            annotations={"num_samples": dataset.num_samples},
        ),
    ]
    if dataset.metadata_sha256 is not None:
        digest = {"sha256": dataset.metadata_sha256}
        dependencies.append(
            ResolvedDependency(
                name="dataset metadata", uri=f"{folder}/{METADATA_FILE}", digest=digest
            )
        )
    if config_file.base_path is not None:
        dependencies.append(
            ResolvedDependency(
                name="base config",
                uri=config_file.base_path.encode(errors="backslashreplace").decode(),
                digest={"sha256": str(config_file.base_sha256)},
            )
        )
    return dependencies


def write_metadata(
    metadata: dict[str, Any],
    models_dir: Location = "artifacts/models",
    *,
    dependencies: Sequence[ResolvedDependency],
    invocation: Invocation | None = None,
    training: Training | None = None,
) -> StorePath:
    """Write the metadata.json and the provenance.json of a model version, unless they exist.

    Afterwards `<models_dir>/<model_version>/metadata.json` holds the canonical JSON of `metadata`,
    and provenance.json binds the version to its config and data. If it was trained, its weights and
    its history are next to them, and its work folder is removed.

    Args:
        metadata: See `model_metadata`.
        models_dir: Folder of all model versions.
        dependencies: See `model_dependencies`.
        invocation: The run that provenance.json records; a run that starts now if `None`.
        training: The result of `train`; `None` if nothing was trained.

    Returns:
        The path of metadata.json.

    Raises:
        ModelVersionConflict: The version exists with other content, in its files or in the
            registry. Nothing was changed.
        CorruptFileError: An existing file was altered or cannot be parsed.
        OSError: A file cannot be read or written; no partial file is left.
    """
    path, is_new = put_metadata(
        metadata,
        open_path(models_dir),
        dependencies=dependencies,
        invocation=invocation or Invocation(),
        training=training,
    )
    logger.info("%s: %s.", path, "written" if is_new else "already written")
    return path


def put_metadata(
    metadata: dict[str, Any],
    models: StorePath,
    *,
    dependencies: Sequence[ResolvedDependency],
    invocation: Invocation,
    training: Training | None = None,
    registered: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[StorePath, bool]:
    """Do what `write_metadata` does, without a line in the log.

    `registered` is what `find_models` returned for the version; it is read if `None`.

    Returns:
        The path of metadata.json, and whether it did not exist.
    """
    version = check_version("model_version", metadata["model_version"])
    path = models / version / METADATA_FILE
    expected = canonical_json(metadata)
    found = _find_metadata(metadata, models, dependencies)
    if found is None:
        # Raises if the version is registered with other content: the file may have been deleted.
        is_registered(metadata, models / REGISTRY_FILE, registered=registered)
    if training is None:
        is_new = _bind_simulated(metadata, path.parent, dependencies, invocation)
    else:
        is_new = _bind_training(metadata, path.parent, dependencies, invocation, training)
    if is_new and found is not None:
        logger.warning(
            "%s: not found next to %s: an older release wrote none, or the file was deleted. "
            "Written; it describes this run, not the run that wrote %s.",
            path.parent / STATEMENT_FILE,
            METADATA_FILE,
            METADATA_FILE,
        )
    written = path.create(expected)
    if written != expected:
        raise _mismatch(path, metadata, expected, written, dependencies)
    return path, found is None


def _find_metadata(
    metadata: dict[str, Any], models: StorePath, dependencies: Sequence[ResolvedDependency]
) -> bytes | None:
    """Return the bytes of the metadata.json of a version; raise if it has other content."""
    version: str = metadata["model_version"]
    path = models / version / METADATA_FILE
    found, expected = path.read(METADATA_LIMIT), canonical_json(metadata)
    if found not in (None, expected):
        raise _mismatch(path, metadata, expected, found, dependencies)
    return found


def _bind_simulated(
    metadata: dict[str, Any],
    folder: StorePath,
    dependencies: Sequence[ResolvedDependency],
    invocation: Invocation,
) -> bool:
    """Bind a version without a trainer.

    Waits for a run that trains the version. If that run binds it, this is a conflict.

    Raises:
        CorruptFileError: A training that was stopped has left weights.
    """
    statement = folder / STATEMENT_FILE
    may_be_trained = may_run() and has_lock(folder.parent, folder.name) and statement.stat() is None
    with locked_work(folder.parent, folder.name) if may_be_trained else nullcontext():
        is_unbound = may_be_trained and statement.stat() is None
        if is_unbound and (folder / WEIGHTS_FOLDER).digests():
            raise CorruptFileError(
                f"{folder / WEIGHTS_FOLDER}: left by a training of this version that was stopped. "
                "Nothing was changed. Run its config again, or delete the folder of the version."
            )
        return bind_model(metadata, folder, dependencies, invocation)


def _bind_training(
    metadata: dict[str, Any],
    folder: StorePath,
    dependencies: Sequence[ResolvedDependency],
    invocation: Invocation,
    training: Training,
) -> bool:
    """Put the weights of a model in its folder and bind the version to them."""
    data_sha256 = dataset_sha256(dependencies)
    if check_binding(metadata, folder, data_sha256, training) is not None:
        return False
    from src.training.weights import put_training  # slow to import

    with locked_work(folder.parent, folder.name) as work:
        if check_binding(metadata, folder, data_sha256, training) is None:
            put_training(training, folder, work)
        is_new = bind_model(metadata, folder, dependencies, invocation, training)
        work.remove()
    return is_new


def _mismatch(
    path: StorePath,
    metadata: dict[str, Any],
    expected: bytes,
    found: bytes,
    dependencies: Sequence[ResolvedDependency],
) -> ValueError:
    """Return the error for a metadata.json with other bytes than expected."""
    change = f"expected sha256 {sha256(expected)}, found {sha256(found)}"
    try:
        details = conflict_details(parse_json(found, path), metadata)
    except CorruptFileError as error:
        return CorruptFileError(f"{error}\n{path}: {change}.")
    version = metadata["model_version"]
    if details and _is_bound(metadata, path.parent, dependencies):
        return ModelVersionConflict(version, path, details, RESTORE)
    if details:
        return ModelVersionConflict(version, path, details)
    return CorruptFileError(
        f"{path}: {change}. The five fields are equal. Left as found. {RESTORE}"
    )


def _is_bound(
    metadata: dict[str, Any], folder: StorePath, dependencies: Sequence[ResolvedDependency]
) -> bool:
    """Return whether the statement, or the digest in the name, ties the version to `metadata`."""
    data_sha256 = dataset_sha256(dependencies)
    training = None
    try:
        if (statement := read_statement(folder)) is not None:
            training = recorded_training(statement, folder / STATEMENT_FILE)
            if check_binding(metadata, folder, data_sha256, training) is not None:
                return True
    except ModelVersionConflict:
        return False
    except (CorruptFileError, OSError):
        pass  # the name may still be derived from this content
    try:
        config = TrainingConfig(**metadata["training_config"])
    except (TypeError, ValueError):
        return False
    dataset = DatasetVersion(
        name=config.dataset_version,
        path=DATA_FILE,
        num_samples=metadata["num_training_samples"],
        sha256=data_sha256,
    )
    version: str = metadata["model_version"]
    return version == derived_name(config, dataset, training.trainer if training else None)
