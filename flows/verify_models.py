"""Verification of the given models, by default by training them again."""

from contextlib import ExitStack
from typing import Any

from prefect import flow, runtime

from flows.logs import configure_log
from flows.root import DEFAULT_ROOT
from flows.states import FLOW_OPTIONS, failed_state
from flows.verdicts import report_verdicts
from src.lineage.verify import verify_all
from src.rendering.text import one_line
from tasks.progress import training_progress

__all__ = ["verify_models"]

TABLE_KEY = "verification"


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    verb = "retrain" if parameters["retrain"] else "verify"
    return one_line(f"{verb} {' and '.join(parameters['model_versions'])}")


@flow(name="verify-models", flow_run_name=_run_name, **FLOW_OPTIONS)
def verify_models(
    model_versions: list[str],
    retrain: bool = True,
    reevaluate: bool = False,
    artifacts_dir: str = DEFAULT_ROOT,
) -> dict[str, str]:
    """Verify the records of models by recomputing them.

    No file of a model is changed. The run fails if a model does not match its record; the table has
    the reasons, and for a training the first step and the tensors that differ.

    Args:
        model_versions: One or more model versions.
        retrain: Train the models again, in a temporary folder, and compare the weights.
        reevaluate: Measure the models again with the evaluators that their configs name.
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`, or the address
            of an object store, e.g. `s3://bucket/prefix`. The default is `LLM_TRAIN_ARTIFACTS`
            of the worker, or `artifacts`.

    Returns:
        The verdict by model version: MATCH, AS RECORDED, MISMATCH, UNREADABLE or UNFINISHED.

    Raises:
        KeyError: A model version does not exist; names the nearest ones.
        ValueError: A model does not match its record, or no version is given.
        OSError: The artifacts root cannot be reached.
    """
    configure_log()
    if not model_versions:
        error = ValueError("model_versions: expected one or more model versions, found none.")
        return failed_state(error)  # type: ignore[no-any-return]
    with ExitStack() as stack:
        progress: dict[str, Any] = {}

        def on_point(version: str, point: Any) -> None:
            if version not in progress:
                progress[version] = stack.enter_context(training_progress(version))
            progress[version](point)

        results = verify_all(
            artifacts_dir,
            versions=model_versions,
            retrain=retrain,
            reevaluate=reevaluate,
            on_point=on_point,
        )
        return report_verdicts(results, TABLE_KEY)  # type: ignore[no-any-return]
