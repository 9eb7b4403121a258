"""Step 1: the training config."""

from pathlib import Path

from prefect import task

from src.storage import sha256
from src.training import config
from src.training.config import ConfigFile
from tasks.caching import DURABLE, Promise


def _depends_on(training_config_path: str) -> list[str]:
    return [training_config_path, sha256(Path(training_config_path).read_bytes())]


def _broken(result: ConfigFile, training_config_path: str) -> str | None:
    same = result == config.read_config_file(training_config_path)
    return None if same else f"{training_config_path} reads differently now"


@task(
    task_run_name="load_config {training_config_path}",
    cache_policy=Promise(depends_on=_depends_on, broken=_broken),
    **DURABLE,
)
def load_config(training_config_path: str) -> ConfigFile:
    """Read and check the training config."""
    return config.read_config_file(training_config_path)
