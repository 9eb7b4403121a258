"""Step 5: the evaluation."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts
from src.evaluation import evaluator
from src.storage import canonical_json
from tasks.caching import DURABLE, Promise, changed


def _depends_on(metadata: dict[str, Any], artifacts_dir: str) -> list[str]:
    return [canonical_json(metadata).decode(), artifacts_dir]


def _broken(result: dict[str, Any], metadata: dict[str, Any], artifacts_dir: str) -> str | None:
    artifacts = Artifacts(artifacts_dir)
    path = evaluator.evaluation_path(metadata["model_version"], artifacts.evaluations)
    return changed(path, canonical_json(result))


@task(
    task_run_name="evaluate {metadata[model_version]}",
    cache_policy=Promise(depends_on=_depends_on, broken=_broken),
    **DURABLE,
)
def evaluate(metadata: dict[str, Any], artifacts_dir: str) -> dict[str, Any]:
    """Measure the registered model, and write its evaluation.json."""
    artifacts = Artifacts(artifacts_dir)
    version = metadata["model_version"]
    evaluator.evaluate_model(version, artifacts.models, artifacts.evaluations)
    return evaluator.load_evaluation(version, artifacts.evaluations)
