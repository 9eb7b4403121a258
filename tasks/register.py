"""Step 4: the registry entry."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts
from src.storage import canonical_json
from src.training import registry
from tasks.caching import DURABLE, SPOILED, Promise


def _depends_on(metadata: dict[str, Any], artifacts_dir: str) -> list[str]:
    return [canonical_json(metadata).decode(), artifacts_dir]


def _broken(result: dict[str, Any], metadata: dict[str, Any], artifacts_dir: str) -> str | None:
    if result != metadata:
        return SPOILED
    path = Artifacts(artifacts_dir).registry
    return None if registry.is_registered(metadata, path) else f"{path} does not list it"


@task(
    task_run_name="register {metadata[model_version]}",
    cache_policy=Promise(depends_on=_depends_on, broken=_broken),
    **DURABLE,
)
def register(metadata: dict[str, Any], artifacts_dir: str) -> dict[str, Any]:
    """Append the model to the registry, once."""
    registry.register_model(metadata, Artifacts(artifacts_dir).registry)
    return metadata
