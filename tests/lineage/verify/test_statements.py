"""Every change of a statement is named by `verify`, but for an explicit list of fields."""

import copy
import re
from dataclasses import replace
from hashlib import sha256

import pytest

from src.artifacts import Artifacts, read_statement
from src.environment import Invocation, core_dependency
from src.errors import CorruptFileError
from src.evaluation.evaluator import evaluate_model
from src.lineage.verify import failed_checks, verify
from src.lineage.verify.statements import (
    evaluation_faults,
    model_faults,
    run_mismatches,
    time_notes,
)
from src.records.canonical import canonical_json
from src.records.statement import ResolvedDependency, parse_statement
from src.training import binding
from src.training.pipeline import run_training_pipeline
from tests.lineage.damage import (
    EVALUATION_STATEMENT,
    REGISTRY,
    STATEMENT,
    edit,
    read,
    read_json,
    remove,
    write,
)

EXAMPLES = {  # another value of the same form, by the last key of the place
    "startedOn": "2031-01-01T00:00:00.000Z",
    "finishedOn": "2001-01-01T00:00:00.000Z",
    "invocationId": "0" * 32,
    "sha256": "0" * 64,
    "gitCommit": "0" * 40,
    "llm-training-pipeline": "9.9.9",
    "uri": "http://other/",
    "version": "2.7",
}
RUN = Invocation(url="http://127.0.0.1:4200/runs/flow-run/1")
DETAILS = "predicate.runDetails"
INPUTS = "predicate.buildDefinition.resolvedDependencies"
OF_ANY_RUN = {f"{DETAILS}.metadata.{name}" for name in ("invocationId", "startedOn", "finishedOn")}
OF_ANOTHER_RUN = OF_ANY_RUN | {
    f"{DETAILS}.builder.version.llm-training-pipeline",
    f"{DETAILS}.byproducts.0.uri",
    f"{DETAILS}: byproducts removed",
    "predicate.buildDefinition.internalParameters.host",
    "predicate.buildDefinition: internalParameters removed",
    f"{INPUTS}.2.digest.sha256",  # the core; a note
}
OF_THE_MODEL = OF_ANY_RUN | {
    f"{INPUTS}.0.uri",  # the config file, which may be edited or moved
    f"{INPUTS}.0.digest.sha256",
    f"{INPUTS}: 2 removed",  # the dataset's metadata.json, which may be missing
    f"{INPUTS}.3.digest.gitCommit",
    f"{INPUTS}.3.annotations.dirty",
    f"{INPUTS}: 3 removed",  # the commit, which may be unknown
    f"{INPUTS}.5.annotations.version",
    f"{INPUTS}.5.annotations.implementation",
    f"{INPUTS}.6.annotations.filelock",
    f"{INPUTS}.6.annotations: filelock removed",
    f"{INPUTS}.6.annotations: key added",
}
"""What cannot be checked if the digest in the evaluation's statement is altered with it."""


def places(value, place=()):
    """Yield the place of every value in a JSON value, and the value itself."""
    yield place, value
    items = value.items() if isinstance(value, dict) else []
    for key, each in enumerate(value) if isinstance(value, list) else items:
        yield from places(each, (*place, key))


def changes_of(place, value):
    """Yield the names of changes of one value, and the new value."""
    if isinstance(value, dict):
        yield "key added", {**value, "added": "text"}
        for key in value:
            yield f"{key} removed", {name: each for name, each in value.items() if name != key}
    elif isinstance(value, list):
        yield "emptied", []
        for index, each in enumerate(value):
            yield f"{index} removed", value[:index] + value[index + 1 :]
            yield f"{index} duplicated", [*value[:index], each, *value[index:]]
            yield f"{index} appended", [*value, each]
        for index in range(len(value) - 1):
            one, other = value[index : index + 2]
            yield f"{index} swapped", [*value[:index], other, one, *value[index + 2 :]]
    elif isinstance(value, bool | int | float):
        yield "value", not value if isinstance(value, bool) else value + 1
        yield "text", str(value)
    else:
        yield "value", EXAMPLES.get(place[-1], f"{value}x")
        yield "text", f"{value}x"
        yield "emptied", ""
        yield "spaces", " "
        yield "number", 3
    if place:
        yield "null", None
        yield "another type", [] if isinstance(value, dict) else {}


def alterations(statement):
    """Yield every change of a statement, with a name."""
    for place, value in places(statement):
        for what, new in changes_of(place, value):
            altered = {"": copy.deepcopy(statement)}
            at, path = altered, ("", *place)
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = new
            yield f"{'.'.join(map(str, place))}: {what}", altered[""]


@pytest.fixture
def complete(models, monkeypatch) -> Artifacts:
    """An artifacts root whose statements of `model_v1` have every field."""
    environment = (
        ResolvedDependency(
            name="code", digest={"gitCommit": "c0ffee" * 6 + "beef"}, annotations={"dirty": False}
        ),
        core_dependency(),
        ResolvedDependency(
            name="python", annotations={"version": "3.11.7", "implementation": "cpython"}
        ),
        ResolvedDependency(name="packages", annotations={"filelock": "4.2.11"}),
    )
    for key in ("models/model_v1", "evaluations/model_v1"):
        remove(models, key)
    edit(models, REGISTRY, "models", value=read_json(models, REGISTRY)["models"][1:])
    monkeypatch.setattr(binding, "environment_dependencies", lambda: environment)
    run_training_pipeline("one.yaml", "model_v1", artifacts_dir=models.root, invocation=RUN)
    return models


def unnamed(artifacts, key, names, *, and_also=lambda artifacts: None):
    """Return the fields and changes of a statement that `verify` does not name.

    Every other change has a mismatch among the checks `names`.
    """
    found, statement = set(), read_json(artifacts, key)
    for what, altered in alterations(statement):
        assert altered != statement, what
        write(artifacts, key, canonical_json(altered))
        and_also(artifacts)
        failed = failed_checks(verify("model_v1", artifacts.root))
        if failed:
            assert {check.what for check in failed} & set(names), (what, failed)
            assert {check.verdict for check in failed} == {"MISMATCH"}, what
        else:
            found.add(re.sub(": (value|text|emptied|spaces)$", "", what))
    return found


in_a_folder = pytest.mark.parametrize("models", ["folder"], indirect=True)


@in_a_folder
def test_every_change_of_a_models_statement_is_named(complete):
    assert unnamed(complete, STATEMENT, ["provenance.json"]) == set()


@in_a_folder
def test_in_an_evaluations_statement_by_the_run_of_the_model_only_id_and_times_may_be_any(
    complete,
):
    names = ["evaluation's provenance", "provenance.json"]
    assert unnamed(complete, EVALUATION_STATEMENT, names) == OF_ANY_RUN


@in_a_folder
def test_in_an_evaluations_statement_by_another_run_url_version_and_core_may_be_any(complete):
    remove(complete, "evaluations/model_v1")
    evaluate_model(
        "model_v1",
        complete.models,
        complete.evaluations,
        invocation=Invocation(url="http://127.0.0.1:4200/runs/flow-run/2"),
    )
    names = ["evaluation's provenance", "provenance.json"]
    assert unnamed(complete, EVALUATION_STATEMENT, names) == OF_ANOTHER_RUN


@in_a_folder
def test_what_cannot_be_checked_if_both_statements_are_altered_together(complete):
    def attest(artifacts):
        digest = sha256(read(artifacts, STATEMENT)).hexdigest()
        place = "predicate", "buildDefinition", "resolvedDependencies", 1, "digest", "sha256"
        edit(artifacts, EVALUATION_STATEMENT, *place, value=digest)

    names = ["evaluation's provenance", "provenance.json", "dataset bytes", "dataset metadata"]
    assert unnamed(complete, STATEMENT, names, and_also=attest) == OF_THE_MODEL


@in_a_folder
def test_a_statement_with_unknown_fields_is_read_by_all_but_verify(complete):
    statement = read_json(complete, STATEMENT)
    folder = complete.models / "model_v1"
    for what, altered in alterations(statement):
        write(complete, STATEMENT, canonical_json(altered))
        if what.endswith("key added"):
            assert read_statement(folder) is not None
        else:
            try:
                read_statement(folder)
            except CorruptFileError as error:
                assert str(error).startswith(f"artifacts/{STATEMENT}: ")


# --- Reports -------------------------------------------------------------------------------------

SHA256 = re.compile("[0-9a-f]{64}")


def value_of(statement, change):
    """Return the bytes of a statement after a change of its JSON value."""
    value = copy.deepcopy(statement.to_dict())
    change(value)
    return canonical_json(value)


@pytest.fixture
def model(complete):
    return parse_statement(read(complete, STATEMENT), "p.json")


@pytest.fixture
def evaluation(complete):
    return parse_statement(read(complete, EVALUATION_STATEMENT), "p.json")


@in_a_folder
def test_undamaged_statements_have_no_faults(model, evaluation):
    assert model_faults(model.to_bytes(), "model_v1", "dataset_v1") == []
    assert model_faults(model.to_bytes(), "model_v1", None) == []
    assert evaluation_faults(evaluation.to_bytes(), "model_v1") == []
    assert run_mismatches(model, evaluation) == []
    assert time_notes(model) == time_notes(evaluation, model) == []


@in_a_folder
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda value: value.update(note=1), "statement: unknown field 'note'"),
        (
            lambda value: value["predicate"].update({"\x1b[2J": 1}),
            "predicate: unknown field '\\x1b[2J'",
        ),
        (
            lambda value: value["subject"].append(value["subject"][0]),
            "subject: expected a list of 1, found [{'digest': {'sha256': '",
        ),
        (
            lambda value: value["predicate"]["runDetails"]["builder"].update(id="urn:x"),
            "predicate.runDetails.builder.id: expected one of "
            "urn:llm-training-pipeline:builder:python, urn:llm-training-pipeline:builder:prefect, "
            "found 'urn:x'",
        ),
        (
            lambda value: value["predicate"]["runDetails"]["metadata"].update(startedOn="10:00"),
            "predicate.runDetails.metadata.startedOn: expected a time such as "
            "2026-01-31T12:00:00.000Z, found '10:00'",
        ),
        (
            lambda value: value["predicate"]["runDetails"]["builder"].pop("version"),
            "predicate.runDetails.builder.version: missing",
        ),
        (
            lambda value: value["predicate"]["buildDefinition"]["resolvedDependencies"].reverse(),
            "resolvedDependencies: expected metadata.json, provenance.json, core, found 'core', "
            "'provenance.json', 'metadata.json'",
        ),
        (
            lambda value: value["predicate"]["buildDefinition"].update(externalParameters=[]),
            "predicate.buildDefinition.externalParameters: expected an object, found []",
        ),
        (
            lambda value: value["predicate"]["buildDefinition"].update(internalParameters={}),
            "predicate.buildDefinition.internalParameters.host: missing",
        ),
        (
            lambda value: value["predicate"]["buildDefinition"]["internalParameters"].update(x=1),
            "predicate.buildDefinition.internalParameters: unknown field 'x'",
        ),
        (
            lambda value: value["predicate"]["buildDefinition"]["internalParameters"].update(
                worker="a\nb"
            ),
            "predicate.buildDefinition.internalParameters.worker: expected at most 255 printable",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(change, fault, evaluation):
    [found] = evaluation_faults(value_of(evaluation, change), "model_v1")
    assert found.startswith(fault)


@in_a_folder
def test_a_statement_of_an_older_release_names_no_host(evaluation):
    old = replace(evaluation, internal_parameters={})
    assert evaluation_faults(old.to_bytes(), "model_v1") == []


@in_a_folder
def test_of_many_faults_five_are_listed(evaluation):
    def change(value):
        value.update({f"field {number}": 1 for number in range(1200)})

    faults = evaluation_faults(value_of(evaluation, change), "model_v1")
    assert faults[4:] == ["statement: unknown field 'field 1000'", "and 1,195 more"]


@in_a_folder
def test_the_id_of_a_flow_run_is_a_uuid(evaluation):
    flow = replace(
        evaluation,
        builder="urn:llm-training-pipeline:builder:prefect",
        invocation_id="1f0e8715-c86c-45eb-ae99-10d8b5f417c6",
    )
    assert evaluation_faults(flow.to_bytes(), "model_v1") == []
    [fault] = evaluation_faults(replace(flow, invocation_id="run-1").to_bytes(), "model_v1")
    assert fault == "predicate.runDetails.metadata.invocationId: expected a UUID, found 'run-1'"


@in_a_folder
def test_the_run_of_both_statements_has_one_builder_version_page_and_core(model, evaluation):
    changed = replace(evaluation, url=None, builder_version={"llm-training-pipeline": "9"})
    assert [each.partition(":")[0] for each in run_mismatches(model, changed)] == [
        "builder.version",
        "byproducts",
    ]
    [core] = [each for each in evaluation.dependencies if each.name == "core"]
    others = evaluation.dependencies[:2]
    changed = replace(
        evaluation, dependencies=(*others, replace(core, digest={"sha256": "0" * 64}))
    )
    [found] = run_mismatches(model, changed)
    assert SHA256.sub("...", found) == (
        "core: expected '...' as in the model's provenance.json, which the same run wrote, found "
        "'...'"
    )


@in_a_folder
@pytest.mark.parametrize(
    "change", [{"invocation_id": "0" * 32}, {"started_on": "2031-01-01T00:00:00.000Z"}]
)
def test_another_run_or_a_retried_one_may_differ_in_everything(change, model, evaluation):
    changed = replace(evaluation, url=None, builder_version={"llm-training-pipeline": "9"})
    assert run_mismatches(model, replace(changed, **change)) == []


@in_a_folder
@pytest.mark.parametrize(
    ("changes", "what", "note"),
    [
        (
            {EVALUATION_STATEMENT: {"finishedOn": "2001-01-01T00:00:00.000Z"}},
            "evaluation's provenance",
            "Finished at 2001-01-01T00:00:00.000Z, before it started. "
            "Finished at 2001-01-01T00:00:00.000Z, before the model.",
        ),
        (
            {EVALUATION_STATEMENT: {"startedOn": "2001-01-01T00:00:00.000Z"}},
            "evaluation's provenance",
            "Started at 2001-01-01T00:00:00.000Z, before the run of the model.",
        ),
        (
            {STATEMENT: {"finishedOn": "2001-01-01T00:00:00.000Z"}},
            "provenance.json",
            "Finished at 2001-01-01T00:00:00.000Z, before it started.",
        ),
    ],
    ids=["finished before", "started before the model", "model finished before"],
)
def test_times_that_run_backwards_are_a_note_and_no_mismatch(changes, what, note, complete):
    for key, times in changes.items():
        for name, value in times.items():
            edit(complete, key, "predicate", "runDetails", "metadata", name, value=value)
    digest = sha256(read(complete, STATEMENT)).hexdigest()
    place = "predicate", "buildDefinition", "resolvedDependencies", 1, "digest", "sha256"
    edit(complete, EVALUATION_STATEMENT, *place, value=digest)
    checks = {check.what: check for check in verify("model_v1", complete.root)}
    assert (checks[what].verdict, checks[what].note) == ("MATCH", note)


@in_a_folder
def test_an_evaluation_by_code_of_neither_the_model_nor_the_present_is_noted(complete):
    place = "predicate", "buildDefinition", "resolvedDependencies", 2, "digest", "sha256"
    edit(complete, EVALUATION_STATEMENT, *place, value="0" * 64)
    run = "predicate", "runDetails", "metadata", "invocationId"
    edit(complete, EVALUATION_STATEMENT, *run, value="0" * 32)
    checks = verify("model_v1", complete.root)
    assert failed_checks(checks) == []
    assert checks[-1].note == "Evaluated by code that is neither the model's nor the installed one."
