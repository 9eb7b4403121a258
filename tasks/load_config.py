"""Step 1: the training config."""

from dataclasses import replace

from prefect import task

from src.storage import StorePath
from src.training import config
from src.training.config import ConfigFile
from tasks.caching import ALTERED_RESULT, STEP_OPTIONS, VerifiedResult
from tasks.results import PlainSerializer


def _depends_on(training_config_path: str | StorePath, sha256: str | None) -> list[str]:
    return [config.read_config_file(training_config_path, sha256).sha256]


def _as_named(result: ConfigFile, training_config_path: str | StorePath, **_: object) -> ConfigFile:
    return replace(result, path=str(training_config_path))


def _stale_reason(
    result: ConfigFile, training_config_path: str | StorePath, sha256: str | None
) -> str | None:
    # The cache key has the digest of the file, so the file is unchanged.
    now = config.read_config_file(training_config_path, sha256)
    return None if result == now else ALTERED_RESULT


@task(
    task_run_name="load_config {training_config_path}",
    cache_policy=VerifiedResult(
        depends_on=_depends_on, as_named=_as_named, stale_reason=_stale_reason
    ),
    **STEP_OPTIONS | {"result_serializer": PlainSerializer(step="load_config")},
)
def load_config(training_config_path: str | StorePath, sha256: str | None = None) -> ConfigFile:
    """Read and check the training config; `sha256` is that of a file that a sweep wrote."""
    return config.read_config_file(training_config_path, sha256)
