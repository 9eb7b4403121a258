"""The training pipeline: cached steps with retries."""

from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from flows.logs import configure_log, unpinned_warnings
from flows.openlineage import lineage_hooks
from flows.report import publish_models, report_key, training_report
from flows.root import DEFAULT_ROOT
from flows.states import FLOW_OPTIONS, RunTimeoutError, failed_state, timed_out_state
from flows.steps import call_limited, config_steps, run_steps
from src.artifacts import Artifacts
from src.rendering import markdown
from src.rendering.text import one_line
from tasks.caching import step_results
from tasks.process import record_process


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    named = parameters.get("model_version") or Path(parameters["training_config_path"]).stem
    return one_line(f"train {named}")


@flow(
    name="training-pipeline",
    flow_run_name=_run_name,
    # Prefect stores the error of a failed run here, as by default; naming the place saves three
    # requests to the server.
    result_storage=get_current_settings().results.local_storage_path,
    **FLOW_OPTIONS,
    **lineage_hooks(),
)
def training_pipeline(
    training_config_path: str,
    model_version: str | None = None,
    artifacts_dir: str = DEFAULT_ROOT,
) -> dict[str, Any]:
    """Train, register and evaluate one model.

    A second run with the same config and data adds nothing: its steps are served from the cache.

    Args:
        training_config_path: The training config, a YAML file, e.g.
            `configs/training/mistral_finetune.yaml`.
        model_version: Name of the model version, e.g. `model_v1`. Leave it empty to derive the
            name from the base model, the dataset version, and a digest of config and data.
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`, or the address
            of an object store, e.g. `s3://bucket/prefix`. The default is `LLM_TRAIN_ARTIFACTS`
            of the worker, or `artifacts`.

    Returns:
        The contents of evaluation.json: `model_version`, `dataset_version` and `metrics`.

    Raises:
        FileNotFoundError: The config, the dataset version or its data.jsonl does not exist.
        ModelVersionConflict: The version exists with other content. Nothing was changed.
        ValueError: The config, the data, a name or a file of the record is not valid.
        OSError: A file cannot be read or written, or a lock was held for too long, after three
            retries.
    """
    configure_log()
    record_process()
    try:
        # The form sends an empty text for an empty field.
        return _train(training_config_path, model_version or None, artifacts_dir)
    except RunTimeoutError as error:
        return timed_out_state(error)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        return failed_state(error)  # type: ignore[no-any-return]


def _train(
    training_config_path: str, model_version: str | None, artifacts_dir: str
) -> dict[str, Any]:
    artifacts = Artifacts.open(artifacts_dir)
    with step_results(artifacts) as decisions:
        steps = config_steps(
            training_config_path,
            model_version,
            str(artifacts.root),
            on_version=lambda version: _rename_run(f"train {version}"),
            on_dataset=unpinned_warnings(),
        )
        values = run_steps(steps, call_limited)
    report = training_report(
        values.config_file,
        values.dataset,
        values.evaluation,
        decisions.steps,
        artifacts,
        table_link=publish_models(artifacts, is_changed=not decisions.is_cached),
    )
    create_markdown_artifact(
        report,
        key=report_key(values.model_version),
        description=f"Training of {markdown.text(values.model_version)}",
    )
    return values.evaluation


def _rename_run(name: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run(runtime.flow_run.id, name=name)
