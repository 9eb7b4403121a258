"""Step 3: the model version's metadata.json, and its provenance.json."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts
from src.provenance import PROVENANCE_NAME, check_provenance
from src.storage import canonical_json
from src.training import trainer
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from tasks.caching import DURABLE, SPOILED, Promise, changed
from tasks.invocation import this_run


def _depends_on(
    config_file: ConfigFile, dataset: DatasetVersion, model_version: str, artifacts_dir: str
) -> list[str]:
    return [config_file.config.config_hash, dataset.sha256, model_version, artifacts_dir]


def _broken(
    result: dict[str, Any],
    config_file: ConfigFile,
    dataset: DatasetVersion,
    model_version: str,
    artifacts_dir: str,
) -> str | None:
    metadata = trainer.model_metadata(config_file.config, dataset, model_version)
    if result != metadata:
        return SPOILED
    folder = Artifacts(artifacts_dir).models / model_version
    if check_provenance(metadata, folder, dataset.sha256) is None:
        return f"{folder / PROVENANCE_NAME} is not there"
    return changed(folder / "metadata.json", canonical_json(metadata))


@task(
    task_run_name="write_metadata {model_version}",
    cache_policy=Promise(depends_on=_depends_on, broken=_broken),
    **DURABLE,
)
def write_metadata(
    config_file: ConfigFile, dataset: DatasetVersion, model_version: str, artifacts_dir: str
) -> dict[str, Any]:
    """Bind the model version to its config and data, for ever."""
    metadata = trainer.model_metadata(config_file.config, dataset, model_version)
    trainer.write_metadata(
        metadata,
        Artifacts(artifacts_dir).models,
        materials=trainer.model_materials(config_file, dataset),
        invocation=this_run(),
    )
    return metadata
