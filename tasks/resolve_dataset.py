"""Step 2: the dataset version."""

from dataclasses import replace

from prefect import task

from src.artifacts import Artifacts
from src.records.layout import DATA_FILE, METADATA_FILE
from src.storage import Location
from src.training import dataset
from src.training.dataset import DatasetVersion
from src.training.hashing import count_and_hash_once
from tasks.caching import ALTERED_RESULT, STEP_OPTIONS, VerifiedResult
from tasks.results import PlainSerializer


def _depends_on(dataset_version: str, **_: object) -> list[str]:
    return [dataset_version]


def _as_named(
    result: DatasetVersion, dataset_version: str, artifacts_dir: Location
) -> DatasetVersion:
    path = Artifacts.open(artifacts_dir).datasets / dataset_version / DATA_FILE
    return replace(result, path=str(path))


def _resolve(dataset_version: str, artifacts_dir: Location) -> DatasetVersion:
    datasets = Artifacts.open(artifacts_dir).datasets
    return dataset.resolve_dataset(dataset_version, datasets, hash_dataset=count_and_hash_once)


def _stale_reason(
    result: DatasetVersion, dataset_version: str, artifacts_dir: Location
) -> str | None:
    now = _resolve(dataset_version, artifacts_dir)
    if result == now:
        return None
    if result.sha256 != now.sha256:
        return f"{now.path} was changed from sha256 {result.sha256} to {now.sha256}"
    if result.metadata_sha256 != now.metadata_sha256:
        path = Artifacts.open(artifacts_dir).datasets / dataset_version / METADATA_FILE
        return f"{path} {'was changed' if now.metadata_sha256 else 'does not exist'}"
    return ALTERED_RESULT


@task(
    task_run_name="resolve_dataset {dataset_version}",
    cache_policy=VerifiedResult(
        depends_on=_depends_on, as_named=_as_named, stale_reason=_stale_reason
    ),
    **STEP_OPTIONS | {"result_serializer": PlainSerializer(step="resolve_dataset")},
)
def resolve_dataset(dataset_version: str, artifacts_dir: Location) -> DatasetVersion:
    """Count and hash the data, and check it against the dataset's metadata.json."""
    return _resolve(dataset_version, artifacts_dir)
