"""Does the record of a model hold? Everything is derived anew and compared; nothing is written.

What metadata.json must be is told by five witnesses: its provenance by digest, its provenance by
the config and the count in it, the evaluation's provenance, the file itself, and the registry
entry. What most of them say holds, so that it is the one altered which is named.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from src.artifacts import Artifacts
from src.evaluation.evaluator import Metrics, evaluation_of, simulated_metrics
from src.lineage.record import is_there, not_found, unregistered
from src.provenance import PROVENANCE_NAME, Provenance, parse_provenance
from src.source import CORE, source_digest
from src.storage import CorruptFileError, canonical_json, parse_json, read, sha256, shown
from src.training.config import ConfigError, TrainingConfig, read_config_file
from src.training.dataset import DatasetVersion, HashDataset, check_record, count_and_hash
from src.training.registry import list_models
from src.training.trainer import model_metadata
from src.versions import check_metadata, differences

__all__ = ["Check", "mismatches", "verify", "verify_all"]

METADATA_NAME = "metadata.json"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was held against the rest of the record.

    Attributes:
        what: What was checked, e.g. `metadata.json` or `dataset bytes`.
        verdict: Whether it is what it must be.
        expected: What it must be.
        found: What it is; for a file that cannot be read, why: file and place.
        diverged: On a mismatch, what else it comes from, if it is not the thing itself: `code`,
            `metrics`, `dataset`, `provenance.json`.
        note: What else there is to know.
    """

    what: str
    verdict: Literal["MATCH", "MISMATCH"]
    expected: str
    found: str
    diverged: str | None = None
    note: str | None = None


def mismatches(checks: Iterable[Check]) -> list[Check]:
    """Give the checks that a model does not stand; one that stands all matches its record."""
    return [check for check in checks if check.verdict == "MISMATCH"]


def verify(
    model_version: str,
    artifacts_dir: str | Path = "artifacts",
    *,
    hash_dataset: HashDataset = count_and_hash,
    metrics: Metrics = simulated_metrics,
) -> list[Check]:
    """Derive a model's record anew and compare. Reads data.jsonl in full; writes nothing.

    Args:
        model_version: A version that the registry or a folder knows.
        artifacts_dir: The artifacts root.
        hash_dataset: Counts and hashes a data.jsonl, in full.
        metrics: What measured the model.

    Returns:
        The checks, always in the same order. Those that an unreadable provenance.json leaves
        nothing to be held against are left out; it is a mismatch itself.

    Raises:
        ModelNotFoundError: Nothing knows the version. Damage never raises.
    """
    [(_, checks)] = verify_all(
        artifacts_dir, versions=[model_version], hash_dataset=hash_dataset, metrics=metrics
    )
    return checks


def verify_all(
    artifacts_dir: str | Path = "artifacts",
    *,
    versions: Iterable[str] | None = None,
    hash_dataset: HashDataset = count_and_hash,
    metrics: Metrics = simulated_metrics,
) -> Iterator[tuple[str, list[Check]]]:
    """Verify many models one after the other, as `verify` does; each dataset is read once.

    Args:
        artifacts_dir: The artifacts root.
        versions: Which; where `None`, all that the registry or a folder knows.
        hash_dataset: Counts and hashes a data.jsonl.
        metrics: What measured the models.

    Yields:
        A version and its checks.

    Raises:
        ModelNotFoundError: Nothing knows one of the versions; before any was verified.
    """
    artifacts = Artifacts(artifacts_dir)
    registry = _find(artifacts.registry, _registry)
    entries = {model["model_version"]: model for model in registry.value or []}
    folders = (artifacts.models, artifacts.evaluations)
    if versions is None:
        known = [name for folder in folders for name in unregistered(set(entries), folder)]
        versions = dict.fromkeys([*entries, *known])
    versions = list(versions)
    for version in versions:
        if version not in entries and not any(is_there(version, folder) for folder in folders):
            raise not_found(version, artifacts)
    remembered = cache(hash_dataset)
    for version in versions:
        evidence = _Evidence(
            version=version,
            artifacts=artifacts,
            registry=registry,
            entry=entries.get(version),
            hash_dataset=remembered,
            metrics=metrics,
        )
        yield version, list(evidence.checks())


# --- What is there -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _File(Generic[T]):
    """A file as it was found: its bytes and what they say, or why they say nothing."""

    path: Path
    data: bytes | None = None
    value: T | None = None
    fault: str = ""

    @cached_property
    def sha256(self) -> str | None:
        return None if self.data is None else sha256(self.data)

    @property
    def found(self) -> str:
        return self.fault or f"sha256 {self.sha256}"


def _find(path: Path, parse: Callable[[bytes, Path], T]) -> _File[T]:
    data = None
    try:
        data = read(path)
        if data is None:
            return _File(path=path, fault=f"{path}: no such file")
        return _File(path=path, data=data, value=parse(data, path))
    except (OSError, ValueError) as error:
        return _File(path=path, data=data, fault=str(error))


def _of(version: str) -> Callable[[bytes, Path], Provenance]:
    """Give a reader of provenance that takes none of another version."""

    def parse(data: bytes, path: Path) -> Provenance:
        provenance = parse_provenance(data, path)
        _as_written(data, path)
        if (named := provenance.parameters.get("model_version")) != version:
            raise CorruptFileError(
                f"{path}: model_version: expected {version!r}, found {shown(named)}."
            )
        return provenance

    return parse


def _as_written(data: bytes, path: Path) -> None:
    if canonical_json(parse_json(data, path)) != data:
        raise CorruptFileError(f"{path}: the same values, written differently: it was edited.")


def _registry(data: bytes, path: Path) -> list[dict[str, Any]]:
    models = list_models(path)
    _as_written(data, path)
    return models


def _metadata(data: bytes, path: Path) -> dict[str, Any]:
    value = parse_json(data, path)
    check_metadata(value, str(path))
    _as_written(data, path)
    return value


@dataclass(frozen=True, kw_only=True)
class _Data:
    """The dataset of a model as it is now."""

    path: Path
    hash_dataset: HashDataset

    @cached_property
    def version(self) -> DatasetVersion | str:
        """The data, or why it cannot be read."""
        try:
            num_samples, digest = self.hash_dataset(self.path)
        except FileNotFoundError:
            return f"{self.path}: no such file"
        except OSError as error:
            return str(error)
        return DatasetVersion(
            name=self.path.parent.name, path=self.path, num_samples=num_samples, sha256=digest
        )

    @cached_property
    def metadata(self) -> _File[bytes]:
        """The dataset's own metadata.json."""
        return _find(self.path.with_name("metadata.json"), lambda data, _: data)

    @cached_property
    def at_odds(self) -> str:
        """How its own metadata.json differs from the data; nothing where it fits or is not."""
        if self.metadata.data is not None and isinstance(self.version, DatasetVersion):
            try:
                check_record(self.version, self.metadata.data)
            except ValueError as error:
                return " ".join(str(error).split())
        return ""


# --- What it must be -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """All that there is about one model, and what follows from it."""

    version: str
    artifacts: Artifacts
    registry: _File[list[dict[str, Any]]]
    entry: Mapping[str, Any] | None
    hash_dataset: HashDataset
    metrics: Metrics

    @property
    def folder(self) -> Path:
        return self.artifacts.models / self.version

    @cached_property
    def metadata(self) -> _File[dict[str, Any]]:
        return _find(self.folder / METADATA_NAME, _metadata)

    @cached_property
    def provenance(self) -> _File[Provenance]:
        return _find(self.folder / PROVENANCE_NAME, _of(self.version))

    @cached_property
    def evaluation(self) -> _File[dict[str, Any]]:
        return _find(self.artifacts.evaluations / self.version / "evaluation.json", parse_json)

    @cached_property
    def statement(self) -> _File[Provenance]:
        """The evaluation's provenance."""
        return _find(self.evaluation.path.with_name(PROVENANCE_NAME), _of(self.version))

    @cached_property
    def derived(self) -> dict[str, Any] | None:
        """The metadata that the core makes of what the provenance says went into the model."""
        if (made := self.provenance.value) is None:
            return None
        try:
            config = TrainingConfig(**made.parameters["config"])
            dataset = DatasetVersion(
                name=config.dataset_version,
                path=self.artifacts.datasets / config.dataset_version / "data.jsonl",
                num_samples=made.annotations("dataset")["num_samples"],
                sha256=str(made.digest("dataset")),
            )
            return model_metadata(config, dataset, self.version)
        except (KeyError, TypeError, ValueError):
            return None

    @cached_property
    def digest(self) -> str | None:
        """The SHA-256 of metadata.json as it must be: that which most witnesses name."""
        made, statement = self.provenance.value, self.statement.value
        witnesses = [
            made and made.subject_sha256,
            _digest(self.derived),
            statement and statement.digest("metadata.json"),
            self.metadata.sha256,
            _digest(self.entry),
        ]
        votes = Counter(digest for digest in witnesses if digest)
        return votes.most_common(1)[0][0] if votes else None

    @cached_property
    def truth(self) -> Mapping[str, Any] | None:
        """The metadata of that digest, from whichever of the witnesses has it."""
        values = (self.derived, self.metadata.value, self.entry)
        return next((value for value in values if value and _digest(value) == self.digest), None)

    @cached_property
    def result(self) -> bytes | None:
        """The evaluation.json that the core makes of the model now."""
        try:
            return evaluation_of(deepcopy(self.truth), self.metrics) if self.truth else None
        except ValueError:
            return None  # the metrics gave what is no number

    @cached_property
    def vouched(self) -> str | None:
        """The SHA-256 that the evaluation's provenance names of the model's, if it holds itself."""
        statement = self.statement.value
        return (
            statement.digest(PROVENANCE_NAME) if statement and not self.statement_faults else None
        )

    @cached_property
    def statement_faults(self) -> list[str]:
        """What of the evaluation's provenance is not as it must be."""
        if (statement := self.statement.value) is None:
            return [self.statement.fault]
        results = {self.evaluation.sha256, self.result and sha256(self.result)}
        faults = []
        if statement.subject_sha256 not in results:
            faults.append(f"evaluation.json: sha256 {statement.subject_sha256}")
        if (named := statement.digest("metadata.json")) != self.digest:
            faults.append(f"metadata.json: sha256 {named}")
        if statement.digest(PROVENANCE_NAME) is None:
            faults.append(f"{PROVENANCE_NAME}: no sha256")
        return faults

    @cached_property
    def core_makes_other_metadata(self) -> bool:
        """Whether metadata.json is as its provenance says, but is made another by other code."""
        made = self.provenance.value
        return (
            made is not None
            and made.digest("core") != source_digest(CORE)
            and self.vouched == self.provenance.sha256
            and made.subject_sha256 == self.digest != _digest(self.derived)
        )

    @cached_property
    def evaluation_diverged(self) -> str | None:
        """What made an evaluation.json, that is as its provenance says, another than now."""
        statement = self.statement.value
        if statement is None or self.result is None:
            return None
        if self.evaluation.sha256 in (sha256(self.result), None):
            return None
        if statement.subject_sha256 != self.evaluation.sha256:
            return None
        return "metrics" if statement.digest("core") == source_digest(CORE) else "code"

    @cached_property
    def data(self) -> _Data | None:
        """The dataset; `None` where nothing tells which."""
        metadata = self.truth or self.derived or self.metadata.value or self.entry
        if metadata is None:
            return None
        path = self.artifacts.datasets / metadata["dataset_version"] / "data.jsonl"
        return _Data(path=path, hash_dataset=self.hash_dataset)

    # --- The checks ------------------------------------------------------------------------------

    def checks(self) -> Iterator[Check]:
        made, data = self.provenance.value, self.data
        yield self._check_entry()
        yield self._check_metadata()
        yield self._check_provenance()
        if made:
            yield self._check_config(made)
        if data:
            yield self._check_data(data)
            yield self._check_data_metadata(data)
        if made:
            yield self._check_code(made)
        yield self._check_evaluation()
        yield self._check_statement()

    def _check_entry(self) -> Check:
        digest = _digest(self.entry)
        missing = self.registry.fault or f"{self.registry.path}: no entry of {self.version!r}"
        return _check(
            "registry entry",
            digest is not None and digest == self.digest,
            expected=_sha256(self.digest),
            found=f"sha256 {digest}" if digest else missing,
            note=_changes(self.truth, self.entry),
        )

    def _check_metadata(self) -> Check:
        expected, other = (
            (self.derived, "code") if self.core_makes_other_metadata else (self.truth, None)
        )
        return _check(
            METADATA_NAME,
            self.metadata.value is not None
            and self.metadata.sha256 == self.digest
            and other is None,
            expected=_sha256(_digest(expected) or self.digest),
            found=self.metadata.found,
            diverged=other,
            note=_changes(expected, self.metadata.value),
        )

    def _check_provenance(self) -> Check:
        made = self.provenance.value
        faults = []
        if made is None:
            faults.append("Without it the config, the code and the data's digest are not known.")
            if self.provenance.data is None:
                faults.append("Older releases wrote none; the next run of the version does.")
        else:
            if self.vouched not in (self.provenance.sha256, None):
                faults.append(f"{self.statement.path} names another sha256: either was altered.")
            if made.subject_sha256 != self.digest:
                faults.append(f"Its subject is of sha256 {made.subject_sha256}.")
            if _digest(self.derived) != self.digest and not self.core_makes_other_metadata:
                faults.append(f"The config and num_samples in it do not give {METADATA_NAME}.")
        return _check(
            PROVENANCE_NAME,
            not faults,
            expected=_sha256(self.vouched),
            found=self.provenance.found,
            note=" ".join(faults),
        )

    def _check_config(self, made: Provenance) -> Check:
        config = made.parameters.get("config")
        truth = self.truth["training_config"] if self.truth else None
        same = canonical_json(config) == canonical_json(truth)
        return _check(
            "config",
            same,
            expected=_sha256(_digest(truth)),
            found=f"sha256 {_digest(config)}",
            diverged=PROVENANCE_NAME,
            note=_config_file(made) if same else _changes(truth, config),
        )

    def _check_data(self, data: _Data) -> Check:
        made, version = self.provenance.value, data.version
        recorded = made and made.digest("dataset")
        samples = self.truth["num_training_samples"] if self.truth else None
        expected = _sha256(recorded) if recorded else f"{samples} samples"
        if isinstance(version, str):
            return _check("dataset bytes", False, expected=expected, found=version)
        if recorded is None:
            return _check(
                "dataset bytes",
                version.num_samples == samples,
                expected=expected,
                found=f"{version.num_samples} samples",
                note="Its digest is not recorded.",
            )
        # A provenance that was altered accuses data that the dataset's own metadata agrees with.
        altered = self.vouched not in (self.provenance.sha256, None)
        agreed = data.metadata.data is not None and not data.at_odds
        return _check(
            "dataset bytes",
            version.sha256 == recorded and samples in (version.num_samples, None),
            expected=expected,
            found=f"sha256 {version.sha256}",
            diverged=PROVENANCE_NAME if altered and agreed else None,
            note=f"{samples} samples are recorded, {version.num_samples} were found."
            if version.num_samples != samples
            else "",
        )

    def _check_data_metadata(self, data: _Data) -> Check:
        made = self.provenance.value
        recorded = made and made.digest("dataset metadata")
        return _check(
            "dataset metadata",
            data.metadata.sha256 == recorded if recorded else not data.at_odds,
            expected=_sha256(recorded) if recorded else "none, or one that fits the data",
            found=data.metadata.found,
            note=data.at_odds,
        )

    def _check_code(self, made: Provenance) -> Check:
        recorded, now = made.digest("core"), source_digest(CORE)
        commit = made.digest("code", "gitCommit")
        notes = []
        if commit:
            dirty = " with uncommitted changes" if made.annotations("code").get("dirty") else ""
            notes.append(f"Made by commit {commit}{dirty}.")
        differ = self.core_makes_other_metadata or self.evaluation_diverged == "code"
        if recorded != now:
            notes.append(f"It changed since; the results {'differ' if differ else 'agree'}.")
        return _check(
            "code",
            not differ,
            expected=_sha256(recorded),
            found=f"sha256 {now}",
            note=" ".join(notes),
        )

    def _check_evaluation(self) -> Check:
        result, statement = self.result, self.statement.value
        told = statement.subject_sha256 if statement else None
        expected = sha256(result) if result else told
        path = self.evaluation.path
        return _check(
            "evaluation.json",
            self.evaluation.sha256 == expected is not None,
            expected=_sha256(expected),
            found=self.evaluation.found,
            diverged=self.evaluation_diverged,
            note=_changes(parse_json(result, path) if result else None, self.evaluation.value),
        )

    def _check_statement(self) -> Check:
        return _check(
            "evaluation's provenance",
            not self.statement_faults,
            expected=f"one of evaluation.json and of {METADATA_NAME}, {_sha256(self.digest)}",
            found="; ".join(self.statement_faults) or self.statement.found,
        )


def _check(
    what: str, ok: bool, *, expected: str, found: str, diverged: str | None = None, note: str = ""
) -> Check:
    return Check(
        what=what,
        verdict="MATCH" if ok else "MISMATCH",
        expected=expected,
        found=found,
        diverged=None if ok else diverged,
        note=note or None,
    )


def _sha256(digest: str | None) -> str:
    return f"sha256 {digest}" if digest else "unknown"


def _digest(value: object) -> str | None:
    """Give the SHA-256 of a value as it would be written."""
    return None if value is None else sha256(canonical_json(value))


def _changes(expected: Mapping[str, Any] | None, found: object) -> str:
    """Tell in which fields a value differs, as far as both are known."""
    if not expected or not isinstance(found, Mapping):
        return ""
    lines = differences(recorded=expected, new=dict.fromkeys(expected) | dict(found))
    return f"{'; '.join(lines)}." if lines else ""


def _config_file(made: Provenance) -> str:
    """Tell what became of the file that the config was read from, which may be edited freely."""
    config = made.material("config")
    if config is None or config.uri is None:
        return ""
    try:
        now = read_config_file(config.uri).sha256 if Path(config.uri).is_file() else None
    except (ConfigError, OSError):
        now = ""
    if now is None:
        return f"{config.uri} is not there any more."
    return "" if now == config.digest.get("sha256") else f"{config.uri} was edited since."
