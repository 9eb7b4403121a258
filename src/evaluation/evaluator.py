"""The evaluator: measure a model version and write evaluation.json."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from src.artifacts import read_metadata, read_statement
from src.environment import Invocation
from src.errors import CorruptFileError
from src.evaluation.attestation import attest_evaluation
from src.names import check_version
from src.records.canonical import canonical_json, parse_json, sha256
from src.records.evaluation import evaluation_bytes
from src.records.layout import (
    EVALUATION_FILE,
    METADATA_FILE,
    METADATA_LIMIT,
    MODELS_FOLDER,
    STATEMENT_FILE,
    STATEMENT_LIMIT,
)
from src.records.statement import ResolvedDependency, parse_statement
from src.storage import Location, StorePath, open_path

__all__ = [
    "Metrics",
    "evaluate_model",
    "evaluation_path",
    "load_evaluation",
    "serialize_evaluation",
    "simulated_metrics",
]

Metrics = Callable[[Mapping[str, Any]], Mapping[str, float]]
"""Receives the metadata of a model; returns its metrics by name, which are finite numbers."""

logger = logging.getLogger(__name__)


def simulated_metrics(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Return simulated metrics, derived only from the model version and the dataset version.

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
    models_dir: Location = "artifacts/models",
    output_dir: Location = "artifacts/evaluations",
    *,
    metrics: Metrics = simulated_metrics,
    invocation: Invocation | None = None,
) -> Path:
    """Evaluate a model version.

    Afterwards `<output_dir>/<model_version>/evaluation.json` holds `model_version`,
    `dataset_version` and `metrics`. An evaluation.json with other contents is replaced, with a
    warning in the log. If the model has a provenance.json, the evaluation has one too; it describes
    the first run with this evaluation.

    Args:
        model_version: A version with a metadata.json in `models_dir`.
        models_dir: Folder of all model versions.
        output_dir: Folder of all evaluations.
        metrics: Measures the model.
        invocation: The run that provenance.json records; a run that starts now if `None`.

    Returns:
        The path of the folder of the evaluation.

    Raises:
        FileNotFoundError: There is no such model version.
        CorruptFileError: The metadata of the model, or the provenance.json of an existing
            evaluation, cannot be parsed, or the model's provenance.json is not the one that the
            evaluation's names. Nothing was changed.
        ValueError: The name is not valid, or a metric is not finite.
        OSError: A file cannot be read or written; no partial file is left. A second call
            completes what is missing.
    """
    invocation = invocation or Invocation()
    models = open_path(models_dir)
    metadata = read_metadata(model_version, models)
    evaluation = serialize_evaluation(metadata, metrics)
    path = evaluation_path(model_version, output_dir)
    statement = (models / model_version / STATEMENT_FILE).read(STATEMENT_LIMIT)
    _check_attested(statement, models / model_version / STATEMENT_FILE, path.parent, invocation)
    found = path.read(METADATA_LIMIT)
    path.replace(evaluation)
    if found not in (None, evaluation):
        logger.warning(
            "%s: expected sha256 %s, found %s. Replaced.", path, sha256(evaluation), sha256(found)
        )
    if statement is not None:
        inputs = {METADATA_FILE: canonical_json(metadata), STATEMENT_FILE: statement}
        attest_evaluation(
            evaluation,
            path.parent,
            [
                ResolvedDependency(
                    name=name,
                    uri=f"{MODELS_FOLDER}/{model_version}/{name}",
                    digest={"sha256": sha256(data)},
                )
                for name, data in inputs.items()
            ],
            invocation,
            model_version=model_version,
        )
    logger.info("%s: sha256 %s.", path, sha256(evaluation))
    return Path(str(path.parent))


def _check_attested(
    statement: bytes | None, path: StorePath, folder: StorePath, invocation: Invocation
) -> None:
    """Check the statement of a model against the one that the model's evaluation names, if any.

    Args:
        statement: The bytes of the model's statement; `None` if there is none.
        path: Its path.
        folder: The folder of the evaluation.
        invocation: The run. A statement that this run wrote, in place of one that was deleted, is
            accepted.

    Raises:
        CorruptFileError: The statement of the evaluation cannot be parsed, or names other bytes.
    """
    attestation = read_statement(folder)
    expected = attestation and attestation.digest(STATEMENT_FILE)
    if statement is None or expected in (None, found := sha256(statement)):
        return
    if parse_statement(statement, path).invocation_id == invocation.id:
        return
    raise CorruptFileError(
        f"{path}: found sha256 {found}. Expected {expected}, as {folder / STATEMENT_FILE} records: "
        "it was edited or written again after the evaluation. The evaluation was not changed. "
        "Restore the file, or train the config under another model_version."
    )


def serialize_evaluation(
    metadata: Mapping[str, Any], metrics: Metrics = simulated_metrics
) -> bytes:
    """Measure a model and return the bytes of its evaluation.json.

    Args:
        metadata: The contents of the model's metadata.json.
        metrics: Measures the model.

    Raises:
        ValueError: A metric is not a finite number.
    """
    versions = {key: metadata[key] for key in ("model_version", "dataset_version")}
    return evaluation_bytes(versions, dict(metrics(metadata)))


def load_evaluation(
    model_version: str, output_dir: Location = "artifacts/evaluations"
) -> dict[str, Any]:
    """Read the evaluation.json of a model version.

    Raises:
        FileNotFoundError: The model version was not evaluated.
        CorruptFileError: The file is not a JSON object.
        ValueError: `model_version` is not a valid name.
    """
    path = evaluation_path(model_version, output_dir)
    data = path.read(METADATA_LIMIT)
    if data is None:
        raise FileNotFoundError(f"{path}: no such file. Evaluate {model_version!r} first.")
    return parse_json(data, path)


def evaluation_path(model_version: str, output_dir: Location) -> StorePath:
    """Return the path of the evaluation.json of a model version."""
    folder = open_path(output_dir) / check_version("model_version", model_version)
    return folder / EVALUATION_FILE
