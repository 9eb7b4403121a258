"""Step 5: the evaluation."""

from typing import Any

from prefect import task

from src.artifacts import Artifacts, read_statement
from src.errors import CorruptFileError
from src.evaluation import evaluator
from src.records.canonical import canonical_json, sha256
from src.records.layout import STATEMENT_FILE
from src.storage import Location, StorePath
from tasks.caching import ALTERED_RESULT, STEP_OPTIONS, VerifiedResult, difference_reason
from tasks.invocation import flow_invocation
from tasks.results import file_digests, stale_result


def _depends_on(metadata: dict[str, Any], **_: object) -> list[str]:
    return [canonical_json(metadata).decode()]


def _stale_reason(
    result: dict[str, Any], metadata: dict[str, Any], artifacts_dir: Location
) -> str | None:
    evaluations = Artifacts.open(artifacts_dir).evaluations
    path = evaluator.evaluation_path(metadata["model_version"], evaluations)
    evaluation = evaluator.serialize_evaluation(metadata)
    if evaluation != canonical_json(result):
        return ALTERED_RESULT
    statement = read_statement(path.parent)
    if statement is not None and statement.subject_sha256 != sha256(evaluation):
        return f"{path.parent / STATEMENT_FILE} is not the statement of this evaluation"
    return difference_reason(path, evaluation)


def _files(metadata: dict[str, Any], artifacts_dir: Location) -> list[StorePath]:
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
def evaluate(metadata: dict[str, Any], artifacts_dir: Location) -> dict[str, Any]:
    """Evaluate the registered model and write its evaluation.json."""
    _refuse_replaced_statement(metadata, artifacts_dir)
    artifacts = Artifacts.open(artifacts_dir)
    version = metadata["model_version"]
    evaluator.evaluate_model(
        version, artifacts.models, artifacts.evaluations, invocation=flow_invocation()
    )
    return evaluator.load_evaluation(version, artifacts.evaluations)
