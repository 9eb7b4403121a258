"""Many processes on one bucket, with faults of the network, and processes killed at a request."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from src.records.canonical import canonical_json
from src.storage import open_path
from src.training.registry import list_models
from tests.examples import CONFIG, DATA, METADATA, without_runs
from tests.object_store.faults import Choice, Fault, Request, every
from tests.torture.harness import KILLED, LONG, Worker, running_worker

PROCESSES, VERSIONS = (16, 50) if LONG else (4, 10)
REQUESTS_PER_FAULT = 10
REGISTRY = "models/registry.json"
FAULTS = [  # without those that wait for the time limit of a client
    each for each in Fault if each is not Fault.CONDITION_BEFORE and not each.is_timeout
]


@pytest.fixture
def worker(faulty_bucket, tmp_path: Path) -> Iterator[Worker]:
    """A process that forks others, whose environment leads to the proxy."""
    with running_worker(tmp_path) as worker:
        yield worker


def test_many_processes_register_each_model_once_in_spite_of_faults(worker, bucket, proxy):
    models = [
        [{**METADATA, "model_version": f"model-{process}-{number}"} for number in range(VERSIONS)]
        for process in range(PROCESSES)
    ]
    proxy.schedule = every(REQUESTS_PER_FAULT, FAULTS)
    registry = f"{bucket.url}/{REGISTRY}"
    worker.results(
        *({"task": "register_all", "registry": registry, "models": mine} for mine in models)
    )
    proxy.settle()
    log = proxy.log
    proxy.clear()

    registered = list_models(open_path(bucket.url) / REGISTRY)
    assert sorted(map(canonical_json, registered)) == sorted(
        canonical_json(each) for mine in models for each in mine
    )
    assert bucket.get(REGISTRY) == canonical_json({"models": registered})
    assert [key for key in bucket.list_keys() if not key.startswith(".probe/")] == [REGISTRY]
    faults = [each.fault for each in log if each.fault]
    assert len(faults) > len(log) / REQUESTS_PER_FAULT / 2
    line = f"{len(registered)} entries, {len(log)} requests, {len(faults)} of them with a fault"
    print(line)  # noqa: T201  # shown by `pytest -rP`


def test_a_run_killed_at_a_request_is_completed_by_the_next_run(worker, bucket, proxy, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)

    def task(key: str) -> dict[str, object]:
        return {
            "task": "run",
            "log": str(tmp_path / "log"),
            "pool": [(str(config), "model_v1")],
            "seed": 0,
            "step": 0,
            "root": f"{bucket.url}/{key}",
        }

    def objects(key: str) -> dict[str, bytes]:
        return bucket.objects(f"{key}/")

    bucket.put("probed/datasets/dataset_v1/data.jsonl", DATA)
    worker.results(task("probed"))  # also the probe of the server
    bucket.put("undisturbed/datasets/dataset_v1/data.jsonl", DATA)
    proxy.clear()
    worker.results(task("undisturbed"))
    expected = without_runs(objects("undisturbed"))
    assert len(expected) == 6
    requests = [each.request for each in proxy.log]
    assert sum(each.is_write for each in requests) == 5

    for number, is_before in [
        (request.number, is_before)
        for request in requests
        for is_before in (True, False)
        if LONG or request.is_write
    ]:
        key = f"killed-{number}-{'before' if is_before else 'after'}"
        bucket.put(f"{key}/datasets/dataset_v1/data.jsonl", DATA)
        arrived = Event()

        def hold(request: Request, number=number, is_before=is_before, arrived=arrived) -> Choice:
            if request.number != number:
                return None
            arrived.set()
            return Fault.UNANSWERED if is_before else Fault.LATE_ANSWER

        proxy.clear()
        proxy.schedule = hold
        assert worker.run(task(key), kill_at=arrived) == [KILLED]
        proxy.clear()
        left = objects(key)
        assert set(left) <= set(expected)
        worker.results(task(key))
        completed = objects(key)
        assert without_runs(completed) == expected, key
        for name, data in left.items():
            assert completed[name] == data, (key, name)
