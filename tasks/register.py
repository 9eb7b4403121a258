"""Step 4: the registry entry."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts
from src.records.canonical import canonical_json
from src.storage import Location
from src.training import registry
from tasks.caching import ALTERED_RESULT, STEP_OPTIONS, VerifiedResult


def _depends_on(metadata: dict[str, Any], **_: object) -> list[str]:
    return [canonical_json(metadata).decode()]


def _stale_reason(
    result: dict[str, Any], metadata: dict[str, Any], artifacts_dir: Location
) -> str | None:
    if result != metadata:
        return ALTERED_RESULT
    path = Artifacts.open(artifacts_dir).registry
    return None if registry.is_registered(metadata, path) else f"{path} has no entry of the model"


@task(
    task_run_name="register {metadata[model_version]}",
    cache_policy=VerifiedResult(depends_on=_depends_on, stale_reason=_stale_reason),
    **STEP_OPTIONS,
)
def register(metadata: dict[str, Any], artifacts_dir: Location) -> dict[str, Any]:
    """Append the model to the registry, unless it is registered already."""
    artifacts = Artifacts.open(artifacts_dir)
    registry.check_registry(artifacts)
    registry.register_model(metadata, artifacts.registry)
    return metadata
