"""Step 5: the evaluation."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts, read_statement
from src.evaluation import evaluator
from src.records.canonical import canonical_json, sha256
from src.records.layout import STATEMENT_FILE
from tasks.caching import STEP_OPTIONS, VerifiedResult, difference_reason
from tasks.invocation import flow_invocation


def _depends_on(metadata: dict[str, Any], artifacts_dir: str) -> list[str]:
    return [canonical_json(metadata).decode(), artifacts_dir]


def _stale_reason(
    result: dict[str, Any], metadata: dict[str, Any], artifacts_dir: str
) -> str | None:
    evaluations = Artifacts.open(artifacts_dir).evaluations
    path = evaluator.evaluation_path(metadata["model_version"], evaluations)
    evaluation = canonical_json(result)
    statement = read_statement(path.parent)
    if statement is None or statement.subject_sha256 != sha256(evaluation):
        return f"{path.parent / STATEMENT_FILE} is not the statement of this evaluation"
    return difference_reason(path, evaluation)


@task(
    task_run_name="evaluate {metadata[model_version]}",
    cache_policy=VerifiedResult(depends_on=_depends_on, stale_reason=_stale_reason),
    **STEP_OPTIONS,
)
def evaluate(metadata: dict[str, Any], artifacts_dir: str) -> dict[str, Any]:
    """Evaluate the registered model and write its evaluation.json."""
    artifacts = Artifacts.open(artifacts_dir)
    version = metadata["model_version"]
    evaluator.evaluate_model(
        version, artifacts.models, artifacts.evaluations, invocation=flow_invocation()
    )
    return evaluator.load_evaluation(version, artifacts.evaluations)
