"""The expected contents of a model's files, computed from the evidence. Pure.

Several files name the digest of metadata.json. The digest that most of them name is expected; see
`vote`. A single altered file is then the one that a mismatch names, not the files that agree.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from src.lineage.verify.evidence import ModelEvidence
from src.records.canonical import canonical_json, sha256
from src.records.layout import DATA_FILE, EVALUATION_FILE, METADATA_FILE, STATEMENT_FILE
from src.records.statement import Statement
from src.training.config import TrainingConfig
from src.training.dataset import DatasetVersion
from src.training.trained import recorded_training
from src.training.trainer import DERIVED_DIGITS, derived_name, model_metadata

__all__ = ["Expected", "Measure", "expect", "json_sha256", "name_mismatch", "vote"]

_DIGEST = re.compile("[0-9a-f]+")

Measure = Callable[[ModelEvidence, Mapping[str, Any]], bytes | None]
"""Receives the files of a model and its metadata; returns the bytes of its evaluation.json."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """The expected contents of a model's files; `None` where nothing determines them.

    Attributes:
        recomputed_metadata: The metadata.json that the core computes from the model's statement.
        metadata_sha256: Digest of metadata.json and of the registry entry, by vote.
        metadata: The metadata of that digest.
        evaluation: The bytes of evaluation.json, measured again; `None` if the evaluator that its
            statement names was not run.
        statement_sha256: Digest of the model's statement as the evaluation's statement attests
            it; `None` if that statement has mismatches of its digests.
        attestation_mismatches: Mismatches of the evaluation's statement.
        is_metadata_changed_by_code: Whether this core computes another metadata.json than the
            core that wrote it, which the statements agree on.
        evaluation_divergence: Why an evaluation.json that agrees with its statement differs from
            `evaluation`: other metrics, or other code.
        dataset_version: The dataset version that the model was trained on.
    """

    recomputed_metadata: Mapping[str, Any] | None
    metadata_sha256: str | None
    metadata: Mapping[str, Any] | None
    evaluation: bytes | None
    statement_sha256: str | None
    attestation_mismatches: list[str]
    is_metadata_changed_by_code: bool
    evaluation_divergence: Literal["metrics", "code"] | None
    dataset_version: str | None


def expect(evidence: ModelEvidence, measure: Measure) -> Expected:
    """Compute the expected contents of a model's files.

    Args:
        evidence: The files as they are.
        measure: Measures the model again.
    """
    statement = evidence.statement.value
    derived = _derive_metadata(evidence)
    digest = vote(_named_digests(evidence, derived))
    candidates = (derived, evidence.metadata.value, evidence.entry)
    metadata = next((each for each in candidates if each and json_sha256(each) == digest), None)
    evaluation = measure(evidence, deepcopy(metadata)) if metadata else None
    mismatches = _attestation_mismatches(evidence, digest, evaluation)
    attested = evidence.evaluation_statement.value
    statement_sha256 = attested.digest(STATEMENT_FILE) if attested and not mismatches else None
    is_metadata_changed_by_code = (
        statement is not None
        and statement.digest("core") != evidence.core_sha256
        and statement_sha256 == evidence.statement.sha256
        and statement.subject_sha256 == digest != json_sha256(derived)
    )
    source = metadata or derived or evidence.metadata.value or evidence.entry
    return Expected(
        recomputed_metadata=derived,
        metadata_sha256=digest,
        metadata=metadata,
        evaluation=evaluation,
        statement_sha256=statement_sha256,
        attestation_mismatches=mismatches,
        is_metadata_changed_by_code=is_metadata_changed_by_code,
        evaluation_divergence=_evaluation_divergence(evidence, evaluation),
        dataset_version=source["dataset_version"] if source else None,
    )


def vote(digests: Iterable[str | None]) -> str | None:
    """Return the most common digest; `None` if there is none.

    In a tie the digest that comes first is returned, so `digests` starts with the most reliable.
    """
    votes = Counter(digest for digest in digests if digest)
    return votes.most_common(1)[0][0] if votes else None


def json_sha256(value: object) -> str | None:
    """Return the SHA-256 of a value in canonical JSON; `None` for `None`."""
    return None if value is None else sha256(canonical_json(value))


def _named_digests(evidence: ModelEvidence, derived: Mapping[str, Any] | None) -> list[str | None]:
    """Return the digest of metadata.json that each file names, the most reliable first."""
    statement, attested = evidence.statement.value, evidence.evaluation_statement.value
    return [
        statement.subject_sha256 if statement else None,
        json_sha256(derived),
        attested.digest(METADATA_FILE) if attested else None,
        evidence.metadata.sha256 if evidence.metadata.value else None,
        json_sha256(evidence.entry),
    ]


def _derive_metadata(evidence: ModelEvidence) -> dict[str, Any] | None:
    """Derive the metadata from the config and the sample count in the model's statement."""
    if (statement := evidence.statement.value) is None:
        return None
    try:
        return model_metadata(*_inputs(statement), evidence.version)
    except (KeyError, TypeError, ValueError):
        return None


def name_mismatch(statement: Statement, version: str) -> str | None:
    """Return the name that the inputs of a model give, if its name is derived from other inputs.

    A name has the form of a derived one if it differs from that in its last 12 digits alone.
    """
    try:
        training = recorded_training(statement, STATEMENT_FILE)
        derived = derived_name(*_inputs(statement), training.trainer if training else None)
    except (KeyError, TypeError, ValueError):
        return None
    start, digest = version[:-DERIVED_DIGITS], version[-DERIVED_DIGITS:]
    has_form = start == derived[:-DERIVED_DIGITS] and _DIGEST.fullmatch(digest)
    return derived if has_form and version != derived else None


def _inputs(statement: Statement) -> tuple[TrainingConfig, DatasetVersion]:
    """Return the config and the data that the statement of a model names."""
    config = TrainingConfig(**statement.parameters["config"])
    dataset = DatasetVersion(
        name=config.dataset_version,
        path=DATA_FILE,
        num_samples=statement.annotations("dataset")["num_samples"],
        sha256=str(statement.digest("dataset")),
    )
    return config, dataset


def _attestation_mismatches(
    evidence: ModelEvidence, metadata_sha256: str | None, evaluation: bytes | None
) -> list[str]:
    """Return what in the evaluation's statement differs from the files that it names."""
    if (statement := evidence.evaluation_statement.value) is None:
        return [evidence.evaluation_statement.reason]
    evaluations = {evidence.evaluation.sha256, evaluation and sha256(evaluation)}
    mismatches = []
    is_unfinished = evidence.evaluation.is_missing and evidence.has_own_evaluator
    is_comparable = not evidence.evaluation.is_unreadable and not is_unfinished
    if statement.subject_sha256 not in evaluations and is_comparable:
        mismatches.append(f"{EVALUATION_FILE}: sha256 {statement.subject_sha256}")
    if (named := statement.digest(METADATA_FILE)) != metadata_sha256:
        mismatches.append(f"{METADATA_FILE}: sha256 {named}")
    if statement.digest(STATEMENT_FILE) is None:
        mismatches.append(f"{STATEMENT_FILE}: no sha256")
    return mismatches


def _evaluation_divergence(
    evidence: ModelEvidence, evaluation: bytes | None
) -> Literal["metrics", "code"] | None:
    statement = evidence.evaluation_statement.value
    if statement is None or evaluation is None:
        return None
    if evidence.evaluation.sha256 in (sha256(evaluation), None):
        return None
    if statement.subject_sha256 != evidence.evaluation.sha256:
        return None
    return "metrics" if statement.digest("core") == evidence.core_sha256 else "code"
