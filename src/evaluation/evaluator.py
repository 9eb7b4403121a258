"""The evaluator: measure a model version and write evaluation.json."""

import hashlib
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from src.artifacts import read_metadata, read_statement, weights_folder
from src.components.component import SIMULATED, may_run
from src.components.work import locked_work
from src.digest import Digest
from src.environment import Invocation
from src.errors import CorruptFileError, truncated_repr
from src.evaluation.attestation import attest_evaluation
from src.evaluation.measuring import Evaluator, Metrics, function_evaluator, recorded_evaluator
from src.names import check_version
from src.records.canonical import canonical_json, parse_json, sha256
from src.records.evaluation import evaluation_bytes, is_metric
from src.records.layout import (
    EVALUATION_FILE,
    METADATA_FILE,
    METADATA_LIMIT,
    MODELS_FOLDER,
    STATEMENT_FILE,
    STATEMENT_LIMIT,
)
from src.records.metadata import all_conflict_details, conflict_details
from src.records.statement import ResolvedDependency, Statement, parse_statement, weights_of
from src.rendering.shell import quote
from src.storage import Location, StorePath, open_path, plain_path

__all__ = [
    "SIMULATED_EVALUATOR",
    "EvaluationConflict",
    "Evaluator",
    "Metrics",
    "as_evaluator",
    "evaluate_model",
    "evaluation_path",
    "load_evaluation",
    "measure",
    "put_evaluation",
    "serialize_evaluation",
    "simulated_metrics",
]

EARLIER_FOLDER = "earlier"
EARLIER_DIGITS = 16

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


SIMULATED_EVALUATOR = Evaluator(
    identity={"use": SIMULATED},
    version="1",
    measure=lambda metadata, _: simulated_metrics(metadata),
)


def as_evaluator(metrics: Metrics | Evaluator) -> Evaluator:
    """Return the evaluator of a function that measures a model; an evaluator as it is."""
    if isinstance(metrics, Evaluator):
        return metrics
    return SIMULATED_EVALUATOR if metrics is simulated_metrics else function_evaluator(metrics)


class EvaluationConflict(ValueError):
    """Raised when a model has an evaluation by another evaluator, or on other data."""


def evaluate_model(
    model_version: str,
    models_dir: Location = "artifacts/models",
    output_dir: Location = "artifacts/evaluations",
    *,
    metrics: Metrics | Evaluator = simulated_metrics,
    replace: bool = False,
    invocation: Invocation | None = None,
) -> Path | StorePath:
    """Evaluate a model version.

    Afterwards `<output_dir>/<model_version>/evaluation.json` holds `model_version`,
    `dataset_version` and `metrics`. If the model has a provenance.json, the evaluation has one too;
    it names the evaluator and describes the first run with this evaluation.

    An evaluation by another evaluator is not changed. One that its statement attests is measured
    again only by the simulated evaluator. One with other numbers than this evaluator gives is
    replaced, with a warning in the log; metrics of the clock keep their recorded values. One whose
    statement is missing is kept in `earlier/`, unless this evaluator is the simulated one.

    Args:
        model_version: A version with a metadata.json in `models_dir`.
        models_dir: Folder of all model versions.
        output_dir: Folder of all evaluations.
        metrics: Measures the model: a function of its metadata, or an evaluator.
        replace: Whether to measure again in any case. An existing evaluation, also one by another
            evaluator, is kept with its statement in `earlier/<digest>/` of its folder.
        invocation: The run that provenance.json records; a run that starts now if `None`.

    Returns:
        The path of the folder of the evaluation; a `StorePath` if `output_dir` is no folder.

    Raises:
        FileNotFoundError: There is no such model version.
        CorruptFileError: The metadata of the model, or the provenance.json of an existing
            evaluation, cannot be parsed, or the model's provenance.json is not the one that the
            evaluation's names. Nothing was changed.
        EvaluationConflict: The model has an evaluation by another evaluator. Nothing was changed.
        ValueError: The name is not valid, or a metric is not finite.
        OSError: A file cannot be read or written; no partial file is left. A second call
            completes what is missing.
    """
    evaluator, models = as_evaluator(metrics), open_path(models_dir)
    check_version("model_version", model_version)
    # Two runs that measure a version at the same time could mix their numbers and statements.
    is_locked = not evaluator.is_simulated and may_run()
    with locked_work(models, model_version) if is_locked else nullcontext():
        evaluation = put_evaluation(
            model_version,
            models,
            open_path(output_dir),
            evaluator,
            replace=replace,
            invocation=invocation or Invocation(),
        )
    path = evaluation_path(model_version, output_dir)
    logger.info("%s: sha256 %s.", path, sha256(evaluation))
    return plain_path(path.parent)


def put_evaluation(
    model_version: str,
    models: StorePath,
    output: StorePath,
    evaluator: Evaluator,
    *,
    invocation: Invocation,
    replace: bool = False,
) -> bytes:
    """Do what `evaluate_model` does, without a line in the log for what is as expected.

    Returns:
        The bytes of evaluation.json.
    """
    metadata = read_metadata(model_version, models)
    path = evaluation_path(model_version, output)
    statement_path = models / model_version / STATEMENT_FILE
    statement = statement_path.read(STATEMENT_LIMIT)
    recorded = read_statement(path.parent)
    _check_attested(statement, statement_path, recorded, path.parent, invocation)
    weights = _weights(statement, statement_path)
    found = path.read(METADATA_LIMIT)
    if recorded is not None and not replace:
        _check_evaluator(recorded, evaluator, path)
        is_done = found is not None and sha256(found) == recorded.subject_sha256
        if found is not None and is_done and not evaluator.is_simulated:
            if weights:
                with weights_folder(models / model_version, weights).local_files(weights):
                    pass  # raises if they were altered
            logger.info("%s: already written by evaluator %s.", path, evaluator.name)
            return found
    evaluation = measure(
        metadata,
        evaluator,
        weights,
        models / model_version,
        None if replace else found,
        attested_sha256=recorded.subject_sha256 if recorded else None,
    )

    def attest() -> None:
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
                evaluator=evaluator,
                weights=weights,
            )

    is_unknown = recorded is None and not evaluator.is_simulated and found not in (None, evaluation)
    if replace or is_unknown:
        _keep_earlier(path.parent)
    # Nothing but the statement says who measured numbers that follow from no names.
    is_attested_first = replace or not evaluator.is_simulated
    if is_attested_first:
        attest()
    path.replace(evaluation)
    if found not in (None, evaluation) and replace:
        logger.info("%s: replaced. The old one is in %s/.", path, path.parent / EARLIER_FOLDER)
    elif found not in (None, evaluation):
        kept = f" The old one is in {path.parent / EARLIER_FOLDER}/." if is_unknown else ""
        digests = sha256(evaluation), sha256(found)
        logger.warning("%s: expected sha256 %s, found %s. Replaced.%s", path, *digests, kept)
    if not is_attested_first:
        attest()
    if statement is not None and not evaluator.is_simulated:
        _check_pair(path)
    return evaluation


def _check_pair(path: StorePath) -> None:
    """Check that an evaluation that was just written, and its statement, are of one measurement.

    Hosts that share an object store have no common lock: each could have written one of the two.

    Raises:
        OSError: They are not; another try measures again and writes both.
    """
    statement, evaluation = read_statement(path.parent), path.read(METADATA_LIMIT)
    if statement is None or evaluation is None or statement.subject_sha256 != sha256(evaluation):
        raise OSError(
            f"{path}: another run evaluated the model at the same time, and the statement beside "
            "it is of another measurement. Run again."
        )


def _keep_earlier(folder: StorePath) -> None:
    """Copy an evaluation and its statement to `earlier/<digest of the statement>/`.

    Of a file without a partner, or with one of another evaluation, the folder has its own digest.
    """
    path = folder / STATEMENT_FILE
    statement = path.read(STATEMENT_LIMIT)
    evaluation = (folder / EVALUATION_FILE).read(METADATA_LIMIT)
    is_pair = (
        statement is not None
        and evaluation is not None
        and parse_statement(statement, path).subject_sha256 == sha256(evaluation)
    )
    for name, data in ((EVALUATION_FILE, evaluation), (STATEMENT_FILE, statement)):
        if data is not None:
            digest = sha256(statement if is_pair and statement else data)
            (folder / EARLIER_FOLDER / digest[:EARLIER_DIGITS] / name).create(data)


def _weights(statement: bytes | None, path: StorePath) -> dict[str, Digest]:
    """Return the weights that the statement of a model lists, by path in their folder."""
    if statement is None:
        return {}
    return weights_of(parse_statement(statement, path).files)


def measure(
    metadata: Mapping[str, Any],
    evaluator: Evaluator,
    weights: Mapping[str, Digest],
    model: StorePath,
    found: bytes | None,
    *,
    attested_sha256: str | None,
) -> bytes:
    """Measure a model on exactly its weights; return the bytes of its evaluation.json.

    Args:
        metadata: The contents of the model's metadata.json.
        evaluator: Measures the model.
        weights: Its weights by path in their folder; empty if nothing was trained.
        model: The folder of the model.
        found: The bytes of its evaluation.json, if there is one.
        attested_sha256: SHA-256 of the evaluation that its statement attests. What was measured on
            the clock is taken from `found` if this gives the attested evaluation.

    Raises:
        CorruptFileError: The weights were altered.
        ValueError: A metric is not a finite number.
        OSError: The weights cannot be read, or the evaluator failed.
    """
    versions = {key: metadata[key] for key in ("model_version", "dataset_version")}
    if not weights:
        measured = evaluator.measure(metadata, None)
    else:
        with weights_folder(model, weights).local_files(weights) as folder:
            measured = evaluator.measure(metadata, folder)
    try:
        metrics = dict(measured)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metrics of {metadata['model_version']!r}: expected numbers by name, found "
            f"{truncated_repr(measured)}. No evaluation was written."
        ) from error
    if found is not None and evaluator.measured:
        times = _recorded_times(found, evaluator, metrics)
        restored = evaluation_bytes(versions, {**metrics, **times})
        if sha256(restored) == attested_sha256:
            return restored
    return evaluation_bytes(versions, metrics)


def _recorded_times(
    found: bytes, evaluator: Evaluator, metrics: Mapping[str, float]
) -> dict[str, float]:
    """Return the metrics that were measured on the clock, as an evaluation.json has them."""
    try:
        recorded = parse_json(found, EVALUATION_FILE).get("metrics")
    except CorruptFileError:
        return {}
    if not isinstance(recorded, dict):
        return {}
    return {
        name: recorded[name]
        for name in evaluator.measured
        if name in metrics and is_metric(recorded.get(name))
    }


def _check_evaluator(recorded: Statement, evaluator: Evaluator, path: StorePath) -> None:
    """Check that a recorded evaluation is by this evaluator, on the same data."""
    old = recorded_evaluator(recorded)
    new = evaluator.to_dict()
    details = all_conflict_details({"evaluator": old}, {"evaluator": new})
    if evaluator.dataset is not None and not details:
        one, other = recorded.digest("evaluation dataset"), evaluator.dataset.sha256
        details = conflict_details({"evaluation dataset": one}, {"evaluation dataset": other})
    if details:
        raise EvaluationConflict(
            f"{path}: measured by evaluator {_name(old)}, and now by {evaluator.name!r}:\n"
            + "".join(f"  {detail}\n" for detail in details)
            + "Nothing was changed. To measure again and keep the old evaluation, run "
            f"`llm-train evaluate {quote(path.parent.name)} --replace`; for the evaluator of a "
            "config other than the model's, add `--config FILE`."
        )
    if recorded.digest("evaluator") not in (None, evaluator.code_sha256):
        logger.warning("%s: the code of evaluator %s was changed later.", path, evaluator.name)


def _name(evaluator: object) -> str:
    name = evaluator.get("use") if isinstance(evaluator, dict) else evaluator
    return truncated_repr(name)


def _check_attested(
    statement: bytes | None,
    path: StorePath,
    attestation: Statement | None,
    folder: StorePath,
    invocation: Invocation,
) -> None:
    """Check the statement of a model against the one that the model's evaluation names, if any.

    Args:
        statement: The bytes of the model's statement; `None` if there is none.
        path: Its path.
        attestation: The statement of the evaluation; `None` if there is none.
        folder: The folder of the evaluation.
        invocation: The run. A statement that this run wrote, in place of one that was deleted, is
            accepted.

    Raises:
        CorruptFileError: The statement of the evaluation names other bytes.
    """
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
