"""Rebuilding of a lost registry from the metadata and the statements of the models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from src.artifacts import Artifacts
from src.errors import CorruptFileError
from src.evaluation.evaluator import Metrics, simulated_metrics
from src.lineage.verify import Check, failed_checks, verify_evidence
from src.lineage.verify.evidence import ModelEvidence
from src.records.canonical import canonical_json, parse_json
from src.records.layout import REGISTRY_LIMIT
from src.records.registry_file import RegistryFile, is_blank
from src.storage import Location, StorePath, Update
from src.training.hashing import HashDataset, count_and_hash

__all__ = ["Rebuild", "RegistryExistsError", "plan_rebuild", "write_registry"]


class RegistryExistsError(ValueError):
    """Raised when a registry that is to be rebuilt has entries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuild:
    """The contents of a rebuilt registry.

    Attributes:
        entries: The metadata of every model whose record verifies, in the order of registration.
        left_out: Why another model is left out, by model version.
    """

    entries: tuple[Mapping[str, Any], ...]
    left_out: Mapping[str, str]


def plan_rebuild(
    artifacts_dir: Location = "artifacts",
    *,
    hash_dataset: HashDataset = count_and_hash,
    metrics: Metrics = simulated_metrics,
) -> Rebuild:
    """Verify all models, and return the registry that lists them; nothing is written.

    If the models were trained one after the other, and none is left out, the entries are those of
    the lost registry in their order. Reads each dataset in full.

    Args:
        artifacts_dir: The artifacts root.
        hash_dataset: Counts and hashes a data.jsonl.
        metrics: The function that measured the models.

    Raises:
        RegistryExistsError: The registry has entries, so it is not lost.
        CorruptFileError: The registry is damaged.
        OSError: The registry cannot be read, or the artifacts root cannot be listed.
    """
    artifacts = Artifacts.open(artifacts_dir)
    try:
        _without_entries(artifacts.registry.read(REGISTRY_LIMIT), artifacts.registry)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error} Move it away, then rebuild the registry.") from error
    found, left_out = [], {}
    for evidence, checks in verify_evidence(
        artifacts.root, hash_dataset=hash_dataset, metrics=metrics
    ):
        if reason := _reason(checks):
            left_out[evidence.version] = reason
        elif (metadata := evidence.metadata.value) is not None:
            found.append((_registration_order(evidence), metadata))
    found.sort(key=lambda model: model[0])
    return Rebuild(entries=tuple(metadata for _, metadata in found), left_out=left_out)


def write_registry(rebuild: Rebuild, artifacts_dir: Location = "artifacts") -> None:
    """Write a rebuilt registry in place of one that was deleted or emptied.

    Raises:
        RegistryExistsError: The registry has entries by now. It is left as found.
        CorruptFileError: The registry is damaged. It is left as found.
        TimeoutError: Other writers held the lock of the registry for too long.
        OSError: The registry cannot be written; it is unchanged.
    """
    path = Artifacts.open(artifacts_dir).registry

    def write(data: bytes | None) -> Update[None]:
        contents, _ = _without_entries(data, path).with_entries(list(map(dict, rebuild.entries)))
        return Update(None, contents)

    path.update(write)


def _without_entries(data: bytes | None, path: StorePath) -> RegistryFile:
    """Parse a registry that must have no entries; its other fields are kept."""
    if data is None or is_blank(data):
        return RegistryFile(None, path)
    if count := len(RegistryFile(data, path).models):
        raise RegistryExistsError(
            f"{path}: not lost: it has {count:,} {'entry' if count == 1 else 'entries'}. Left as "
            "found. To add one model, run its config again; to rebuild the whole list, move the "
            "file away first."
        )
    return RegistryFile(canonical_json(parse_json(data, path)), path)


def _reason(checks: list[Check]) -> str:
    """Return the failed checks as text; an entry of the registry is not expected."""
    failed = [check for check in failed_checks(checks) if not check.what.startswith("registry")]
    return "; ".join(
        f"{check.what}: expected {check.expected}, found {check.found}" for check in failed
    )


def _registration_order(evidence: ModelEvidence) -> tuple[str, str, str]:
    """Return the sort key of a model in the registry.

    A model is registered right after its metadata.json is written. Its statement never changes;
    that of its evaluation is replaced whenever other metrics are measured.
    """
    statements = (evidence.statement.value, evidence.evaluation_statement.value)
    times = [each.finished_on if each else "" for each in statements]
    return times[0], times[1], evidence.version
