"""Verification: recompute a model's record and compare. No file of the record is written.

`evidence` reads the files, `expected` computes what they must contain, `statements` has the exact
form of the two statements, `checks` compares. `retraining` trains a model again, and `divergence`
says how two trainings differ.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from src.artifacts import Artifacts
from src.evaluation.evaluator import (
    SIMULATED_EVALUATOR,
    Evaluator,
    Metrics,
    as_evaluator,
    measure,
    simulated_metrics,
)
from src.evaluation.measuring import recorded_evaluator
from src.lineage.configs import recorded_config
from src.lineage.record import model_not_found, version_folders
from src.lineage.verify.checks import CHECKS, Case, Check, Verdict, failed_checks, verdict
from src.lineage.verify.evidence import (
    File,
    HashFiles,
    ModelEvidence,
    read_dataset,
    read_model,
    read_registry,
)
from src.lineage.verify.expected import expect
from src.lineage.verify.retraining import OnPoint
from src.lineage.verify.retraining import retrain as retrain_model
from src.names import is_version
from src.records.canonical import is_same_json
from src.records.registry_file import RegistryFile
from src.records.statement import weights_of
from src.storage import Location, StorePath
from src.storage.overlap import overlapped
from src.training.config import ConfigFile
from src.training.hashing import HashDataset, count_and_hash, count_and_hash_once
from src.training.pipeline import config_evaluator

__all__ = [
    "Check",
    "Verdict",
    "failed_checks",
    "verdict",
    "verify",
    "verify_all",
    "verify_evidence",
]

logger = logging.getLogger(__name__)


def verify(
    model_version: str,
    artifacts_dir: Location = "artifacts",
    *,
    hash_dataset: HashDataset = count_and_hash,
    metrics: Metrics | Evaluator = simulated_metrics,
) -> list[Check]:
    """Verify a model's record by recomputing it. Reads data.jsonl in full.

    Args:
        model_version: A version with a registry entry or a folder.
        artifacts_dir: The artifacts root.
        hash_dataset: Counts and hashes a data.jsonl.
        metrics: The evaluator of the model. An evaluation by another one is not measured again.

    Returns:
        The checks, always in the same order. Without a readable provenance.json, the checks that
        need one are left out, and its own check fails.

    Raises:
        ModelNotFoundError: The version does not exist.
        OSError: The artifacts root cannot be reached or listed. A damaged or unreadable file never
            raises.
    """
    [(_, checks)] = verify_all(
        artifacts_dir, versions=[model_version], hash_dataset=hash_dataset, metrics=metrics
    )
    return checks


def verify_all(
    artifacts_dir: Location = "artifacts",
    *,
    versions: Iterable[str] | None = None,
    hash_dataset: HashDataset = count_and_hash,
    hash_files: HashFiles = StorePath.digests,
    metrics: Metrics | Evaluator = simulated_metrics,
    reevaluate: bool = False,
    retrain: bool = False,
    config_file: ConfigFile | None = None,
    on_point: OnPoint = lambda *_: None,
) -> Iterator[tuple[str, list[Check]]]:
    """Verify many models, one after the other; see `verify`. Reads each dataset once.

    Args:
        artifacts_dir: The artifacts root.
        versions: The versions to verify; all that have a registry entry or a folder if `None`.
        hash_dataset: Counts and hashes a data.jsonl.
        hash_files: Hashes the weights of a model.
        metrics: The evaluator of the models; see `verify`.
        reevaluate: Whether the evaluators that configs name are run again. Their code is taken from
            the configs, which must have the contents that were recorded. An evaluation that names
            another evaluator than its config, or another seed, options, data or declarations, is a
            mismatch, unless it names that of `metrics`.
        retrain: Whether the models are trained again, each in a temporary folder. The code of the
            trainers is taken from the configs, which must have the contents that were recorded; if
            it changed, the model is trained by the new code.
        config_file: The config that names evaluator and trainer; that of each model if `None`.
        on_point: Receives the model version and each point of a training, as it comes.

    Yields:
        Each version and its checks.

    Raises:
        ModelNotFoundError: One of the versions does not exist; raised before any is verified.
        OSError: The artifacts root cannot be reached or listed.
    """
    for evidence, checks in verify_evidence(
        artifacts_dir,
        versions=versions,
        hash_dataset=hash_dataset,
        hash_files=hash_files,
        metrics=metrics,
        reevaluate=reevaluate,
        retrain=retrain,
        config_file=config_file,
        on_point=on_point,
    ):
        yield evidence.version, checks


def verify_evidence(
    artifacts_dir: Location,
    *,
    versions: Iterable[str] | None = None,
    hash_dataset: HashDataset,
    hash_files: HashFiles = StorePath.digests,
    metrics: Metrics | Evaluator,
    reevaluate: bool = False,
    retrain: bool = False,
    config_file: ConfigFile | None = None,
    on_point: OnPoint = lambda *_: None,
) -> Iterator[tuple[ModelEvidence, list[Check]]]:
    """Verify many models; yield the files of each as they were verified, and its checks.

    Use these values instead of reading the files again, which may be edited after their
    verification. See `verify_all`.
    """
    artifacts = Artifacts.open(artifacts_dir)
    evaluator = as_evaluator(metrics)
    registry = read_registry(artifacts)
    versions = None if versions is None else list(versions)
    entries = _entries(registry, versions)
    if versions is None or not entries.keys() >= set(versions):
        folders = [*version_folders(artifacts.models), *version_folders(artifacts.evaluations)]
        known = dict.fromkeys([*entries, *folders])
        versions = list(known) if versions is None else versions
        for version in versions:
            if version not in known:
                raise model_not_found(version, artifacts)
    hash_dataset_once = cache(hash_dataset)

    def read(version: str) -> ModelEvidence:
        return read_model(version, artifacts, registry, entries.get(version), hash_files)

    # A training takes long: the files of the next model are read after it.
    is_read_ahead = not retrain and artifacts.root.store.parallel_requests > 1
    evidences = overlapped(read, versions, artifacts.root) if is_read_ahead else map(read, versions)
    for version, evidence in zip(versions, evidences, strict=True):
        if is_read_ahead and evidence.evaluation.is_missing:  # perhaps written since then
            evidence = read(version)
        if evidence.is_entry_missing and not evidence.evaluation.is_missing:
            # A run registers a model before it evaluates it: maybe after the registry was read.
            registry = read_registry(artifacts)
            entries = _entries(registry, versions)
            evidence = replace(evidence, registry=registry, entry=entries.get(version))
        declared = None
        is_given = not evaluator.is_simulated and _is_by(evaluator, evidence)
        if reevaluate and not is_given:
            declared = _declared_evaluator(evidence, config_file, artifacts)
        expected = expect(evidence, partial(_measure_again, evaluator, declared, artifacts))
        dataset = None
        if expected.dataset_version is not None:
            dataset = read_dataset(expected.dataset_version, artifacts, hash_dataset_once)
        measured_on = _evaluation_dataset(evidence)
        evaluation_dataset = None
        if measured_on is not None:
            evaluation_dataset = read_dataset(measured_on, artifacts, hash_dataset_once)
        retraining = None
        if retrain:
            retraining = retrain_model(evidence, dataset, config_file, artifacts, on_point)
        case = Case(
            evidence=evidence,
            expected=expected,
            dataset=dataset,
            evaluation_dataset=evaluation_dataset,
            declared=declared,
            retraining=retraining,
        )
        checks = [check(case) for check in CHECKS]
        yield evidence, [check for check in checks if check is not None]


def _evaluation_dataset(evidence: ModelEvidence) -> str | None:
    """Return the dataset version that the statement of an evaluation names."""
    statement = evidence.evaluation_statement.value
    dependency = statement.dependency("evaluation dataset") if statement else None
    return dependency.uri if dependency and is_version(dependency.uri) else None


def _entries(
    registry: File[RegistryFile], versions: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """Return the entries of `versions`, or all, by model version.

    There are none if the registry cannot be parsed.
    """
    if registry.value is None:
        return {}
    if versions is not None:
        return registry.value.find(versions)
    return {model["model_version"]: model for model in registry.value.models}


def _measure_again(
    evaluator: Evaluator,
    declared: Evaluator | None,
    artifacts: Artifacts,
    evidence: ModelEvidence,
    metadata: Mapping[str, Any],
) -> bytes | None:
    """Measure a model again, if its evaluation names one of the evaluators.

    Args:
        evaluator: The evaluator that the caller passed.
        declared: The evaluator that a config names; `None` if it is not to be run.
        artifacts: The artifacts root.
        evidence: The files of the model.
        metadata: Its metadata.
    """
    if (statement := evidence.evaluation_statement.value) is not None:
        known = [SIMULATED_EVALUATOR, evaluator, *([declared] if declared else [])]
        named = recorded_evaluator(statement)
        found = next((each for each in known if is_same_json(each.to_dict(), named)), None)
        if found is None:
            return None
        evaluator = found
    files = evidence.statement.value.files if evidence.statement.value else {}
    try:
        return measure(
            metadata,
            evaluator,
            weights_of(files),
            artifacts.models / evidence.version,
            evidence.evaluation.data,
            attested_sha256=statement.subject_sha256 if statement else None,
        )
    except (OSError, ValueError) as error:
        if not evaluator.is_simulated:
            logger.warning("%s: not measured again: %s", evidence.version, error)
        return None


def _is_by(evaluator: Evaluator, evidence: ModelEvidence) -> bool:
    """Return whether an evaluation names this evaluator."""
    statement = evidence.evaluation_statement.value
    return statement is not None and is_same_json(
        recorded_evaluator(statement), evaluator.to_dict()
    )


def _declared_evaluator(
    evidence: ModelEvidence, config_file: ConfigFile | None, artifacts: Artifacts
) -> Evaluator | None:
    """Return the evaluator that a config names; `None` if it cannot be run here.

    Args:
        evidence: The files of the model.
        config_file: The config; that of the model if `None`.
        artifacts: The artifacts root.
    """
    if evidence.statement.value is None:
        return None
    try:
        config_file = config_file or recorded_config(evidence.statement.value, artifacts)
        metadata = evidence.metadata.value or evidence.entry or {}
        return config_evaluator(
            config_file,
            metadata.get("dataset_version", config_file.config.dataset_version),
            artifacts,
            hash_dataset=count_and_hash_once,
        )
    except (OSError, ValueError) as error:
        if not _is_by(SIMULATED_EVALUATOR, evidence):  # which needs no config
            logger.warning("%s: not measured again: %s", evidence.version, error)
        return None
