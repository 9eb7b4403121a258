import hashlib
import json
import os
from pathlib import Path

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import dataset_version_dataset, error_message_run

from flows.openlineage import SWITCHES, lineage_hooks
from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep
from tests.flows.runs import python
from tests.network import receiver

DATA = "artifacts/datasets/dataset_v1/data.jsonl"
METADATA = "artifacts/models/model_v1/metadata.json"


@pytest.fixture(autouse=True)
def _off(monkeypatch):
    """Switch events off, which a variable of the user may have switched on."""
    for switch in SWITCHES:
        monkeypatch.delenv(switch, raising=False)


@pytest.fixture
def events(monkeypatch):
    """The events that a back end receives, which `OPENLINEAGE_URL` names."""
    with receiver() as (url, events):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        yield events


def run(*arguments):
    """Run the training pipeline with the hooks of the present environment; return its state."""
    return training_pipeline.with_options(**lineage_hooks())(*arguments, return_state=True)


def parsed(event):
    """Build the event again from the client's classes, which refuse invalid events."""

    def facets(found, **classes):
        assert set(found) <= set(classes)
        return {
            name: classes[name](**{k: v for k, v in facet.items() if not k.startswith("_")})
            for name, facet in found.items()
        }

    def dataset(kind, found):
        version = dataset_version_dataset.DatasetVersionDatasetFacet
        versions = facets(found["facets"], version=version)
        return kind(namespace=found["namespace"], name=found["name"], facets=versions)

    error = error_message_run.ErrorMessageRunFacet
    errors = facets(
        {k: v for k, v in event["run"]["facets"].items() if k == "errorMessage"}, errorMessage=error
    )
    return RunEvent(
        eventTime=event["eventTime"],
        eventType=RunState(event["eventType"]),
        producer=event["producer"],
        run=Run(event["run"]["runId"], errors),
        job=Job(event["job"]["namespace"], event["job"]["name"]),
        inputs=[dataset(InputDataset, each) for each in event["inputs"]],
        outputs=[dataset(OutputDataset, each) for each in event["outputs"]],
    )


def versions(datasets):
    """Return the datasets of an event: path and SHA-256."""
    assert {dataset.namespace for dataset in datasets} <= {"file"}
    return {dataset.name: dataset.facets["version"].datasetVersion for dataset in datasets}


def on_disk(*paths):
    """Return the files as `versions` returns them."""
    return {
        str(Path(path).resolve()): hashlib.sha256(Path(path).read_bytes()).hexdigest()
        for path in paths
    }


def test_a_run_sends_start_and_then_complete_with_its_data_and_model(project, events):
    state = run("config.yaml", "model_v1")
    start, complete = map(parsed, events)
    run_id = str(state.state_details.flow_run_id)
    assert (start.eventType, complete.eventType) == (RunState.START, RunState.COMPLETE)
    assert (start.run.runId, complete.run.runId) == (run_id, run_id)
    assert (start.job.namespace, start.job.name) == ("llm-training-pipeline", "training-pipeline")
    assert (start.inputs, start.outputs) == ([], [])
    assert versions(complete.inputs) == on_disk(DATA)
    assert versions(complete.outputs) == on_disk(METADATA)


def test_a_failed_run_sends_fail_with_its_message(project, events):
    run("none.yaml")
    start, failed = map(parsed, events)
    assert (start.eventType, failed.eventType) == (RunState.START, RunState.FAIL)
    assert failed.run.facets["errorMessage"].message == "no such training config (none.yaml)"
    assert (failed.inputs, failed.outputs) == ([], [])


def test_a_sweep_with_a_failed_config_sends_fail_with_the_models_that_it_made(project, events):
    Path("epochs.yaml").write_text("base_config: config.yaml\nepochs: [2, 3]\n")
    sweep = training_sweep.with_options(**lineage_hooks())
    assert sweep(["none.yaml"], "epochs.yaml", return_state=True).is_failed()
    start, failed = map(parsed, events)
    assert (start.eventType, failed.eventType) == (RunState.START, RunState.FAIL)
    assert failed.job.name == "training-sweep"
    assert failed.run.facets["errorMessage"].message == (
        "1 of 3 configs failed, the others are done: no such training config (none.yaml)"
    )
    made = sorted(Path("artifacts/models").glob("*/metadata.json"))
    assert len(made) == 2
    assert versions(failed.inputs) == on_disk(DATA)
    assert versions(failed.outputs) == on_disk(*made)


def test_a_sweep_sends_complete_with_all_its_models(project, events):
    Path("epochs.yaml").write_text("base_config: config.yaml\nepochs: [2, 3]\n")
    training_sweep.with_options(**lineage_hooks())(grid="epochs.yaml")
    _, complete = map(parsed, events)
    assert complete.eventType is RunState.COMPLETE
    made = sorted(Path("artifacts/models").glob("*/metadata.json"))
    assert len(made) == 2
    assert versions(complete.inputs) == on_disk(DATA)
    assert versions(complete.outputs) == on_disk(*made)


def test_a_variable_that_is_set_before_the_process_starts_is_enough(project, server, events):
    code = (
        "from flows.training_pipeline import training_pipeline as f; f('config.yaml', 'model_v1')"
    )
    process = python(code, server | {"OPENLINEAGE_URL": os.environ["OPENLINEAGE_URL"]})
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    start, complete = map(parsed, events)
    assert (start.eventType, complete.eventType) == (RunState.START, RunState.COMPLETE)
    assert versions(complete.outputs) == on_disk(METADATA)


def test_events_are_written_to_a_file_if_the_transport_is_file(project, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", "events.json")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    run("config.yaml", "model_v1")
    events = [json.loads(line) for line in Path("events.json").read_text().splitlines()]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]


def test_a_back_end_that_is_down_costs_a_warning_per_event_and_not_the_run(
    project, monkeypatch, caplog
):
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    assert run("config.yaml", "model_v1").is_completed()
    warnings = [
        (record.levelname, record.message.split(" was not sent: ")[0])
        for record in caplog.records
        if "OpenLineage" in record.message
    ]
    assert warnings == [("WARNING", "OpenLineage: START"), ("WARNING", "OpenLineage: COMPLETE")]


def test_invalid_settings_cost_a_warning_per_event_and_not_the_run(project, monkeypatch, caplog):
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "pigeon")
    assert run("config.yaml", "model_v1").is_completed()
    warnings = [record for record in caplog.records if "OpenLineage" in record.message]
    assert [record.levelname for record in warnings] == ["WARNING"] * 2
    for record in warnings:
        assert record.message.startswith("OpenLineage: no events are sent: ")


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_variable_switches_the_hooks_on(monkeypatch, switch):
    assert lineage_hooks() == {}
    monkeypatch.setenv(switch, "value")
    assert set(lineage_hooks()) == {"on_running", "on_completion", "on_failure"}
    monkeypatch.setenv(switch, "")
    assert lineage_hooks() == {}


def test_the_log_of_a_run_mentions_hooks_only_if_events_are_on(
    project, events, monkeypatch, caplog
):
    def lines():
        found = [message for message in caplog.messages if "hook" in message.lower()]
        caplog.clear()
        return found

    assert run("config.yaml", "model_v1").is_completed()
    assert any("send_event" in line for line in lines())
    monkeypatch.delenv("OPENLINEAGE_URL")
    assert run("config.yaml", "model_v1").is_completed()
    assert lines() == []
    assert len(events) == 2


def test_without_a_variable_the_client_is_not_imported(project, server):
    code = (
        "import sys; from flows.training_pipeline import training_pipeline as f;"
        "f('config.yaml', 'model_v1');"
        "print([name for name in sys.modules if name.startswith('openlineage')])"
    )
    env = {name: value for name, value in server.items() if name not in SWITCHES}
    output, _ = python(code, env).communicate(timeout=600)
    assert output.splitlines()[-1] == "[]", output
