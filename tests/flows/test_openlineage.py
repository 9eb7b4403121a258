import hashlib
import json
from pathlib import Path

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import dataset_version_dataset, error_message_run

from flows.training_pipeline import training_pipeline
from tests.network import receiver


@pytest.fixture
def events(monkeypatch):
    """What a back-end is sent."""
    with receiver() as (url, events):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        yield events


def as_the_client_reads_it(event):
    """Build the event anew from the client's own classes, which refuse what is no event."""

    def facets(found, **classes):
        assert set(found) <= set(classes)
        return {
            name: classes[name](**{k: v for k, v in facet.items() if not k.startswith("_")})
            for name, facet in found.items()
        }

    def dataset(kind, found):
        version = dataset_version_dataset.DatasetVersionDatasetFacet
        own = facets(found["facets"], version=version)
        return kind(namespace=found["namespace"], name=found["name"], facets=own)

    error = error_message_run.ErrorMessageRunFacet
    own = facets(
        {k: v for k, v in event["run"]["facets"].items() if k == "errorMessage"}, errorMessage=error
    )
    return RunEvent(
        eventTime=event["eventTime"],
        eventType=RunState(event["eventType"]),
        producer=event["producer"],
        run=Run(event["run"]["runId"], own),
        job=Job(event["job"]["namespace"], event["job"]["name"]),
        inputs=[dataset(InputDataset, each) for each in event["inputs"]],
        outputs=[dataset(OutputDataset, each) for each in event["outputs"]],
    )


def test_a_run_sends_its_start_and_then_what_it_read_and_made(project, events):
    state = training_pipeline("config.yaml", "model_v1", return_state=True)
    start, complete = map(as_the_client_reads_it, events)
    run = str(state.state_details.flow_run_id)
    assert (start.eventType, complete.eventType) == (RunState.START, RunState.COMPLETE)
    assert (start.run.runId, complete.run.runId) == (run, run)
    assert (start.job.namespace, start.job.name) == ("llm-training-pipeline", "training-pipeline")
    for found, path in (
        (complete.inputs, "artifacts/datasets/dataset_v1/data.jsonl"),
        (complete.outputs, "artifacts/models/model_v1/metadata.json"),
    ):
        [dataset] = found
        assert (dataset.namespace, dataset.name) == ("file", str(project.resolve() / path))
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        assert dataset.facets["version"].datasetVersion == digest


def test_a_run_that_fails_sends_why(project, events):
    training_pipeline("none.yaml", return_state=True)
    _, failed = map(as_the_client_reads_it, events)
    assert failed.eventType is RunState.FAIL
    assert failed.run.facets["errorMessage"].message == "none.yaml: no such training config."


def test_events_go_to_a_file_where_that_is_asked_for(project, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", "events.json")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    training_pipeline("config.yaml", "model_v1")
    events = [json.loads(line) for line in Path("events.json").read_text().splitlines()]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]


def test_a_back_end_that_is_down_costs_a_warning_and_not_the_run(project, monkeypatch, caplog):
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    assert training_pipeline("config.yaml", "model_v1", return_state=True).is_completed()
    warnings = [record.message for record in caplog.records if "OpenLineage" in record.message]
    assert [warning.split(" was not sent")[0] for warning in warnings] == [
        "OpenLineage: START",
        "OpenLineage: COMPLETE",
    ]


def test_settings_that_make_no_sense_cost_a_warning_and_not_the_run(project, monkeypatch, caplog):
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "pigeon")
    assert training_pipeline("config.yaml", "model_v1", return_state=True).is_completed()
    assert "OpenLineage: no events are sent: " in caplog.text


def test_without_its_settings_nothing_of_it_is_even_imported(project, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openlineage.client", None)
    assert training_pipeline("config.yaml", "model_v1", return_state=True).is_completed()
