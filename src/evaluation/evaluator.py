"""The evaluator: metrics of a model version, in evaluation.json."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from sys import float_info
from typing import Any

from src.storage import canonical_json, parse_json, read, replace, sha256
from src.versions import check_version, read_metadata

__all__ = ["Metrics", "evaluate_model", "load_evaluation", "simulated_metrics"]

Metrics = Callable[[Mapping[str, Any]], Mapping[str, float]]
"""Gets a model's metadata, gives its metrics by name: finite numbers."""

logger = logging.getLogger(__name__)


def simulated_metrics(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Make up metrics that depend on nothing but the model's and the dataset's version.

    Returns:
        `quality_score` from 0.5 to 0.9999, `latency_ms` from 20 to 99 (whole milliseconds) and
        `cost_per_1k_tokens` from 0.01 to 0.019 (US dollars), each from 8 bytes of one SHA-256.
    """
    versions = canonical_json([metadata["model_version"], metadata["dataset_version"]])
    digest = hashlib.sha256(versions).digest()
    quality, latency, cost = (int.from_bytes(digest[i : i + 8]) for i in (0, 8, 16))
    return {
        "quality_score": round(0.5 + quality % 5000 / 10_000, 4),
        "latency_ms": 20 + latency % 80,
        "cost_per_1k_tokens": round(0.01 + cost % 10 / 1000, 3),
    }


def evaluate_model(
    model_version: str,
    models_dir: str | Path = "artifacts/models",
    output_dir: str | Path = "artifacts/evaluations",
    *,
    metrics: Metrics = simulated_metrics,
) -> Path:
    """Evaluate a model version.

    Afterwards `<output_dir>/<model_version>/evaluation.json` holds `model_version`,
    `dataset_version` and `metrics`. It is derived from the model, so one that says otherwise is
    written again, with a warning in the log.

    Args:
        model_version: A version with a metadata.json in `models_dir`.
        models_dir: Folder of all model versions.
        output_dir: Folder of all evaluations.
        metrics: Measures the model.

    Returns:
        The path of the evaluation's directory.

    Raises:
        FileNotFoundError: No such model version.
        ValueError: The metadata is not valid, the name is none, or a metric is not finite.
        OSError: The disk refused; the old evaluation, if any, is still there.
    """
    metadata = read_metadata(model_version, Path(models_dir))
    dataset_version = metadata["dataset_version"]
    measured = dict(metrics(metadata))
    for name, value in measured.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= float_info.max:
            raise ValueError(
                f"metrics of {model_version!r}: {name}: expected a finite number, found {value!r}. "
                "Nothing was written."
            )
    evaluation = canonical_json(
        {
            "model_version": model_version,
            "dataset_version": dataset_version,
            "metrics": measured,
        }
    )
    path = evaluation_path(model_version, output_dir)
    found = read(path)
    if found not in (None, evaluation):
        logger.warning(
            "%s: expected sha256 %s, found %s: restored.", path, sha256(evaluation), sha256(found)
        )
    replace(path, evaluation, root=Path(output_dir))
    return path.parent


def load_evaluation(
    model_version: str, output_dir: str | Path = "artifacts/evaluations"
) -> dict[str, Any]:
    """Read a model version's evaluation.json.

    Raises:
        FileNotFoundError: It was not evaluated.
        CorruptFileError: The file is not a JSON object.
    """
    path = evaluation_path(model_version, output_dir)
    data = read(path)
    if data is None:
        raise FileNotFoundError(f"{path}: no such file: evaluate {model_version!r} first.")
    return parse_json(data, path)


def evaluation_path(model_version: str, output_dir: str | Path) -> Path:
    """Give where the evaluation of a model version is, or goes."""
    return Path(output_dir) / check_version("model_version", model_version) / "evaluation.json"
