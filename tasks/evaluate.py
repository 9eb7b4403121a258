"""Step 5: the evaluation."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts
from src.evaluation import evaluator
from src.provenance import PROVENANCE_NAME, read_provenance
from src.storage import canonical_json, sha256
from tasks.caching import DURABLE, Promise, changed
from tasks.invocation import this_run


def _depends_on(metadata: dict[str, Any], artifacts_dir: str) -> list[str]:
    return [canonical_json(metadata).decode(), artifacts_dir]


def _broken(result: dict[str, Any], metadata: dict[str, Any], artifacts_dir: str) -> str | None:
    artifacts = Artifacts(artifacts_dir)
    path = evaluator.evaluation_path(metadata["model_version"], artifacts.evaluations)
    evaluation = canonical_json(result)
    provenance = read_provenance(path.with_name(PROVENANCE_NAME))
    if provenance is None or provenance.subject_sha256 != sha256(evaluation):
        return f"{path.with_name(PROVENANCE_NAME)} does not vouch for it"
    return changed(path, evaluation)


@task(
    task_run_name="evaluate {metadata[model_version]}",
    cache_policy=Promise(depends_on=_depends_on, broken=_broken),
    **DURABLE,
)
def evaluate(metadata: dict[str, Any], artifacts_dir: str) -> dict[str, Any]:
    """Measure the registered model, and write its evaluation.json."""
    artifacts = Artifacts(artifacts_dir)
    version = metadata["model_version"]
    evaluator.evaluate_model(
        version, artifacts.models, artifacts.evaluations, invocation=this_run()
    )
    return evaluator.load_evaluation(version, artifacts.evaluations)
