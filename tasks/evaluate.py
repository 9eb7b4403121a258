"""Step 5: the evaluation."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts, read_statement, weights_folder
from src.errors import CorruptFileError
from src.evaluation import evaluator
from src.evaluation.evaluator import Evaluator
from src.records.canonical import canonical_json, sha256
from src.records.layout import STATEMENT_FILE
from src.records.statement import weights_of
from src.storage import Location, StorePath
from tasks.caching import ALTERED_RESULT, STEP_OPTIONS, VerifiedResult, difference_reason
from tasks.invocation import flow_invocation
from tasks.results import file_digests, stale_result


def _depends_on(metadata: dict[str, Any], measured_by: Evaluator | None, **_: object) -> list[str]:
    parts = [canonical_json(metadata).decode()]
    if measured_by is not None:
        inputs = [each.to_dict() for each in measured_by.dependencies({})]
        parts.append(canonical_json([measured_by.to_dict(), inputs]).decode())
    return parts


def _stale_reason(
    result: dict[str, Any],
    metadata: dict[str, Any],
    artifacts_dir: Location,
    measured_by: Evaluator | None,
) -> str | None:
    artifacts = Artifacts.open(artifacts_dir)
    path = evaluator.evaluation_path(metadata["model_version"], artifacts.evaluations)
    evaluation = canonical_json(result)
    if measured_by is None and evaluation != evaluator.serialize_evaluation(metadata):
        return ALTERED_RESULT
    statement = read_statement(path.parent)
    if measured_by is not None and statement is None:
        return f"{path.parent / STATEMENT_FILE} does not exist"
    if statement is not None and statement.subject_sha256 != sha256(evaluation):
        return f"{path.parent / STATEMENT_FILE} is not the statement of this evaluation"
    if statement is not None and (expected := statement.annotations("weights").get("files")):
        model = artifacts.models / metadata["model_version"]
        recorded = read_statement(model)
        weights = weights_folder(model, weights_of(recorded.files) if recorded else {})
        found = weights.digests(use_memos=True)
        if {name: each.sha256 for name, each in found.items()} != expected:
            return f"{weights} was changed"
    return difference_reason(path, evaluation)


def _files(metadata: dict[str, Any], artifacts_dir: Location, **_: object) -> list[StorePath]:
    """Return the statement of the model and the statement of its evaluation."""
    artifacts = Artifacts.open(artifacts_dir)
    version = metadata["model_version"]
    evaluation = evaluator.evaluation_path(version, artifacts.evaluations)
    return [artifacts.models / version / STATEMENT_FILE, evaluation.parent / STATEMENT_FILE]


def _refuse_replaced_statement(metadata: dict[str, Any], artifacts_dir: Location) -> None:
    """Refuse a model whose statement was replaced, and the statement of its evaluation removed.

    A new statement of the evaluation would attest the replaced one.

    Raises:
        CorruptFileError: The cached result has another digest of the model's statement.
    """
    stale = stale_result()
    if stale is None:
        return
    of_model, of_evaluation = files = _files(metadata, artifacts_dir)
    found = file_digests(files)
    expected = stale.files.get(of_model.key)
    if found[of_evaluation.key] is None and expected not in (None, found[of_model.key]):
        raise CorruptFileError(
            f"{of_model}: found sha256 {found[of_model.key]}. Expected {expected}, as when the "
            f"model was evaluated. {of_evaluation}, which names it too, does not exist. Nothing "
            "was written. Restore both files, or train the config under another model_version."
        )


@task(
    task_run_name="evaluate {metadata[model_version]}",
    cache_policy=VerifiedResult(depends_on=_depends_on, stale_reason=_stale_reason, files=_files),
    **STEP_OPTIONS,
)
def evaluate(
    metadata: dict[str, Any], artifacts_dir: Location, measured_by: Evaluator | None = None
) -> dict[str, Any]:
    """Evaluate the registered model and write its evaluation.json."""
    _refuse_replaced_statement(metadata, artifacts_dir)
    artifacts = Artifacts.open(artifacts_dir)
    version = metadata["model_version"]
    evaluator.evaluate_model(
        version,
        artifacts.models,
        artifacts.evaluations,
        metrics=measured_by or evaluator.SIMULATED_EVALUATOR,
        invocation=flow_invocation(),
    )
    return evaluator.load_evaluation(version, artifacts.evaluations)
