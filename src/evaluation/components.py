"""Evaluators that a config names, each run as a child process."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from src.components.child import FAULT_FILE, METRICS_FILE
from src.components.component import check_may_run
from src.components.description import Description, InputChangedError, changed_files
from src.components.output import line_logger
from src.components.process import dataset_values, local_dataset, run_component
from src.components.work import temporary_folder
from src.errors import CorruptFileError
from src.evaluation.measuring import Evaluator
from src.records.canonical import parse_json
from src.records.dataset_version import DatasetVersion
from src.records.layout import METADATA_LIMIT
from src.storage import read_file

__all__ = ["EvaluatorOutputError", "component_evaluator"]

logger = logging.getLogger(__name__)


class EvaluatorOutputError(ValueError):
    """Raised when an evaluator has left no valid metrics."""


def component_evaluator(
    description: Description, dataset: DatasetVersion, describe_again: Callable[[], Evaluator]
) -> Evaluator:
    """Return the evaluator that a config names; it measures in a child process.

    Args:
        description: The evaluator.
        dataset: The data that it measures on.
        describe_again: Returns the evaluator with its present code.
    """

    def described_again() -> Evaluator | None:
        return describe_again() if changed_files(description.code_files) else None

    return Evaluator(
        identity=description.component.to_dict(),
        measure=lambda metadata, model: _measure(description, dataset, metadata, model),
        version=description.version,
        code=description.code,
        measured=description.measured,
        better=description.better,
        dataset=dataset,
        described_again=described_again,
    )


def _measure(
    description: Description,
    dataset: DatasetVersion,
    metadata: Mapping[str, Any],
    model: Path | None,
) -> dict[str, float]:
    component, log_line = description.component, line_logger(logger)
    check_may_run(f"evaluator {component.use}")
    with temporary_folder() as folder, local_dataset(dataset) as data:
        output = folder / "output"
        output.mkdir()
        run_component(
            component,
            "evaluator",
            {
                "model_version": metadata["model_version"],
                "metadata": dict(metadata),
                "config": metadata["training_config"],
                **dataset_values(data),
                "model": None if model is None else str(model),
                "output": str(output),
            },
            folder=folder,
            is_temporary=True,
            timeout_seconds=component.execution.timeout_seconds,
            on_line=lambda _, line: log_line(line),
        )
        metrics = _read_metrics(output, component.use)
        _check_inputs(description, data)
    return metrics


def _check_inputs(description: Description, data: DatasetVersion) -> None:
    """Check that the evaluator has measured with the code and the data that are recorded."""
    files = {**description.code_files, Path(data.path): data.sha256}
    if changed := changed_files(files):
        raise InputChangedError(
            "\n".join(f"{path}: {how} since the run began." for path, how in changed.items())
            + f"\nEvaluator {description.component.use!r} measured with it. No evaluation was "
            "written; run again."
        )


def _read_metrics(output: Path, use: str) -> dict[str, float]:
    expected = f"Expected an object of finite numbers in {METRICS_FILE} of its output folder"
    try:
        if (fault := read_file(output / FAULT_FILE, METADATA_LIMIT)) is not None:
            reason = parse_json(fault, FAULT_FILE).get("error")
            raise EvaluatorOutputError(f"evaluator {use!r} returned no metrics: {reason}")
        if (output / METRICS_FILE).is_symlink():
            raise EvaluatorOutputError(f"evaluator {use!r}: found a link. {expected}.")
        data = read_file(output / METRICS_FILE, METADATA_LIMIT)
        if data is None:
            raise EvaluatorOutputError(f"evaluator {use!r}: found no file. {expected}.")
        metrics = parse_json(data, METRICS_FILE)
    except CorruptFileError as error:
        raise EvaluatorOutputError(f"evaluator {use!r}: {error} {expected}.") from error
    if not metrics:
        raise EvaluatorOutputError(f"evaluator {use!r}: found no metrics. {expected}.")
    return metrics
