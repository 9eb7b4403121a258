"""Many processes on one bucket, with faults of the network, and processes killed at a request."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from src.records.canonical import canonical_json
from src.storage import open_path
from src.training.registry import list_models
from tests.examples import CONFIG, DATA, METADATA, without_runs
from tests.object_store.faults import Choice, Fault, Request, every
from tests.object_store.faulty_proxy import FaultyProxy
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


def requests_of(worker: Worker, proxy: FaultyProxy, task: dict[str, Any]) -> list[Request]:
    """Do a task; return its requests."""
    proxy.clear()
    worker.results(task)
    return [each.request for each in proxy.log]


def kills(requests: list[Request]) -> Iterator[tuple[int, bool]]:
    """Yield the number of each request, and whether to kill before the server receives it.

    In a short test, only those of the writes, before and after in turn.
    """
    if LONG:
        yield from ((each.number, is_before) for each in requests for is_before in (True, False))
    else:
        writes = (each.number for each in requests if each.is_write)
        yield from zip(writes, cycle([True, False]), strict=False)


def kill(
    worker: Worker, proxy: FaultyProxy, task: dict[str, Any], number: int, is_before: bool
) -> None:
    """Do a task, and kill its process while it waits for the answer to a request."""
    arrived = Event()

    def hold(request: Request) -> Choice:
        if request.number != number:
            return None
        arrived.set()
        return Fault.UNANSWERED if is_before else Fault.LATE_ANSWER

    proxy.clear()
    proxy.schedule = hold
    assert worker.run(task, kill_at=arrived) == [KILLED]
    proxy.wait_for_clients()
    proxy.clear()


def test_a_run_killed_at_a_request_is_completed_by_the_next_run(worker, bucket, proxy, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)

    def task(key: str) -> dict[str, Any]:
        bucket.put(f"{key}/datasets/dataset_v1/data.jsonl", DATA)
        return {
            "task": "run",
            "log": str(tmp_path / "log"),
            "pool": [(str(config), "model_v1")],
            "seed": 0,
            "step": 0,
            "root": f"{bucket.url}/{key}",
        }

    worker.results(task("first"))  # also probes the server
    requests = requests_of(worker, proxy, task("undisturbed"))
    expected = without_runs(bucket.objects("undisturbed/"))
    assert len(expected) == 6
    assert sum(each.is_write for each in requests) == 5

    for number, is_before in kills(requests):
        key = f"{number}-{is_before}"
        kill(worker, proxy, task(key), number, is_before)
        left = bucket.objects(f"{key}/")
        assert set(left) <= set(expected)
        worker.results(task(key))
        completed = bucket.objects(f"{key}/")
        assert without_runs(completed) == expected, key
        assert {name: completed[name] for name in left} == left, key


def test_a_new_folder_of_a_killed_process_is_completed_by_the_next_one(worker, bucket, proxy):
    def task(key: str) -> dict[str, Any]:
        return {"task": "add_folder", "folder": f"{bucket.url}/{key}"}

    worker.results(task("first"))  # also probes the server
    requests = requests_of(worker, proxy, task("undisturbed"))
    expected = bucket.objects("undisturbed/")
    assert list(expected) == ["data.jsonl", "metadata.json"]
    assert sum("uploadId=" in each.path for each in requests) > 2  # parts, and their end

    for number, is_before in kills(requests):
        key = f"{number}-{is_before}"
        kill(worker, proxy, task(key), number, is_before)
        left = bucket.objects(f"{key}/")
        assert all(expected[name] == data for name, data in left.items())
        is_complete = "data.jsonl" in left
        assert not is_complete or left == expected
        assert worker.results(task(key)) == ["exists" if is_complete else "added"]
        assert bucket.objects(f"{key}/") == expected, key
