import json
from hashlib import sha256

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement as InTotoStatement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from src.environment import (
    CORE,
    Invocation,
    environment_dependencies,
    project_version,
    source_digest,
)
from src.errors import CorruptFileError
from src.records.canonical import canonical_json
from src.records.statement import ResolvedDependency, Statement, parse_statement
from src.training.pipeline import run_training_pipeline
from src.training.trainer import train_model
from tests.examples import CONFIG as CONFIG_TEXT
from tests.examples import DATA_SHA256
from tests.strategies import json_objects, texts

CONFIG = "configs/training/mistral_finetune.yaml"
MODEL, EVALUATION = "models/model_v1/provenance.json", "evaluations/model_v1/provenance.json"
METADATA_SHA256 = "e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7"
EVALUATION_SHA256 = "a809825432d24bc91db6339de1f87432a0588af97636da123c3ea835d5d5c0b2"
RUN = Invocation(
    id="run-1",
    url="http://127.0.0.1:4200/runs/flow-run/run-1",
    builder="urn:builder",
    started_on="2024-02-29T10:00:00.000Z",
    clock=lambda: "2024-02-29T10:00:01.500Z",
    host="host-1",
    worker="Worker 1",
)

each_statement = pytest.mark.parametrize("key", [MODEL, EVALUATION], ids=["model", "evaluation"])


def run(artifacts, **arguments):
    return run_training_pipeline(CONFIG, "model_v1", artifacts_dir=artifacts.root, **arguments)


# --- The format ----------------------------------------------------------------------------------


@each_statement
@pytest.mark.parametrize("invocation", [RUN, None], ids=["given run", "default run"])
def test_a_file_is_a_valid_in_toto_statement_with_slsa_provenance(
    key, invocation, artifacts, files
):
    run(artifacts, invocation=invocation)
    found = files(artifacts)
    # Both parsers refuse unknown fields.
    message = json_format.Parse(found[key], StatementMessage())
    InTotoStatement.copy_from_pb(message).validate()
    assert message.predicate_type == "https://slsa.dev/provenance/v1"
    predicate = json_format.Parse(
        json_format.MessageToJson(message.predicate), provenance_pb2.Provenance()
    )
    assert predicate.build_definition.build_type.startswith("urn:llm-training-pipeline:")
    [subject] = message.subject
    data = found[key.replace("provenance.json", subject.name)]
    assert dict(subject.digest) == {"sha256": sha256(data).hexdigest()}


def test_the_statement_of_a_model_names_its_inputs_and_its_run(artifacts, files):
    run(artifacts, invocation=RUN)
    found = files(artifacts)
    statement = json.loads(found[MODEL])
    assert found[MODEL] == canonical_json(statement)
    dependencies = statement["predicate"]["buildDefinition"].pop("resolvedDependencies")
    assert statement == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "metadata.json", "digest": {"sha256": METADATA_SHA256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:llm-training-pipeline:train:v1",
                "externalParameters": {
                    "config": {
                        "base_model": "mistral-7b",
                        "dataset_version": "dataset_v1",
                        "learning_rate": 2e-05,
                        "epochs": 3,
                        "batch_size": 16,
                    },
                    "model_version": "model_v1",
                },
                "internalParameters": {"host": "host-1", "worker": "Worker 1"},
            },
            "runDetails": {
                "builder": {
                    "id": "urn:builder",
                    "version": {"llm-training-pipeline": project_version()},
                },
                "metadata": {
                    "invocationId": "run-1",
                    "startedOn": "2024-02-29T10:00:00.000Z",
                    "finishedOn": "2024-02-29T10:00:01.500Z",
                },
                "byproducts": [{"name": "run", "uri": "http://127.0.0.1:4200/runs/flow-run/run-1"}],
            },
        },
    }
    metadata = found["datasets/dataset_v1/metadata.json"]
    assert dependencies[:3] == [
        {
            "name": "config",
            "uri": CONFIG,
            "digest": {"sha256": sha256(CONFIG_TEXT.encode()).hexdigest()},
        },
        {
            "name": "dataset",
            "uri": "datasets/dataset_v1/data.jsonl",
            "digest": {"sha256": DATA_SHA256},
            "annotations": {"num_samples": 3},
        },
        {
            "name": "dataset metadata",
            "uri": "datasets/dataset_v1/metadata.json",
            "digest": {"sha256": sha256(metadata).hexdigest()},
        },
    ]
    environment = dependencies[3:]
    assert environment == [each.to_dict() for each in environment_dependencies()]
    fields = {each["name"]: set(each) - {"name"} for each in environment}
    assert fields.pop("code", {"digest", "annotations"}) == {"digest", "annotations"}
    assert fields == {
        "core": {"digest"},
        "python": {"annotations"},
        "packages": {"annotations"},
    }


def test_the_statement_of_an_evaluation_contains_the_digest_of_the_models(artifacts, files):
    run(artifacts, invocation=RUN)
    found = files(artifacts)
    statement = json.loads(found[EVALUATION])
    assert found[EVALUATION] == canonical_json(statement)
    assert statement["subject"] == [
        {"name": "evaluation.json", "digest": {"sha256": EVALUATION_SHA256}}
    ]
    assert statement["predicate"]["buildDefinition"] == {
        "buildType": "urn:llm-training-pipeline:evaluate:v1",
        "externalParameters": {"model_version": "model_v1"},
        "internalParameters": {"host": "host-1", "worker": "Worker 1"},
        "resolvedDependencies": [
            {
                "name": "metadata.json",
                "uri": "models/model_v1/metadata.json",
                "digest": {"sha256": METADATA_SHA256},
            },
            {
                "name": "provenance.json",
                "uri": "models/model_v1/provenance.json",
                "digest": {"sha256": sha256(found[MODEL]).hexdigest()},
            },
            {"name": "core", "digest": {"sha256": source_digest(CORE)}},
        ],
    }


# --- Values --------------------------------------------------------------------------------------

DATASET = ResolvedDependency(
    name="dataset", uri="data.jsonl", digest={"sha256": "0" * 64}, annotations={"num_samples": 3}
)
CODE = ResolvedDependency(name="code", digest={"gitCommit": "1" * 40})
STATEMENT = Statement(
    subject="metadata.json",
    subject_sha256="2" * 64,
    build_type="urn:build",
    parameters={"model_version": "model_v1"},
    dependencies=(DATASET, CODE),
    builder="urn:builder",
    builder_version={"llm-training-pipeline": "0.1.0"},
    invocation_id="run-1",
    url=None,
    started_on="2024-02-29T10:00:00.000Z",
    finished_on="2024-02-29T10:00:01.500Z",
)


@each_statement
def test_a_written_statement_parses_to_the_same_bytes(key, artifacts, files):
    run(artifacts, invocation=RUN)
    data = files(artifacts)[key]
    assert parse_statement(data, key).to_bytes() == data
    assert Statement.from_dict(json.loads(data)).to_dict() == json.loads(data)


digests = st.dictionaries(st.sampled_from(["sha256", "gitCommit"]), texts)
statements = st.builds(
    Statement,
    subject=texts,
    subject_sha256=texts,
    build_type=texts,
    parameters=json_objects,
    dependencies=st.lists(
        st.builds(
            ResolvedDependency,
            name=texts,
            uri=st.none() | texts.filter(bool),
            digest=digests,
            annotations=json_objects,
        ),
        max_size=3,
    ).map(tuple),
    builder=texts,
    builder_version=st.dictionaries(texts, texts, max_size=2),
    invocation_id=texts,
    url=st.none() | texts,
    started_on=texts,
    finished_on=texts,
)


@given(statements)
def test_any_statement_parses_to_the_same_value(statement):
    assert parse_statement(statement.to_bytes(), "p.json") == statement


def test_a_run_without_a_page_has_no_byproducts():
    assert "byproducts" not in STATEMENT.to_dict()["predicate"]["runDetails"]


def test_fields_of_a_dependency_that_are_absent_are_not_written():
    assert CODE.to_dict() == {"name": "code", "digest": {"gitCommit": "1" * 40}}
    assert ResolvedDependency.from_dict({"name": "code"}) == ResolvedDependency(name="code")


def test_a_dependency_is_found_by_its_name():
    assert STATEMENT.dependency("dataset") is DATASET
    assert STATEMENT.digest("dataset") == "0" * 64
    assert STATEMENT.digest("code", "gitCommit") == "1" * 40
    assert STATEMENT.annotations("dataset") == {"num_samples": 3}


def test_an_absent_dependency_has_no_digest_and_no_annotations():
    assert STATEMENT.dependency("config") is None
    assert STATEMENT.digest("config") is None
    assert STATEMENT.annotations("config") == {}
    assert STATEMENT.digest("code") is None
    assert STATEMENT.digest("dataset", "gitCommit") is None
    assert STATEMENT.annotations("code") == {}


def test_unknown_fields_are_ignored():
    value = json.loads(STATEMENT.to_bytes())
    value["predicate"]["buildDefinition"]["internalParameters"] = {}
    value["predicate"]["more"] = 1
    assert Statement.from_dict(value) == STATEMENT


# --- Invalid statements --------------------------------------------------------------------------


def at(*place):
    """Return a function that receives a value, and returns a function that writes it at `place`."""

    def change(value):
        def edit(statement):
            for key in place[:-1]:
                statement = statement[key]
            statement[place[-1]] = value

        return edit

    return change


DEPENDENCIES = ("predicate", "buildDefinition", "resolvedDependencies")
invalid = pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("_type")(1), "_type: expected text, found 1."),
        (
            at("_type")("x"),
            "_type: expected 'https://in-toto.io/Statement/v1', found 'x'.",
        ),
        (
            at("predicateType")("x"),
            "predicateType: expected 'https://slsa.dev/provenance/v1', found 'x'.",
        ),
        (at("subject")([]), "subject.0.name: expected text, found nothing."),
        (at("subject")("x"), "subject.0.name: expected text, found nothing."),
        (
            at("predicate")(3),
            "predicate.buildDefinition.resolvedDependencies: expected a list, found nothing.",
        ),
        (
            at("predicate", "runDetails", "metadata")({}),
            "predicate.runDetails.metadata.invocationId: expected text, found nothing.",
        ),
        (
            at("predicate", "buildDefinition", "externalParameters")([]),
            "predicate.buildDefinition.externalParameters: expected an object, found [].",
        ),
        (
            at(*DEPENDENCIES)([3]),
            "predicate.buildDefinition.resolvedDependencies.0.name: expected text, found nothing.",
        ),
        (
            at(*DEPENDENCIES, 1, "digest", "sha256")(5),
            "predicate.buildDefinition.resolvedDependencies.1.digest.sha256: expected text, "
            "found 5.",
        ),
        (
            at(*DEPENDENCIES, 1, "annotations")([]),
            "predicate.buildDefinition.resolvedDependencies.1.annotations: expected an object, "
            "found [].",
        ),
        (
            at(*DEPENDENCIES, 1, "uri")(5),
            "predicate.buildDefinition.resolvedDependencies.1.uri: expected text, found 5.",
        ),
    ],
)


@invalid
def test_the_place_of_a_fault_is_named(change, message):
    value = json.loads(STATEMENT.to_bytes())
    change(value)
    with pytest.raises(CorruptFileError) as caught:
        parse_statement(canonical_json(value), "some/file")
    assert str(caught.value) == f"some/file: {message} Left as found."


@invalid
@pytest.mark.parametrize("is_pipeline", [True, False], ids=["pipeline", "trainer"])
def test_an_invalid_statement_of_a_model_stops_the_run_and_is_left_as_found(
    is_pipeline, change, message, artifacts, files
):
    run(artifacts)
    value = json.loads(files(artifacts)[MODEL])
    change(value)
    (artifacts.root / MODEL).replace(canonical_json(value))
    before = files(artifacts)
    with pytest.raises(CorruptFileError) as caught:
        if is_pipeline:
            run(artifacts)
        else:
            train_model(CONFIG, "model_v1", artifacts.models, datasets_dir=artifacts.datasets)
    assert str(caught.value) == f"artifacts/{MODEL}: {message} Left as found."
    assert files(artifacts) == before


@each_statement
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1, column 1: the file is empty."),
        (b'{"_type": "htt', "line 1, column 11: not valid JSON (Unterminated string starting at)."),
        (b"[]", "expected a JSON object, found a list."),
    ],
    ids=["empty", "torn", "list"],
)
def test_a_file_without_a_json_object_stops_the_run_and_is_left_as_found(
    key, data, message, artifacts, files
):
    run(artifacts)
    (artifacts.root / key).replace(data)
    before = files(artifacts)
    with pytest.raises(CorruptFileError) as caught:
        run(artifacts, metrics=lambda _: {"quality_score": 1.0})
    assert str(caught.value) == f"artifacts/{key}: {message} Left as found."
    assert files(artifacts) == before


@given(st.binary(max_size=50) | json_objects.map(canonical_json))
def test_any_other_file_is_a_corrupt_file(data):
    with pytest.raises(CorruptFileError, match=r"^p\.json: (?s:.*) Left as found\.$"):
        parse_statement(data, "p.json")
