"""The expected contents, computed from evidence that is made here; no file is read."""

from dataclasses import replace

import pytest

from src.evaluation.evaluator import serialize_evaluation, simulated_metrics
from src.lineage.verify.evidence import File, ModelEvidence
from src.lineage.verify.expected import Expected, expect, vote
from src.records.canonical import canonical_json, sha256
from src.records.statement import ResolvedDependency, Statement
from src.storage import StorePath
from tests.examples import DATA_SHA256, METADATA
from tests.stores import MemoryStore

METADATA_SHA256 = "e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7"
EVALUATION = {
    "dataset_version": "dataset_v1",
    "metrics": {"cost_per_1k_tokens": 0.015, "latency_ms": 92, "quality_score": 0.9031},
    "model_version": "model_v1",
}
EVALUATION_SHA256 = "a809825432d24bc91db6339de1f87432a0588af97636da123c3ea835d5d5c0b2"
CORE, OTHER_CORE = "c" * 64, "d" * 64
ALTERED = {**METADATA, "num_training_samples": 4}
ALTERED_SHA256 = "70e454f4e2825665c53641b77de2487e8d0fe4997010c7ebeca0ff3e0f773f73"
STATEMENT = Statement(
    subject="metadata.json",
    subject_sha256=METADATA_SHA256,
    build_type="urn:llm-training-pipeline:train:v1",
    parameters={"config": METADATA["training_config"], "model_version": "model_v1"},
    dependencies=(
        ResolvedDependency(
            name="dataset", digest={"sha256": DATA_SHA256}, annotations={"num_samples": 3}
        ),
        ResolvedDependency(name="core", digest={"sha256": CORE}),
    ),
    builder="urn:llm-training-pipeline:builder:python",
    builder_version={},
    invocation_id="1",
    url=None,
    started_on="2026-01-01T00:00:00Z",
    finished_on="2026-01-01T00:00:01Z",
)
STATEMENT_SHA256 = sha256(STATEMENT.to_bytes())


def attestation(
    subject_sha256=EVALUATION_SHA256, metadata=METADATA_SHA256, statement=STATEMENT_SHA256
):
    """Return the statement of an evaluation that names these digests."""
    digests = {"metadata.json": metadata, "provenance.json": statement, "core": CORE}
    return replace(
        STATEMENT,
        subject="evaluation.json",
        subject_sha256=subject_sha256,
        build_type="urn:llm-training-pipeline:evaluate:v1",
        parameters={"model_version": "model_v1"},
        dependencies=tuple(
            ResolvedDependency(name=name, digest={"sha256": digest} if digest else {})
            for name, digest in digests.items()
        ),
    )


def file(value):
    """Return a file with this value; a file that does not exist for `None`."""
    path = StorePath(MemoryStore(), "file")
    if value is None:
        return File(path=path, reason="no such file")
    data = value.to_bytes() if isinstance(value, Statement) else canonical_json(value)
    return File(path=path, data=data, value=value)


UNREADABLE = replace(file(None), reason="cannot be read", is_unreadable=True)


def evidence(**changes):
    """Return the evidence of an undamaged model, with changes."""
    values = {
        "metadata": METADATA,
        "statement": STATEMENT,
        "evaluation": EVALUATION,
        "evaluation_statement": attestation(),
    }
    files = {
        name: each if isinstance(each, File) else file(each)
        for name, each in {**values, **changes}.items()
        if name in values
    }
    others = {name: value for name, value in changes.items() if name not in values}
    return ModelEvidence(
        **{
            "version": "model_v1",
            "registry": file({"models": [METADATA]}),
            "entry": METADATA,
            "config": None,
            "core_sha256": CORE,
            **files,
            **others,
        }
    )


def found(metrics=simulated_metrics, **changes):

    def measure(_, metadata):
        try:
            return serialize_evaluation(metadata, metrics)
        except ValueError:  # as `verify` does
            return None

    return expect(evidence(**changes), measure)


def other_metrics(metadata):
    return {"quality_score": 1.0}


# --- The vote ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digests", "winner"),
    [
        ([], None),
        ([None, None], None),
        (["a"], "a"),
        ([None, "a"], "a"),
        (["a", "b", "b"], "b"),
        (["a", "b", "b", "a"], "a"),
        (["b", "a", "b", "a"], "b"),
        (["a", "b"], "a"),
        (["b", "a"], "b"),
        (["a", "b", "c"], "a"),
        ([None, None, None, "b", "a"], "b"),
        (["a", None, "b", "b", None], "b"),
        (["", "a"], "a"),
    ],
)
def test_most_witnesses_win_and_the_first_witness_wins_a_tie(digests, winner):
    assert vote(iter(digests)) == winner


# --- The expected metadata -----------------------------------------------------------------------


def test_the_expected_contents_of_an_undamaged_model():
    assert found() == Expected(
        recomputed_metadata=METADATA,
        metadata_sha256=METADATA_SHA256,
        metadata=METADATA,
        evaluation=canonical_json(EVALUATION),
        statement_sha256=STATEMENT_SHA256,
        attestation_mismatches=[],
        is_metadata_changed_by_code=False,
        evaluation_divergence=None,
        dataset_version="dataset_v1",
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name)
        for name, changes in {
            "metadata altered": {"metadata": ALTERED},
            "entry altered": {"entry": ALTERED},
            "metadata and entry altered": {"metadata": ALTERED, "entry": ALTERED},
            "subject altered": {"statement": replace(STATEMENT, subject_sha256=ALTERED_SHA256)},
            "attestation altered": {"evaluation_statement": attestation(metadata=ALTERED_SHA256)},
            "no statement": {"statement": None},
            "no statement, metadata altered": {"statement": None, "metadata": ALTERED},
            "no statement, entry altered": {"statement": None, "entry": ALTERED},
            "no metadata, no entry": {"metadata": None, "entry": None},
            "metadata unreadable": {"metadata": UNREADABLE},
            "statement unreadable": {"statement": UNREADABLE},
            "attestation unreadable": {"evaluation_statement": UNREADABLE},
            "only an entry": {"statement": None, "evaluation_statement": None, "metadata": None},
        }.items()
    ],
)
def test_the_metadata_that_most_witnesses_name_is_expected(changes):
    expected = found(**changes)
    assert expected.metadata_sha256 == METADATA_SHA256
    assert expected.metadata == METADATA


def test_in_a_tie_metadata_json_is_trusted_more_than_the_registry_entry():
    neither = {"statement": None, "evaluation_statement": None}
    assert found(**neither, metadata=ALTERED).metadata == ALTERED
    assert found(**neither, entry=ALTERED).metadata == METADATA


def test_in_a_tie_the_provenance_is_trusted_more_than_metadata_and_entry():
    expected = found(evaluation_statement=None, metadata=ALTERED, entry=ALTERED)
    assert expected.metadata == METADATA


def test_no_metadata_is_expected_if_no_value_has_the_digest_of_the_vote():
    expected = found(statement=None, metadata=None, entry=None)
    assert expected == Expected(
        recomputed_metadata=None,
        metadata_sha256=METADATA_SHA256,
        metadata=None,
        evaluation=None,
        statement_sha256=STATEMENT_SHA256,
        attestation_mismatches=[],
        is_metadata_changed_by_code=False,
        evaluation_divergence=None,
        dataset_version=None,
    )


def test_nothing_is_expected_without_witnesses():
    expected = found(statement=None, evaluation_statement=None, metadata=None, entry=None)
    assert expected == Expected(
        recomputed_metadata=None,
        metadata_sha256=None,
        metadata=None,
        evaluation=None,
        statement_sha256=None,
        attestation_mismatches=["no such file"],
        is_metadata_changed_by_code=False,
        evaluation_divergence=None,
        dataset_version=None,
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"config": None},
        {"config": {}},
        {"config": {**METADATA["training_config"], "epochs": 0}},
        {"config": {**METADATA["training_config"], "other": 1}},
    ],
    ids=["no config", "null", "empty", "an invalid value", "an unknown key"],
)
def test_no_metadata_is_derived_from_an_invalid_config(parameters):
    expected = found(statement=replace(STATEMENT, parameters=parameters))
    assert expected.recomputed_metadata is None
    assert expected.metadata == METADATA


def test_no_metadata_is_derived_without_a_sample_count():
    assert found(statement=replace(STATEMENT, dependencies=())).recomputed_metadata is None


def test_the_dataset_version_is_known_from_any_file_that_names_it():
    neither = {"statement": None, "evaluation_statement": None}
    assert found(**neither, metadata=None).dataset_version == "dataset_v1"
    assert found(**neither, entry=None).dataset_version == "dataset_v1"
    assert found(evaluation_statement=None, metadata=None, entry=None).dataset_version == (
        "dataset_v1"
    )


# --- The expected evaluation ---------------------------------------------------------------------


def test_the_evaluation_is_measured_from_the_expected_metadata():
    expected = found(metadata={**METADATA, "model_version": "model_v9"})
    assert expected.evaluation == canonical_json(EVALUATION)


def test_metrics_that_are_no_number_give_no_expected_evaluation():
    assert found(metrics=lambda _: {"quality_score": None}).evaluation is None


def test_metrics_may_change_the_metadata_that_they_receive():
    def metrics(metadata):
        metadata["training_config"].clear()
        return {"quality_score": 1.0}

    assert found(metrics=metrics).metadata["training_config"]["epochs"] == 3


@pytest.mark.parametrize(
    ("changes", "divergence"),
    [
        ({}, "metrics"),
        ({"core_sha256": OTHER_CORE}, "code"),
        ({"evaluation": None}, None),
        ({"evaluation": UNREADABLE}, None),
        ({"evaluation": {**EVALUATION, "metrics": {}}}, None),
        ({"evaluation_statement": None}, None),
        ({"evaluation_statement": UNREADABLE}, None),
    ],
    ids=[
        "the same code",
        "other code",
        "no evaluation",
        "evaluation unreadable",
        "evaluation altered",
        "no attestation",
        "attestation unreadable",
    ],
)
def test_an_attested_evaluation_with_another_result_diverges(changes, divergence):
    assert found(metrics=other_metrics, **changes).evaluation_divergence == divergence


# --- The attestation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "mismatches"),
    [
        ({"evaluation": {}}, []),  # the attested evaluation is still the measured one
        ({"evaluation": None}, []),
        (
            {"evaluation_statement": attestation(subject_sha256=ALTERED_SHA256)},
            [f"evaluation.json: sha256 {ALTERED_SHA256}"],
        ),
        (
            {"evaluation_statement": attestation(metadata=ALTERED_SHA256)},
            [f"metadata.json: sha256 {ALTERED_SHA256}"],
        ),
        ({"evaluation_statement": attestation(metadata=None)}, ["metadata.json: sha256 None"]),
        ({"evaluation_statement": attestation(statement=None)}, ["provenance.json: no sha256"]),
        ({"evaluation_statement": None}, ["no such file"]),
        ({"evaluation_statement": UNREADABLE}, ["cannot be read"]),
    ],
    ids=[
        "evaluation altered",
        "no evaluation",
        "another subject",
        "another metadata.json",
        "no metadata.json",
        "no provenance.json",
        "no attestation",
        "unreadable",
    ],
)
def test_the_attestation_is_compared_with_the_files_that_it_names(changes, mismatches):
    expected = found(**changes)
    assert expected.attestation_mismatches == mismatches
    assert expected.statement_sha256 == (None if mismatches else STATEMENT_SHA256)


def test_an_unreadable_evaluation_is_no_mismatch_of_its_attestation():
    changes = {"metrics": other_metrics, "core_sha256": OTHER_CORE}
    assert found(**changes, evaluation=UNREADABLE).attestation_mismatches == []
    assert found(**changes, evaluation={}).attestation_mismatches == [
        f"evaluation.json: sha256 {EVALUATION_SHA256}"
    ]


# --- Changed code --------------------------------------------------------------------------------


def code_that_derives(monkeypatch, metadata):
    monkeypatch.setattr("src.lineage.verify.expected.model_metadata", lambda *_: metadata)


def test_code_that_derives_other_metadata_is_changed(monkeypatch):
    code_that_derives(monkeypatch, ALTERED)
    expected = found(core_sha256=OTHER_CORE)
    assert expected.is_metadata_changed_by_code
    assert (expected.recomputed_metadata, expected.metadata) == (ALTERED, METADATA)


def test_code_that_derives_the_same_metadata_is_not_changed():
    assert not found(core_sha256=OTHER_CORE).is_metadata_changed_by_code


@pytest.mark.parametrize(
    "changes",
    [
        {"core_sha256": CORE},
        {"statement": None},
        {"evaluation_statement": None},
        {"evaluation_statement": attestation(statement="0" * 64)},
        {"statement": replace(STATEMENT, invocation_id="2")},
        {"statement": replace(STATEMENT, subject_sha256="0" * 64)},
    ],
    ids=["the same code", "no statement", "no attestation", "another", "altered", "subject"],
)
def test_code_is_not_the_cause_unless_all_else_agrees(changes, monkeypatch):
    code_that_derives(monkeypatch, ALTERED)
    assert not found(**{"core_sha256": OTHER_CORE, **changes}).is_metadata_changed_by_code
