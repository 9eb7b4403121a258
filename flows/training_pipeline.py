"""The training pipeline: five cached steps with retries."""

from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from flows.logs import escape_log_lines
from flows.openlineage import lineage_hooks
from flows.report import publish_models, report_key, training_report
from flows.states import FLOW_OPTIONS, failed_state
from src.artifacts import Artifacts
from src.names import check_version
from src.rendering import markdown
from src.rendering.text import one_line
from src.training.trainer import derive_model_version
from tasks.caching import step_results
from tasks.evaluate import evaluate
from tasks.load_config import load_config
from tasks.register import register
from tasks.resolve_dataset import resolve_dataset
from tasks.write_metadata import write_metadata

TIMEOUT_SECONDS = 6 * 60 * 60  # a run that hangs ends before the next night


def _run_name() -> str:
    parameters = runtime.flow_run.parameters
    named = parameters.get("model_version") or Path(parameters["training_config_path"]).stem
    return one_line(f"train {named}")


@flow(
    name="training-pipeline",
    flow_run_name=_run_name,
    timeout_seconds=TIMEOUT_SECONDS,
    # Prefect stores the error of a failed run here, as by default; naming the place saves three
    # requests to the server.
    result_storage=get_current_settings().results.local_storage_path,
    **FLOW_OPTIONS,
    **lineage_hooks(),
)
def training_pipeline(
    training_config_path: str,
    model_version: str | None = None,
    artifacts_dir: str = "artifacts",
) -> dict[str, Any]:
    """Train, register and evaluate one model.

    A second run with the same config and data adds nothing: its steps are served from the cache.

    Args:
        training_config_path: The training config, a YAML file, e.g.
            `configs/training/mistral_finetune.yaml`.
        model_version: Name of the model version, e.g. `model_v1`. Leave it empty to derive the
            name from the base model, the dataset version, and a digest of config and data.
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`.

    Returns:
        The contents of evaluation.json: `model_version`, `dataset_version` and `metrics`.

    Raises:
        FileNotFoundError: The config, the dataset version or its data.jsonl does not exist.
        ModelVersionConflict: The version exists with other content. Nothing was changed.
        ValueError: The config, the data, a name or a file of the record is not valid.
        OSError: A file cannot be read or written, or a lock was held for too long, after three
            retries.
    """
    escape_log_lines()
    try:
        # The form sends an empty text for an empty field.
        return _train(training_config_path, model_version or None, artifacts_dir)
    except (OSError, ValueError) as error:
        return failed_state(error)  # type: ignore[no-any-return]


def _train(
    training_config_path: str, model_version: str | None, artifacts_dir: str
) -> dict[str, Any]:
    if model_version is not None:
        check_version("model_version", model_version)
    artifacts = Artifacts.open(artifacts_dir)
    root = str(artifacts.root)
    with step_results(artifacts) as decisions:
        config_file = load_config(training_config_path)
        config = config_file.config
        dataset = resolve_dataset(config.dataset_version, root)
        if model_version is None:
            model_version = derive_model_version(config, dataset)
            _rename_run(f"train {model_version}")
        metadata = write_metadata(config_file, dataset, model_version, root)
        register(metadata, root)
        evaluation = evaluate(metadata, root)
    report = training_report(
        config_file,
        dataset,
        evaluation,
        decisions.steps,
        artifacts,
        table_link=publish_models(artifacts),
    )
    create_markdown_artifact(
        report,
        key=report_key(model_version),
        description=f"Training of {markdown.text(model_version)}",
    )
    return evaluation


def _rename_run(name: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run(runtime.flow_run.id, name=name)
