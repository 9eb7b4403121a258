"""The checks of a model's record: each compares one part with its expected value. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from src.digest import Digest
from src.errors import truncated_repr
from src.evaluation.measuring import Evaluator
from src.lineage.verify.evidence import DatasetEvidence, ModelEvidence
from src.lineage.verify.expected import Expected, json_sha256, name_mismatch
from src.lineage.verify.retraining import Retraining
from src.lineage.verify.statements import (
    declaration_mismatches,
    digest_mismatches,
    evaluation_faults,
    model_faults,
    run_mismatches,
    time_notes,
    trainer_mismatches,
    weights_mismatches,
)
from src.records.canonical import canonical_json, parse_json, sha256
from src.records.evaluation import evaluation_bytes
from src.records.layout import EVALUATION_FILE, METADATA_FILE, STATEMENT_FILE
from src.records.metadata import differences
from src.records.statement import weights_of
from src.records.verdicts import Verdict
from src.rendering.text import counted, one_line
from src.training.dataset import DatasetVersion, check_dataset_metadata

__all__ = ["CHECKS", "Case", "Check", "Verdict", "failed_checks", "verdict"]

MAX_SHOWN = 10  # files or facts that a report names
MAX_LINE = 1500  # characters about each of them; the name of a file has up to 1024
WORST_FIRST: tuple[Verdict, ...] = ("MISMATCH", "UNREADABLE", "UNFINISHED", "AS RECORDED")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        what: The checked thing, e.g. `metadata.json` or `dataset bytes`.
        verdict: MATCH; AS RECORDED for numbers that agree with their statement and were not
            measured again; MISMATCH; UNREADABLE for a file that exists and cannot be read, or a
            training that could not be repeated; UNFINISHED for an output that a run writes later
            than all that exist.
        expected: Its expected value.
        found: Its value; for a file that cannot be parsed or read, the reason.
        diverged: What explains a mismatch, if it is not the checked thing: `code`, `environment`,
            `metrics` or `provenance.json`.
        note: Further facts, e.g. the fields that differ, the origin of the code, or times that run
            backwards.
        details: Further facts about a training, one sentence each.
    """

    what: str
    verdict: Verdict
    expected: str
    found: str
    diverged: str | None = None
    note: str | None = None
    details: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """The note and the details, those that there are."""
        return [*filter(None, (self.note, *self.details))]


@dataclass(frozen=True, kw_only=True)
class Case:
    """The inputs of a check.

    Attributes:
        evidence: The files of the model.
        expected: Their expected contents.
        dataset: The dataset of the model; `None` if nothing names one.
        evaluation_dataset: The dataset that its evaluation names; `None` if it names none.
        declared: The evaluator that its config names, to compare with the recorded one; `None` if
            it is not to be compared, or the config does not exist or was edited.
        retraining: A new training from its recorded inputs, compared with its weights; `None` if
            that was not asked for, or the record has no training.
    """

    evidence: ModelEvidence
    expected: Expected
    dataset: DatasetEvidence | None
    evaluation_dataset: DatasetEvidence | None = None
    declared: Evaluator | None = None
    retraining: Retraining | None = None

    @property
    def has_statement_mismatch(self) -> bool:
        """Whether the evaluation's statement names another digest of the model's statement."""
        return self.expected.statement_sha256 not in (self.evidence.statement.sha256, None)

    @cached_property
    def is_unfinished(self) -> bool:
        """Whether only the outputs that a run writes last are missing.

        A run that was stopped leaves such a record; so does the deletion of these outputs.
        """
        evidence = self.evidence
        evaluation = [evidence.evaluation.is_missing, evidence.evaluation_statement.is_missing]
        are_missing = [  # in the order in which a run writes them
            evidence.statement.is_missing,
            evidence.metadata.is_missing,
            evidence.is_entry_missing,
            *(reversed(evaluation) if evidence.has_own_evaluator else evaluation),
        ]
        return any(are_missing) and are_missing == sorted(are_missing)

    @cached_property
    def model_faults(self) -> list[str]:
        """Where the model's statement differs from the form that this project writes."""
        file = self.evidence.statement
        if file.value is None or file.data is None:
            return []
        return model_faults(file.data, self.evidence.version, self.expected.dataset_version)


def failed_checks(checks: Iterable[Check]) -> list[Check]:
    """Return the failed checks: those with a verdict other than MATCH and AS RECORDED."""
    return [check for check in checks if check.verdict not in ("MATCH", "AS RECORDED")]


def verdict(checks: Iterable[Check]) -> Verdict:
    """Return the verdict of a model: the worst of its checks.

    From the worst: MISMATCH, UNREADABLE, UNFINISHED, AS RECORDED, MATCH.
    """
    verdicts = {check.verdict for check in checks}
    return next((verdict for verdict in WORST_FIRST if verdict in verdicts), "MATCH")


# --- The checks ----------------------------------------------------------------------------------


def _check_entry(case: Case) -> Check:
    evidence, expected = case.evidence, case.expected
    digest = json_sha256(evidence.entry)
    registry = evidence.registry
    missing = registry.reason or f"{registry.path}: no entry of {evidence.version!r}"
    return _check(
        "registry entry",
        digest is not None and digest == expected.metadata_sha256,
        is_unreadable=registry.is_unreadable,
        is_unfinished=case.is_unfinished and evidence.is_entry_missing,
        expected=_sha256(expected.metadata_sha256),
        found=f"sha256 {digest}" if digest else missing,
        note=_changes(expected.metadata, evidence.entry),
    )


def _check_metadata(case: Case) -> Check:
    file, expected = case.evidence.metadata, case.expected
    is_metadata_changed_by_code = expected.is_metadata_changed_by_code
    metadata = expected.recomputed_metadata if is_metadata_changed_by_code else expected.metadata
    is_expected = file.value is not None and file.sha256 == expected.metadata_sha256
    return _check(
        METADATA_FILE,
        is_expected and not is_metadata_changed_by_code,
        is_unreadable=file.is_unreadable,
        is_unfinished=case.is_unfinished and file.is_missing,
        expected=_sha256(json_sha256(metadata) or expected.metadata_sha256),
        found=file.found,
        diverged="code" if is_metadata_changed_by_code else None,
        note=_changes(metadata, file.value),
    )


def _check_statement(case: Case) -> Check:
    evidence, expected = case.evidence, case.expected
    file, statement = evidence.statement, evidence.statement.value
    mismatches, notes = [], []
    if statement is None:
        mismatches.append("The config, the code and the digest of the data are unknown.")
        if file.data is None and not file.is_unreadable:
            notes.append("Older releases did not write this file; a run of the version writes it.")
    else:
        if case.has_statement_mismatch:
            path = evidence.evaluation_statement.path
            mismatches.append(f"{path} names another sha256: one of the two was altered.")
        if statement.subject_sha256 != expected.metadata_sha256:
            mismatches.append(f"Its subject has sha256 {statement.subject_sha256}.")
        is_derived = json_sha256(expected.recomputed_metadata) == expected.metadata_sha256
        if not is_derived and not expected.is_metadata_changed_by_code:
            mismatches.append(f"Its config and num_samples do not give {METADATA_FILE}.")
        mismatches += [f"{each}." for each in digest_mismatches(statement)]
        if evidence.config is not None:
            mismatches += [f"{each}." for each in trainer_mismatches(statement, evidence.config)]
        if name := name_mismatch(statement, evidence.version):
            mismatches.append(f"Its config, data and trainer give the name {name}.")
        if case.model_faults:
            mismatches.append(f"{'; '.join(case.model_faults)}.")
        else:
            notes += time_notes(statement)
    return _check(
        STATEMENT_FILE,
        not mismatches,
        is_unreadable=file.is_unreadable,
        is_unfinished=case.is_unfinished and file.is_missing,
        expected=_sha256(expected.statement_sha256),
        found=file.found,
        note=" ".join([*mismatches, *notes]),
    )


def _check_config(case: Case) -> Check | None:
    if (statement := case.evidence.statement.value) is None:
        return None
    config = statement.parameters.get("config")
    expected = case.expected.metadata["training_config"] if case.expected.metadata else None
    is_same = canonical_json(config) == canonical_json(expected)
    return _check(
        "config",
        is_same,
        expected=_sha256(json_sha256(expected)),
        found=f"sha256 {json_sha256(config)}",
        diverged=STATEMENT_FILE,
        note=_config_note(case.evidence) if is_same else _changes(expected, config),
    )


def _check_data(case: Case) -> Check | None:
    if (dataset := case.dataset) is None:
        return None
    what = "dataset bytes"
    statement, version = case.evidence.statement.value, dataset.version
    recorded = statement.digest("dataset") if statement else None
    metadata = case.expected.metadata
    samples = metadata["num_training_samples"] if metadata else None
    expected = f"{samples} samples" if samples is not None and not recorded else _sha256(recorded)
    if version is None:
        return _check(
            what,
            False,
            is_unreadable=dataset.is_unreadable,
            expected=expected,
            found=dataset.reason,
        )
    if recorded is None and samples is None:
        return None
    if recorded is None:
        return _check(
            what,
            version.num_samples == samples,
            expected=expected,
            found=f"{version.num_samples} samples",
            note="The digest of the data is not recorded.",
        )
    # Data that agrees with its own metadata.json is not at fault if the statement was altered.
    is_confirmed = dataset.metadata.data is not None and not _dataset_mismatch(dataset)
    is_same_count = samples in (version.num_samples, None)
    return _check(
        what,
        version.sha256 == recorded and is_same_count,
        expected=expected,
        found=f"sha256 {version.sha256}",
        diverged=STATEMENT_FILE if case.has_statement_mismatch and is_confirmed else None,
        note="" if is_same_count else f"expected {samples} samples, found {version.num_samples}.",
    )


def _check_dataset_metadata(case: Case) -> Check | None:
    if (dataset := case.dataset) is None:
        return None
    statement, file = case.evidence.statement.value, dataset.metadata
    recorded = statement and statement.digest("dataset metadata")
    mismatch = _dataset_mismatch(dataset)
    return _check(
        "dataset metadata",
        file.sha256 == recorded if recorded else not mismatch,
        is_unreadable=file.is_unreadable,
        expected=_sha256(recorded) if recorded else "none, or one that matches the data",
        found=file.found,
        note=mismatch,
    )


def _check_code(case: Case) -> Check | None:
    if (statement := case.evidence.statement.value) is None:
        return None
    expected = case.expected
    recorded, found = statement.digest("core"), case.evidence.core_sha256
    is_divergent = expected.is_metadata_changed_by_code or expected.evaluation_divergence == "code"
    notes = []
    if commit := statement.digest("code", "gitCommit"):
        is_dirty = statement.annotations("code").get("dirty")
        notes.append(f"Made by commit {commit}{' with uncommitted changes' if is_dirty else ''}.")
    if recorded != found:
        results = "differ" if is_divergent else "agree"
        notes.append(f"The code changed since; the results {results}.")
    return _check(
        "code",
        not is_divergent,
        expected=_sha256(recorded),
        found=f"sha256 {found}",
        note=" ".join(notes),
    )


def _check_evaluation_data(case: Case) -> Check | None:
    statement, dataset = case.evidence.evaluation_statement.value, case.evaluation_dataset
    if statement is None or dataset is None:
        return None
    recorded, version = statement.digest("evaluation dataset"), dataset.version
    samples = statement.annotations("evaluation dataset").get("num_samples")
    is_same_count = version is None or version.num_samples == samples
    return _check(
        "evaluation dataset bytes",
        version is not None and version.sha256 == recorded and is_same_count,
        is_unreadable=dataset.is_unreadable,
        expected=_sha256(recorded),
        found=f"sha256 {version.sha256}" if version else dataset.reason,
        note=""
        if version is None or is_same_count
        else f"expected {truncated_repr(samples)} samples, found {version.num_samples}.",
    )


def _check_files(case: Case) -> Check | None:
    files, statement = case.evidence.files, case.evidence.statement.value
    expected = statement.files if statement else {}
    if not files.digests and not files.reason and not expected:
        return None
    wrong = sorted(
        name
        for name in files.digests.keys() | expected.keys()
        if files.digests.get(name) != expected.get(name)
    )
    lines = [_file_change(name, expected, files.digests) for name in wrong]
    return _check(
        "weights",
        not wrong and not files.reason,
        is_unreadable=files.is_unreadable,
        # A run that was stopped between its weights and the statement that lists them.
        is_unfinished=case.is_unfinished and case.evidence.statement.is_missing,
        expected=f"{_count_and_size(expected)}, as {STATEMENT_FILE} lists them",
        found=files.reason or _joined(lines) or "the same files",
    )


def _check_retraining(case: Case) -> Check | None:
    retraining, statement = case.retraining, case.evidence.statement.value
    if retraining is None or statement is None:
        return None
    weights = _count_and_size(weights_of(statement.files))
    details = [_summary(retraining, weights)]
    if retraining.differences and retraining.first_step:
        details.append(f"The first step that differs is {retraining.first_step}.")
    elif retraining.first_step:
        details.append(f"The weights are the same, the histories are not: {retraining.first_step}.")
    if retraining.code:
        details.append(f"Trained by other code than recorded: {_joined(retraining.code)}.")
    if retraining.environment:
        details.append(f"The environment is not as recorded: {_joined(retraining.environment)}.")
    if retraining.altered:
        details.append(f"Altered since it was recorded: {_joined(retraining.altered)}.")
    if retraining.differences and not (retraining.code or retraining.environment):
        details.append("Code and environment are as recorded, so the training is not reproducible.")
    causes = {"code": retraining.code, "environment": retraining.environment}
    check = _check(
        "training",
        not (retraining.reason or retraining.differences),
        is_unreadable=bool(retraining.reason) and not retraining.has_other_inputs,
        expected=f"{weights}, trained again from the recorded inputs",
        found=retraining.reason or _joined(retraining.differences) or "the same files",
        diverged=" and ".join(cause for cause, found in causes.items() if found) or None,
    )
    return replace(check, details=tuple(filter(None, details)))


def _summary(retraining: Retraining, weights: str) -> str:
    """Return the sentence on all weights together; empty if they differ."""
    if retraining.has_other_inputs:
        return "Nothing was trained, because an input is not as recorded."
    if retraining.reason:
        return "The training could not be repeated, so the weights were not compared."
    if retraining.differences:
        return ""
    others = f" {_joined(retraining.equal)}." if retraining.equal else ""
    return f"Trained again, with the same result: {weights}.{others}"


def _count_and_size(files: Mapping[str, Digest]) -> str:
    size = sum(each.size for each in files.values())
    return f"{counted(len(files), 'file')}, {size:,} bytes"


def _joined(lines: Sequence[str]) -> str:
    """Return the first `MAX_SHOWN` lines as one, each cut, with the number of the others."""
    more = len(lines) - MAX_SHOWN
    shown = [
        one_line(line[:MAX_LINE]) + ("..." if len(line) > MAX_LINE else "")
        for line in lines[:MAX_SHOWN]
    ]
    return "; ".join([*shown, *([f"and {more:,} more"] if more > 0 else [])])


def _file_change(name: str, expected: Mapping[str, Digest], found: Mapping[str, Digest]) -> str:
    if name not in found:
        return f"{name}: no such file"
    if name not in expected:
        return f"{name}: not listed"
    return f"{name}: expected sha256 {expected[name].sha256}, found {found[name].sha256}"


def _check_evaluation(case: Case) -> Check:
    file, measured = case.evidence.evaluation, case.expected.evaluation
    statement = case.evidence.evaluation_statement.value
    attested = statement.subject_sha256 if statement else None
    expected = sha256(measured) if measured else attested
    is_as_recorded = measured is None and case.evidence.has_own_evaluator
    fault = _evaluation_fault(case) if is_as_recorded else ""
    if is_as_recorded and statement and not fault and file.sha256 == expected is not None:
        name = statement.parameters["evaluator"]["use"]
        return Check(
            what=EVALUATION_FILE,
            verdict="AS RECORDED",
            expected=_sha256(expected),
            found=file.found,
            note=f"Measured by evaluator {truncated_repr(name)}, and not measured again.",
        )
    return _check(
        EVALUATION_FILE,
        file.sha256 == expected is not None and not fault,
        is_unreadable=file.is_unreadable,
        is_unfinished=case.is_unfinished and file.is_missing,
        expected=_sha256(expected),
        found=file.found,
        diverged=case.expected.evaluation_divergence,
        note=fault or _changes(parse_json(measured, file.path) if measured else None, file.value),
    )


def _evaluation_fault(case: Case) -> str:
    """Return why an evaluation.json does not have its form; empty if it has."""
    file, metadata = case.evidence.evaluation, case.expected.metadata
    if file.value is None or metadata is None:
        return ""
    metrics = file.value.get("metrics")
    try:
        if evaluation_bytes(metadata, metrics if isinstance(metrics, dict) else {}) == file.data:
            return ""
    except ValueError as error:
        return str(error).removesuffix(" No evaluation was written.")
    return "Expected model_version, dataset_version and metrics, in canonical form."


def _check_evaluation_statement(case: Case) -> Check:
    evidence, file = case.evidence, case.evidence.evaluation_statement
    statement, model = file.value, evidence.statement.value
    mismatches, notes = [*case.expected.attestation_mismatches], []
    if statement is not None:
        faults = evaluation_faults(file.data or b"", evidence.version)
        mismatches += [*faults, *digest_mismatches(statement)]
        if model is not None and not case.model_faults:
            mismatches += weights_mismatches(model, statement)
        if case.declared is not None:
            if declared := declaration_mismatches(statement, case.declared):
                mismatches += declared
                notes.append("If it was made with another config, pass that config as --config.")
            if statement.digest("evaluator") not in (None, case.declared.code_sha256):
                notes.append("The code of the evaluator changed since.")
        # The runs are compared only if the model's statement is the one that was attested.
        is_comparable = not faults and not case.has_statement_mismatch and not case.model_faults
        if model is not None and is_comparable:
            mismatches += run_mismatches(model, statement)
        if not faults:
            notes += time_notes(statement, model if is_comparable else None)
        if model is not None and statement.digest("core") not in (
            model.digest("core"),
            evidence.core_sha256,
        ):
            notes.append("Evaluated by code that is neither the model's nor the installed one.")
    digest = _sha256(case.expected.metadata_sha256)
    return _check(
        "evaluation's provenance",
        not mismatches,
        is_unreadable=file.is_unreadable,
        is_unfinished=case.is_unfinished and file.is_missing,
        expected=f"a statement about {EVALUATION_FILE} that names {METADATA_FILE}, {digest}",
        found="; ".join(mismatches) or file.found,
        note=" ".join(notes),
    )


CHECKS: tuple[Callable[[Case], Check | None], ...] = (
    _check_entry,
    _check_metadata,
    _check_statement,
    _check_config,
    _check_data,
    _check_dataset_metadata,
    _check_code,
    _check_files,
    _check_retraining,
    _check_evaluation_data,
    _check_evaluation,
    _check_evaluation_statement,
)
"""All checks, in the order of a report; a check returns `None` if it has nothing to compare."""


# --- Parts of a report ---------------------------------------------------------------------------


def _check(
    what: str,
    is_match: bool,
    *,
    is_unreadable: bool = False,
    is_unfinished: bool = False,
    expected: str,
    found: str,
    diverged: str | None = None,
    note: str = "",
) -> Check:
    verdict: Verdict = "MATCH" if is_match else "MISMATCH"
    if is_unreadable:
        verdict = "UNREADABLE"
    elif is_unfinished:
        verdict = "UNFINISHED"
    return Check(
        what=what,
        verdict=verdict,
        expected=expected,
        found=found,
        diverged=None if is_match else diverged,
        note=note or None,
    )


def _sha256(digest: str | None) -> str:
    return f"sha256 {digest}" if digest else "unknown"


def _changes(expected: Mapping[str, Any] | None, found: object) -> str:
    """Return the fields in which two values differ, as one sentence."""
    if not expected or not isinstance(found, Mapping):
        return ""
    # Fields that only `expected` has count as well: `differences` skips them.
    lines = [
        each.text("expected", "found")
        for each in differences(expected, dict.fromkeys(expected) | dict(found))
    ]
    return f"{'; '.join(lines)}." if lines else ""


def _dataset_mismatch(dataset: DatasetEvidence) -> str:
    """Return how the dataset's metadata.json differs from the data; empty if it does not."""
    if dataset.metadata.data is not None and isinstance(dataset.version, DatasetVersion):
        try:
            check_dataset_metadata(dataset.version, dataset.metadata.data, dataset.metadata.path)
        except ValueError as error:
            return " ".join(str(error).split())
    return ""


def _config_note(evidence: ModelEvidence) -> str:
    """Return what happened to the config file, which a user may edit freely."""
    statement, config = evidence.statement.value, evidence.config
    if statement is None or config is None:
        return ""
    if config.reason:
        return f"{config.uri} {config.reason}."
    if config.sha256 == statement.digest("config"):
        return ""
    return f"{config.uri} was edited after the run."
