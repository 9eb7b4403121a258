"""Step 3: metadata.json and provenance.json of the model version."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts
from src.records.canonical import canonical_json
from src.records.layout import METADATA_FILE
from src.storage import Location
from src.training import trainer
from src.training.binding import check_binding
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from src.training.registry import check_registry
from src.training.trained import Training
from tasks.caching import (
    ALTERED_RESULT,
    STEP_OPTIONS,
    VerifiedResult,
    difference_reason,
    model_statement,
)
from tasks.invocation import flow_invocation


def _depends_on(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    model_version: str,
    training: Training | None,
    **_: object,
) -> list[str]:
    parts = [config_file.config.config_hash, dataset.sha256, model_version]
    if training is not None:
        parts.append(canonical_json(training.inputs()).decode())
    return parts


def _stale_reason(
    result: dict[str, Any],
    config_file: ConfigFile,
    dataset: DatasetVersion,
    model_version: str,
    artifacts_dir: Location,
    training: Training | None,
) -> str | None:
    metadata = trainer.model_metadata(config_file.config, dataset, model_version)
    if result != metadata:
        return ALTERED_RESULT
    folder = Artifacts.open(artifacts_dir).models / model_version
    check_binding(metadata, folder, dataset.sha256, training)
    return difference_reason(folder / METADATA_FILE, canonical_json(metadata))


@task(
    task_run_name="write_metadata {model_version}",
    cache_policy=VerifiedResult(
        depends_on=_depends_on, stale_reason=_stale_reason, files=model_statement
    ),
    **STEP_OPTIONS,
)
def write_metadata(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    model_version: str,
    artifacts_dir: Location,
    training: Training | None = None,
) -> dict[str, Any]:
    """Bind the model version to its config and data, and to its weights if it was trained."""
    metadata = trainer.model_metadata(config_file.config, dataset, model_version)
    artifacts = Artifacts.open(artifacts_dir)
    check_registry(artifacts)  # before the first write
    trainer.write_metadata(
        metadata,
        artifacts.models,
        dependencies=trainer.model_dependencies(config_file, dataset),
        invocation=flow_invocation(),
        training=training,
    )
    return metadata
