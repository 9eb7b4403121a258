"""Step 2: the dataset version."""

from prefect import task

from src.artifacts import Artifacts
from src.training import dataset
from src.training.dataset import DatasetVersion
from tasks.caching import DURABLE, Promise


def _depends_on(dataset_version: str, artifacts_dir: str) -> list[str]:
    return [dataset_version, artifacts_dir]


def _kept(result: DatasetVersion, dataset_version: str, artifacts_dir: str) -> bool:
    return result == dataset.resolve_dataset(dataset_version, Artifacts(artifacts_dir).datasets)


@task(
    task_run_name="resolve_dataset {dataset_version}",
    cache_policy=Promise(depends_on=_depends_on, kept=_kept),
    **DURABLE,
)
def resolve_dataset(dataset_version: str, artifacts_dir: str) -> DatasetVersion:
    """Count and hash the data, and hold it against what the dataset's metadata.json records."""
    return dataset.resolve_dataset(dataset_version, Artifacts(artifacts_dir).datasets)
