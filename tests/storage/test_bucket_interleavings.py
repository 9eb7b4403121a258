"""Two clients of one bucket, their requests in any order, with faults: one of them succeeds."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from src.records.metadata import ModelVersionConflict
from src.training.pipeline import run_training_pipeline
from tests.examples import CONFIG, DATA, without_runs
from tests.object_store.faults import Fault
from tests.object_store.gated_client import GatedClient, gated_clients, interleaved
from tests.object_store.s3_server import Bucket
from tests.torture.harness import LONG

FAULTS = [
    Fault.LOST_ANSWER,
    Fault.LATE_REQUEST,
    Fault.LAST_REQUEST,
    Fault.UNAVAILABLE_BEFORE,
    Fault.CONDITION_AFTER,
]
STEPS = st.tuples(st.integers(0, 1), st.none() | st.none() | st.sampled_from(FAULTS))
suite = settings(
    max_examples=150 if LONG else 5,
    phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],  # slow to shrink
)


@pytest.fixture(scope="module")
def bucket_and_clients(s3_server) -> Iterator[tuple[Bucket, list[GatedClient]]]:
    """A bucket, by plain requests, and two clients."""
    bucket = s3_server.new_bucket()
    with gated_clients(s3_server, bucket, 2) as clients:
        yield bucket, clients


# --- Runs ----------------------------------------------------------------------------------------

CONFIGS = {"one.yaml": CONFIG, "two.yaml": CONFIG.replace("epochs: 3", "epochs: 4")}
RUN_STEPS = st.lists(STEPS, min_size=20, max_size=70)


@pytest.fixture
def configs(tmp_path, monkeypatch) -> None:
    """Two configs in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, text in CONFIGS.items():
        Path(name).write_text(text)


def new_root(bucket: Bucket) -> str:
    """Return the key of a new artifacts root with a dataset."""
    key = uuid4().hex
    bucket.put(f"{key}/datasets/dataset_v1/data.jsonl", DATA)
    return key


def run(client: GatedClient, key: str, config: str):
    return run_training_pipeline(config, "model_v1", artifacts_dir=client.root / key)


def undisturbed(bucket: Bucket, client: GatedClient, config: str) -> dict[str, bytes]:
    """Return what a run alone leaves, without what differs between two runs."""
    key = new_root(bucket)
    interleaved([client], [partial(run, client, key, config)], [])
    return without_runs(bucket.objects(f"{key}/"))


def test_two_runs_of_one_config_leave_what_one_leaves(bucket_and_clients, configs):
    bucket, clients = bucket_and_clients
    expected = undisturbed(bucket, clients[0], "one.yaml")

    @suite
    @given(RUN_STEPS)
    def check(steps):
        key = new_root(bucket)
        runs = [partial(run, client, key, "one.yaml") for client in clients]
        first, second = interleaved(clients, runs, steps)
        assert first == second
        assert set(first) == {"model_version", "dataset_version", "metrics"}
        assert without_runs(bucket.objects(f"{key}/")) == expected

    check()


def test_of_two_runs_with_different_configs_one_has_the_version(bucket_and_clients, configs):
    bucket, clients = bucket_and_clients
    expected = [undisturbed(bucket, clients[0], config) for config in CONFIGS]

    @suite
    @given(RUN_STEPS)
    def check(steps):
        key = new_root(bucket)
        runs = [
            partial(run, client, key, config)
            for client, config in zip(clients, CONFIGS, strict=True)
        ]
        outcomes = interleaved(clients, runs, steps)
        [winner] = [number for number in (0, 1) if isinstance(outcomes[number], dict)]
        assert isinstance(outcomes[1 - winner], ModelVersionConflict)
        assert without_runs(bucket.objects(f"{key}/")) == expected[winner]

    check()


# --- New folders ---------------------------------------------------------------------------------


def add(client: GatedClient, key: str, data: bytes) -> None:
    with (client.root / key).new_folder() as folder:
        folder.write("data.jsonl", [data])
        folder.write("metadata.json", [b"about " + data])


@pytest.mark.parametrize("texts", [(b"one", b"two"), (b"one", b"one")])
def test_of_two_new_folders_of_one_name_one_is_there_whole(bucket_and_clients, texts):
    bucket, clients = bucket_and_clients

    @suite
    @given(st.lists(STEPS, min_size=5, max_size=25))
    def check(steps):
        key = uuid4().hex
        adds = [
            partial(add, client, key, data) for client, data in zip(clients, texts, strict=True)
        ]
        outcomes = interleaved(clients, adds, steps)
        objects = bucket.objects(f"{key}/")
        assert objects["metadata.json"] == b"about " + objects["data.jsonl"]
        assert len(objects) == 2
        for text, outcome in zip(texts, outcomes, strict=True):
            assert outcome is None or isinstance(outcome, FileExistsError), outcome
            assert outcome is not None or objects["data.jsonl"] == text
        assert None in outcomes

    check()
