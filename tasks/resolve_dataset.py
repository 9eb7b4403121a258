"""Step 2: the dataset version."""

from pathlib import Path

from prefect import task

from src.artifacts import Artifacts
from src.training import dataset
from src.training.dataset import DatasetVersion
from tasks.caching import DURABLE, RESULTS, Promise
from tasks.hashes import remembering


def _depends_on(dataset_version: str, artifacts_dir: str) -> list[str]:
    return [dataset_version, artifacts_dir]


def _resolve(dataset_version: str, artifacts_dir: str) -> DatasetVersion:
    hash_dataset = remembering(Path(artifacts_dir, RESULTS))
    datasets = Artifacts(artifacts_dir).datasets
    return dataset.resolve_dataset(dataset_version, datasets, hash_dataset=hash_dataset)


def _broken(result: DatasetVersion, dataset_version: str, artifacts_dir: str) -> str | None:
    now = _resolve(dataset_version, artifacts_dir)
    same = result == now
    return None if same else f"{now.path}: sha256 was {result.sha256}, is {now.sha256}"


@task(
    task_run_name="resolve_dataset {dataset_version}",
    cache_policy=Promise(depends_on=_depends_on, broken=_broken),
    **DURABLE,
)
def resolve_dataset(dataset_version: str, artifacts_dir: str) -> DatasetVersion:
    """Count and hash the data, and hold it against what the dataset's metadata.json records."""
    return _resolve(dataset_version, artifacts_dir)
