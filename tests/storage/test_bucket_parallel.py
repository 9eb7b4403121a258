"""Many clients of one bucket at the same time, with faults: parallel equals serial."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from src.records.metadata import ModelVersionConflict
from src.storage import open_path
from src.training.registry import list_models, register_model, register_models
from tests.examples import METADATA
from tests.object_store.faults import Fault, every
from tests.object_store.gated_client import GatedClient, gated_clients
from tests.object_store.s3_server import Bucket
from tests.torture.harness import LONG

FAULTS = [
    Fault.LOST_ANSWER,
    Fault.LATE_REQUEST,
    Fault.LAST_REQUEST,
    Fault.HALF_ANSWER,
    Fault.UNAVAILABLE_BEFORE,
    Fault.SLOW_DOWN_AFTER,
    Fault.CONFLICT_AFTER,
    Fault.CONDITION_AFTER,
]
REGISTRY = "models/registry.json"
Entry = tuple[str, int]


def metadata(entry: Entry):
    """Return the metadata of a model: its version, and a number that is part of its content."""
    version, content = entry
    return {**METADATA, "model_version": version, "num_training_samples": content}


def entries(models) -> list[Entry]:
    return [(model["model_version"], model["num_training_samples"]) for model in models]


# --- Threads -------------------------------------------------------------------------------------

THREADS = 3
VERSIONS = 40 if LONG else 6  # per thread


@pytest.mark.parametrize("requests", [2, 5])
def test_with_faults_and_contention_every_entry_is_registered_once(requests, faulty_bucket, proxy):
    def register(thread: int) -> list[Entry]:
        path = open_path(faulty_bucket.url) / REGISTRY
        mine = [(f"model-{thread}-{number}", 1) for number in range(VERSIONS)]
        for entry in mine:
            register_model(metadata(entry), path)
        return mine

    (open_path(faulty_bucket.url) / "probed").create(b"")
    proxy.clear()
    proxy.schedule = every(requests, FAULTS)
    with ThreadPoolExecutor(THREADS) as pool:
        registered = [entry for mine in pool.map(register, range(THREADS)) for entry in mine]
    proxy.settle()
    faults = [each.fault for each in proxy.log if each.fault]
    assert len(faults) > len(registered) / requests
    found = entries(list_models(open_path(faulty_bucket.url) / REGISTRY))
    assert sorted(found) == sorted(registered)


# --- Interleavings -------------------------------------------------------------------------------

CLIENTS = 3
EXAMPLES, STEPS = (400, 60) if LONG else (12, 30)


@dataclass
class Operation:
    """A registration, or a read of the registry, and its outcome.

    Attributes:
        new: The entries to register; none for a read.
        began: The time, as the number of the step.
        ended: The time; `None` if it is not acknowledged.
        seen: The entries that a read has returned.
        is_conflict: Whether one of the versions was registered with other content.
    """

    new: list[Entry]
    began: int
    ended: int | None = None
    seen: list[Entry] | None = None
    is_conflict: bool = False


@pytest.fixture
def clients(s3_server) -> Iterator[tuple[Bucket, list[GatedClient]]]:
    """A bucket, by plain requests, and clients that are opened once for all examples."""
    bucket = s3_server.new_bucket()
    with gated_clients(s3_server, bucket, CLIENTS) as clients:
        yield bucket, clients


# Few versions that several clients register, with two contents.
shared = st.tuples(st.sampled_from("abc"), st.integers(1, 2))
registrations = st.lists(shared, min_size=1, max_size=2, unique_by=lambda entry: entry[0])
faults = st.none() | st.sampled_from(FAULTS)


class ParallelClients(RuleBasedStateMachine):
    """Clients that register and read models; each step lets one of them do one request."""

    def __init__(self, bucket: Bucket, clients: list[GatedClient]) -> None:
        super().__init__()
        self._bucket, self._clients = bucket, clients
        self._key = f"{uuid4().hex}/{REGISTRY}"
        self._now = 0
        self._log: list[Entry] = []
        self._running: dict[int, Operation] = {}
        self._operations: list[Operation] = []

    @rule(client=st.integers(0, CLIENTS - 1), new=registrations, is_batch=st.booleans())
    def register(self, client, new, is_batch):
        """Register versions that other clients register too, perhaps with two new ones."""
        own = [(f"own-{self._now}-{number}", 1) for number in range(2 if is_batch else 0)]
        self._begin(client, [*new, *own])

    @rule(client=st.integers(0, CLIENTS - 1))
    def read(self, client):
        self._begin(client, [])

    @rule(client=st.integers(0, CLIENTS - 1), fault=faults)
    def step(self, client, fault):
        if self._clients[client].is_busy:
            self._step(client, fault)

    @rule(client=st.integers(0, CLIENTS - 1))
    def land(self, client):
        self._clients[client].land()

    @invariant()
    def the_registry_only_grows(self):
        self._now += 1
        found = self._entries()
        assert found[: len(self._log)] == self._log
        self._log = found

    def teardown(self):
        for gated in self._clients:
            while gated.is_busy:
                gated.step(None)
            gated.land()
        for client in list(self._running):
            self._note_end(client)
        self.the_registry_only_grows()
        check_serial(self._log, self._operations)

    def _begin(self, client: int, new: list[Entry]) -> None:
        gated = self._clients[client]
        if gated.is_busy:
            self._step(client, None)
            return
        path = gated.root / self._key
        self._running[client] = Operation(new, self._now)
        self._operations.append(self._running[client])
        models = list(map(metadata, new))
        gated.start(partial(register_models, models, path) if new else partial(list_models, path))
        self._note_end(client)

    def _step(self, client: int, fault: Fault | None) -> None:
        self._clients[client].step(fault)
        self._note_end(client)

    def _note_end(self, client: int) -> None:
        gated = self._clients[client]
        if gated.is_busy:
            return
        self._now += 1
        operation = self._running.pop(client)
        try:
            result = gated.result()
        except OSError:
            return
        except ModelVersionConflict:
            operation.is_conflict = True
        else:
            operation.seen = None if operation.new else entries(result)
        operation.ended = self._now

    def _entries(self) -> list[Entry]:
        if self._key not in self._bucket.list_keys(self._key):
            return []
        return entries(json.loads(self._bucket.get(self._key))["models"])


def check_serial(log: list[Entry], operations: list[Operation]) -> None:
    """Check that the registry is what some serial order of the operations leaves and returns.

    The order is that of the log. An operation that is not acknowledged has an effect or none.
    """
    assert len({version for version, _ in log}) == len(log), "a version is registered twice"
    place = {entry: number for number, entry in enumerate(log)}
    for each in operations:
        if each.ended is None or each.seen is not None:
            continue
        if each.is_conflict:
            others = {(version, 3 - content) for version, content in each.new}.intersection(log)
            assert others, "a conflict without another entry"
        else:
            assert set(each.new) <= set(log), "an acknowledged entry is lost"
    writers = [each for each in operations if each.new and not each.is_conflict]
    by_entry = {entry: [each for each in writers if entry in each.new] for entry in log}
    for entry, known in by_entry.items():
        assert known, f"{entry} was registered by no operation"
    # An entry was added after the first of its registrations began, and before one ended.
    never = float("inf")
    latest_begin = 0
    added_before = []
    for entry in log:
        latest_begin = max(latest_begin, min(each.began for each in by_entry[entry]))
        end = min(each.ended or never for each in by_entry[entry])
        assert latest_begin <= end, f"{entry} was added before an entry of an earlier operation"
        added_before.append(end)
    reads = [each for each in operations if each.seen is not None]
    for read in reads:
        assert read.seen == log[: len(read.seen)], "a read saw another order"
        missing = added_before[len(read.seen) :]
        assert all(end >= read.began for end in missing), "a read missed an acknowledged entry"
        earlier = [other for other in reads if other.ended < read.began]
        assert all(len(other.seen) <= len(read.seen) for other in earlier), "a read went backwards"
    for each in writers:  # the entries of a batch that no other operation has are added together
        own = [place.get(entry) for entry in each.new if entry[0].startswith("own-")]
        if own:
            assert own in ([None, None], [own[0], (own[0] or 0) + 1]), "a batch was divided"
            assert all(len(read.seen) != own[1] for read in reads), "a read saw half of a batch"


def test_parallel_clients_leave_what_some_serial_order_of_their_operations_leaves(clients):
    run_state_machine_as_test(
        lambda: ParallelClients(*clients),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],  # slow to shrink
        ),
    )
