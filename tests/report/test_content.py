"""The content of the report, from records as values."""

import json
from dataclasses import replace

import pytest
from hypothesis import given

from src.lineage.compare import SECTIONS
from src.lineage.record import Record
from src.records.statement import ResolvedDependency, Statement
from src.records.verdicts import Audit, ModelVerdict
from src.report.content import page_content, value_text
from src.report.reading import ModelFiles, RecordFiles
from tests.examples import METADATA
from tests.strategies import json_values

MADE_ON = "2026-11-24T08:00:00.000Z"
STATEMENT = Statement(
    subject="metadata.json",
    subject_sha256="aa" * 32,
    build_type="urn:x",
    parameters={},
    dependencies=(
        ResolvedDependency(name="config", uri="configs/a.yaml", digest={"sha256": "bb" * 32}),
        ResolvedDependency(name="dataset", digest={"sha256": "cc" * 32}),
        ResolvedDependency(name="code", digest={"gitCommit": "dd" * 20}),
        ResolvedDependency(name="core", digest={"sha256": "ee" * 32}),
        ResolvedDependency(name="packages", annotations={"pyyaml": "6.0.3"}),
    ),
    builder="urn:y",
    builder_version={},
    invocation_id="1",
    url="http://server/runs/1",
    started_on="2026-11-23T10:00:01.000Z",
    finished_on="2026-11-23T10:00:02.000Z",
)
EVALUATION = Statement(
    subject="evaluation.json",
    subject_sha256="ff" * 32,
    build_type="urn:x",
    parameters={},
    dependencies=(),
    builder="urn:y",
    builder_version={},
    invocation_id="1",
    url=None,
    started_on="",
    finished_on="",
)


def model(version="model_v1", metrics=None, statement=STATEMENT, **changes):
    """Return the files of a model; `changes` are of its metadata."""
    metadata = METADATA | {"model_version": version} | changes
    evaluation = None if metrics is None else {"metrics": metrics}
    record = Record(metadata=metadata, statement=statement, evaluation=evaluation)
    return ModelFiles(version=version, record=record, evaluation_statement=EVALUATION)


def content(*models, **options):
    return page_content(RecordFiles(root="artifacts", models=models, **options), MADE_ON)


def values(page, index=0):
    """Return the values of a model by section."""
    found = page["models"][index]["values"]
    return {
        section: dict(page["values"][number][found[number]])
        for number, section in enumerate(SECTIONS)
    }


def test_the_content_of_a_model_has_its_values_as_texts_and_its_lineage():
    page = content(model(metrics={"quality_score": 0.9, "latency_ms": 31}))
    assert values(page) == {
        "config": {
            "base_model": "mistral-7b",
            "dataset_version": "dataset_v1",
            "learning_rate": "2e-05",
            "epochs": "3",
            "batch_size": "16",
        },
        "trainer": {},
        "data": {"num_training_samples": "3", "sha256": "cc" * 32},
        "code": {"core sha256": "ee" * 32, "commit": "dd" * 20},
        "environment": {"pyyaml": "6.0.3"},
        "metrics": {"quality_score": "0.9", "latency_ms": "31"},
        "training": {},
    }
    [found] = page["models"]
    assert [page["inputs"][index] for index in found["lineage"]] == [
        ("dataset", "dataset_v1", "cc" * 32),
        ("config", "configs/a.yaml", "bb" * 32),
        ("code", f"commit {'dd' * 20}", "ee" * 32),
        ("model", "model_v1", "aa" * 32),
        ("evaluation", "by simulated", "ff" * 32),
    ]
    del found["values"], found["lineage"]
    assert found == {
        "version": "model_v1",
        "faults": [],
        "is_registered": True,
        "is_simulated": True,
        "verdict": None,
        "details": [],
        "losses": [],
        "base_model": "mistral-7b",
        "dataset": "dataset_v1",
        "started_on": "2026-11-23T10:00:01.000Z",
        "url": "http://server/runs/1",
    }


def test_the_content_names_the_root_the_times_and_the_faults():
    audit = Audit(audited_on="2026-11-23T04:00:00.000Z", models={})
    page = content(audit=audit, faults=("registry.json: lost.",))
    assert {key: page[key] for key in ("root", "made_on", "audited_on", "faults", "models")} == {
        "root": "artifacts",
        "made_on": MADE_ON,
        "audited_on": "2026-11-23T04:00:00.000Z",
        "faults": ["registry.json: lost."],
        "models": [],
    }


def test_what_models_have_in_common_is_in_the_content_once():
    page = content(*(model(f"model_v{number}", {"loss": number}) for number in range(100)))
    environment = SECTIONS.index("environment")
    assert page["values"][environment] == [(("pyyaml", "6.0.3"),)]
    assert {each["values"][environment] for each in page["models"]} == {0}
    assert [kind for kind, _, _ in page["inputs"]].count("dataset") == 1


def test_a_model_without_a_statement_has_no_time_and_no_inputs():
    page = content(model(statement=None))
    [found] = page["models"]
    assert (found["started_on"], found["url"]) == (None, None)
    assert [page["inputs"][index][0] for index in found["lineage"]] == ["evaluation"]


@pytest.mark.parametrize(
    ("parameters", "is_simulated"),
    [
        ({}, True),  # as the statements of the simulated evaluator are
        ({"evaluator": {"use": "simulated"}}, True),
        ({"evaluator": {"use": "held-out-loss"}}, False),
        ({"evaluator": "simulated"}, False),
    ],
)
def test_a_model_is_marked_if_its_evaluation_names_the_simulated_evaluator(
    parameters, is_simulated
):
    files = replace(model(), evaluation_statement=replace(EVALUATION, parameters=parameters))
    [found] = content(files)["models"]
    assert found["is_simulated"] is is_simulated


def test_a_model_whose_evaluation_has_no_statement_is_not_marked_as_simulated():
    [found] = content(replace(model(metrics={"loss": 1}), evaluation_statement=None))["models"]
    assert found["is_simulated"] is False


def test_a_model_without_readable_metadata_has_its_name_and_its_faults():
    files = ModelFiles(version="v", record=None, is_registered=False, faults=("v: not JSON.",))
    [found] = content(files)["models"]
    assert (found["version"], found["faults"], found["values"]) == ("v", ["v: not JSON."], [])
    assert not found["is_registered"]


def test_verdicts_are_those_of_the_audit_and_a_new_model_has_none():
    mismatch = ModelVerdict(verdict="MISMATCH", details=("epochs: expected 3\x1b, found 4",))
    audit = Audit(audited_on="2026-11-23T04:00:00.000Z", models={"old": mismatch})
    old, new = content(model("old"), model("new"), audit=audit)["models"]
    assert (old["verdict"], old["details"]) == (
        "MISMATCH",
        ['"epochs: expected 3\\u001b, found 4"'],
    )
    assert (new["verdict"], new["details"]) == (None, [])


def test_names_of_metrics_and_settings_are_those_of_most_models_first():
    page = content(
        model("a", {"loss": 1, "latency_ms": 2}),
        model("b", {"loss": 1, "seconds": 2, "note": "text"}),
        model("c", {"loss": 1, "seconds": 2}, training_config={"epochs": 1, "rank": 8}),
    )
    assert page["metrics"] == ["latency_ms", "loss", "seconds"]
    assert page["settings"] == ["epochs", "learning_rate", "batch_size", "rank"]


def test_a_page_has_at_most_fifty_names_of_metrics():
    assert len(content(model(metrics={f"m{n}": n for n in range(900)}))["metrics"]) == 50


def test_long_texts_and_many_values_are_bounded_and_stay_different():
    config = {f"key{number}": number for number in range(3000)}
    page = content(
        model("a", base_model="x" * 10**6, training_config=config),
        model("b", base_model="x" * (10**6 - 1) + "y", training_config=config),
    )
    names = [each["base_model"] for each in page["models"]]
    assert all(name.startswith("x" * 500 + "... (1,000,000 characters, sha256 ") for name in names)
    assert names[0] != names[1]
    assert len(values(page)["config"]) == 1001


def test_losses_have_five_digits():
    losses = ((1, 5.123456789), (2, 1.7976931348623157e308))
    files = ModelFiles(version="v", record=model().record, losses=losses)
    [found] = content(files)["models"]
    assert found["losses"] == [[1, 5.1235], [2, 1.7976931348623157e308]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("mistral", "mistral"),
        (3, "3"),
        (3.0, "3.0"),
        ("3", '"3"'),
        ("true", '"true"'),
        (True, "true"),
        (None, "-"),
        ("-", '"-"'),
        ("", '""'),
        ({"a": [1]}, '{"a": [1]}'),
        ("a\u202eb", '"a\\u202eb"'),
        ('"a\\u202eb"', '"\\"a\\\\u202eb\\""'),
    ],
)
def test_a_value_is_one_line_of_printable_text(value, text):
    assert value_text(value) == text


@given(json_values, json_values)
def test_equal_texts_are_equal_values(one, other):
    is_same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (value_text(one) == value_text(other)) == is_same


def test_of_too_many_values_the_others_differ_by_a_digest():
    metrics = {f"m{number:04}": number for number in range(1500)}
    other = metrics | {"m1400": 0}
    page = content(model(metrics=metrics), model(metrics=other))
    one, two = values(page, 0)["metrics"], values(page, 1)["metrics"]
    assert len(one) == 1001
    assert one.pop("500 more values") != two.pop("500 more values")
    assert one == two
