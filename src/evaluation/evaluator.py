"""The evaluator: metrics of a model version, in evaluation.json."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from sys import float_info
from typing import Any

from src.provenance import (
    PROVENANCE_NAME,
    Invocation,
    Material,
    read_provenance,
    vouch_for_evaluation,
)
from src.storage import canonical_json, parse_json, read, replace, sha256
from src.versions import check_version, read_metadata

__all__ = ["Metrics", "evaluate_model", "evaluation_of", "load_evaluation", "simulated_metrics"]

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
    invocation: Invocation | None = None,
) -> Path:
    """Evaluate a model version.

    Afterwards `<output_dir>/<model_version>/evaluation.json` holds `model_version`,
    `dataset_version` and `metrics`. It is derived from the model, so one that says otherwise is
    written again, with a warning in the log. Where the model has a provenance.json, there is one
    of the evaluation as well, which tells of the first run that gave this evaluation.

    Args:
        model_version: A version with a metadata.json in `models_dir`.
        models_dir: Folder of all model versions.
        output_dir: Folder of all evaluations.
        metrics: Measures the model.
        invocation: The run, as the provenance tells of it; one that starts now where `None`.

    Returns:
        The path of the evaluation's directory.

    Raises:
        FileNotFoundError: No such model version.
        CorruptFileError: The model's metadata, or the provenance of the old evaluation, cannot be
            read. Nothing was changed.
        ValueError: The name is none, or a metric is not finite.
        OSError: The disk refused; the old evaluation, if any, is still there.
    """
    invocation = invocation or Invocation()
    model = Path(models_dir) / check_version("model_version", model_version)
    metadata = read_metadata(model_version, Path(models_dir))
    evaluation = evaluation_of(metadata, metrics)
    path = evaluation_path(model_version, output_dir)
    read_provenance(path.with_name(PROVENANCE_NAME))
    found = read(path)
    if found not in (None, evaluation):
        logger.warning(
            "%s: expected sha256 %s, found %s: restored.", path, sha256(evaluation), sha256(found)
        )
    replace(path, evaluation, root=Path(output_dir))
    if (provenance := read(model / PROVENANCE_NAME)) is not None:
        made_of = {"metadata.json": canonical_json(metadata), PROVENANCE_NAME: provenance}
        vouch_for_evaluation(
            evaluation,
            path.parent,
            [
                Material(
                    name=name,
                    uri=f"models/{model_version}/{name}",
                    digest={"sha256": sha256(data)},
                )
                for name, data in made_of.items()
            ],
            invocation,
            model_version=model_version,
            root=Path(output_dir),
        )
    logger.info("%s: sha256 %s.", path, sha256(evaluation))
    return path.parent


def evaluation_of(metadata: Mapping[str, Any], metrics: Metrics = simulated_metrics) -> bytes:
    """Give what evaluation.json says of a model.

    Args:
        metadata: What the model's metadata.json holds.
        metrics: Measures the model.

    Raises:
        ValueError: A metric is not a finite number.
    """
    model_version, dataset_version = metadata["model_version"], metadata["dataset_version"]
    measured = dict(metrics(metadata))
    for name, value in measured.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= float_info.max:
            raise ValueError(
                f"metrics of {model_version!r}: {name}: expected a finite number, found {value!r}. "
                "Nothing was written."
            )
    return canonical_json(
        {
            "model_version": model_version,
            "dataset_version": dataset_version,
            "metrics": measured,
        }
    )


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
