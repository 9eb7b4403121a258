"""Step 3: the model version's metadata.json."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts
from src.storage import canonical_json
from src.training import trainer
from src.training.config import TrainingConfig
from src.training.dataset import DatasetVersion
from tasks.caching import DURABLE, SPOILED, Promise, changed


def _depends_on(
    config: TrainingConfig, dataset: DatasetVersion, model_version: str, artifacts_dir: str
) -> list[str]:
    return [config.config_hash, dataset.sha256, model_version, artifacts_dir]


def _broken(
    result: dict[str, Any],
    config: TrainingConfig,
    dataset: DatasetVersion,
    model_version: str,
    artifacts_dir: str,
) -> str | None:
    metadata = trainer.model_metadata(config, dataset, model_version)
    if result != metadata:
        return SPOILED
    path = Artifacts(artifacts_dir).models / model_version / "metadata.json"
    return changed(path, canonical_json(metadata))


@task(
    task_run_name="write_metadata {model_version}",
    cache_policy=Promise(depends_on=_depends_on, broken=_broken),
    **DURABLE,
)
def write_metadata(
    config: TrainingConfig, dataset: DatasetVersion, model_version: str, artifacts_dir: str
) -> dict[str, Any]:
    """Bind the model version to its config and data, for ever."""
    metadata = trainer.model_metadata(config, dataset, model_version)
    trainer.write_metadata(metadata, Artifacts(artifacts_dir).models)
    return metadata
