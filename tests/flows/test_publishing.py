"""The event that publishes a dataset version, and the warning about one that nothing pins."""

import time
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter

from flows.publishing import publish_dataset
from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep
from tests.flows.runs import RECORDED_SECONDS, logged

CONFIG = "config.yaml"


def published():
    """Return resource and payload of each event that the server has recorded."""
    wanted = EventFilter(event=EventNameFilter(name=["dataset.published"]))
    body = {"filter": wanted.model_dump(mode="json")}
    with get_client(sync_client=True) as client:
        events = client.request("POST", "/events/filter", json=body).json()["events"]
    return [(event["resource"]["prefect.resource.id"], event["payload"]) for event in events]


def test_the_server_records_the_event_with_the_dataset_version(project):
    publish_dataset("dataset_v7")
    deadline = time.monotonic() + RECORDED_SECONDS
    while not (events := published()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert events == [("dataset.dataset_v7", {"dataset_version": "dataset_v7"})]


def unpinned(records):
    return [
        record.getMessage()
        for record in records
        if record.levelname == "WARNING" and "nothing pins" in record.getMessage()
    ]


@pytest.fixture
def without_metadata(project):
    """The project, with a dataset that nothing pins."""
    Path("artifacts/datasets/dataset_v1/metadata.json").unlink()


def test_each_run_on_a_dataset_that_nothing_pins_warns_once_also_if_it_is_cached(without_metadata):
    for _ in range(2):
        with logged("prefect.flow_runs") as records:
            training_pipeline(CONFIG)
        [warning] = unpinned(records)
        assert warning.endswith(
            "`llm-train dataset add artifacts/datasets/dataset_v1/data.jsonl dataset_v1`."
        )


def test_a_sweep_warns_once_for_all_of_its_configs(without_metadata):
    configs = []
    for number in range(3):
        configs.append(f"c{number}.yaml")
        text = Path(CONFIG).read_text().replace("epochs: 3", f"epochs: {number + 5}")
        Path(configs[-1]).write_text(text)
    with logged("prefect.flow_runs") as records:
        training_sweep(configs)
    assert len(unpinned(records)) == 1
