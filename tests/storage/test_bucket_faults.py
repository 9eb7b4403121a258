"""The bucket back end, with a fault at each request of each operation, in turn.

Each operation succeeds, as its requests are repeated, and returns what it returns without a fault.
The bucket has the same objects afterwards, also when late requests have had their effects.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from src.digest import Digest
from src.storage import StorePath, Update, open_path
from src.training.pipeline import run_training_pipeline
from tests.examples import DATA, without_runs
from tests.object_store.faults import READ_FAULTS, WRITE_FAULTS, Fault, Request, at_request
from tests.object_store.faulty_proxy import FaultyProxy, running_proxy
from tests.object_store.fixtures import use_server
from tests.object_store.s3_server import Bucket
from tests.torture.harness import LONG

LIMIT = 1 << 20
PART_BYTES = 1 << 12
LARGE = bytes(range(256)) * 48  # three parts
TIMEOUTS = {"connect_timeout": "5s", "read_timeout": "300ms", "timeout": "300ms"}
USUAL_FAULTS = (
    Fault.LATE_REQUEST,
    Fault.LAST_REQUEST,
    Fault.LOST_ANSWER,
    Fault.HALF_ANSWER,
    Fault.UNAVAILABLE_BEFORE,
    Fault.CONDITION_AFTER,
)
MANY_REQUESTS = ("put_files", "new_folder", "digests", "local_files")
FAULTS_OF_MANY_REQUESTS = (Fault.LATE_REQUEST, Fault.HALF_ANSWER)


class Operation(NamedTuple):
    """An operation on a bucket, and what is true after it.

    Attributes:
        work: Receives the path to work on, and a local folder with the files of `FILES`.
        result: What it returns.
        before: The objects before, by their key below the path.
        after: The objects afterwards.
    """

    work: Callable[[StorePath, Path], object]
    result: object
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]


FILES = {"a/weights": LARGE, "tokenizer": b"text"}
DIGESTS = {name: Digest(len(data), sha256(data).hexdigest()) for name, data in FILES.items()}


def add_line(data: bytes | None) -> Update[int]:
    lines = [*(data or b"").splitlines(), b"new"]
    if data and b"new" in data:
        return Update(len(lines) - 1)
    return Update(len(lines), [b"\n".join(lines)])


def add_folder(path: StorePath, _: Path) -> None:
    with (path / "dataset").new_folder() as folder:
        folder.write("data.jsonl", [LARGE, b"end"])
        folder.write("metadata.json", [b"{}"])


def provide(path: StorePath, _: Path) -> dict[str, bytes]:
    """Return the files of `FILES` as local copies, with an empty cache."""
    with TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", cache)
        with path.local_files(DIGESTS) as folder:
            return {name: (folder / name).read_bytes() for name in FILES}


ONE = {"file": b"old"}
WEIGHTS = {f"weights/{name}": data for name, data in FILES.items()}
OPERATIONS = {
    "create": Operation(
        lambda path, _: (path / "file").create(b"new"), b"new", {}, {"file": b"new"}
    ),
    "create, of a file that exists": Operation(
        lambda path, _: (path / "file").create(b"new"), b"old", ONE, ONE
    ),
    "replace": Operation(
        lambda path, _: (path / "file").replace(b"new"), None, ONE, {"file": b"new"}
    ),
    "update": Operation(
        lambda path, _: (path / "file").update(add_line), 2, ONE, {"file": b"old\nnew"}
    ),
    "update, of no file": Operation(
        lambda path, _: (path / "file").update(add_line), 1, {}, {"file": b"new"}
    ),
    "put_files": Operation(
        lambda path, folder: (path / "weights").put_files(folder, DIGESTS),
        None,
        {},
        WEIGHTS,
    ),
    "new_folder": Operation(
        add_folder, None, {}, {"dataset/data.jsonl": LARGE + b"end", "dataset/metadata.json": b"{}"}
    ),
    "read": Operation(lambda path, _: (path / "file").read(LIMIT), b"old", ONE, ONE),
    "open": Operation(
        lambda path, _: (path / "weights/a/weights").read_linked(LIMIT), LARGE, WEIGHTS, WEIGHTS
    ),
    "digests": Operation(lambda path, _: (path / "weights").digests(), DIGESTS, WEIGHTS, WEIGHTS),
    "local_files": Operation(
        lambda path, folder: provide(path / "weights", folder), FILES, WEIGHTS, WEIGHTS
    ),
    "stat": Operation(lambda path, _: (path / "file").stat().size, 3, ONE, ONE),
    "files": Operation(
        lambda path, _: [each.size for each in path.files()], [len(LARGE), 4], WEIGHTS, WEIGHTS
    ),
    "folders": Operation(lambda path, _: path.folders(), ["weights"], WEIGHTS, WEIGHTS),
}


@pytest.fixture(scope="module")
def faulty(s3_server) -> Iterator[tuple[StorePath, Bucket, FaultyProxy]]:
    """A bucket as a store that was probed, by plain requests, and the proxy before it.

    The parts of large objects are small, and the time limits of requests short.
    """
    with running_proxy(s3_server.url) as proxy, pytest.MonkeyPatch.context() as patch:
        use_server(patch, proxy.url)
        patch.setattr("src.storage.bucket.PART_BYTES", PART_BYTES)
        patch.setattr("src.storage.objects.client.PART_BYTES", PART_BYTES)
        patch.setattr("src.storage.objects.opening.TIMEOUTS", TIMEOUTS)
        bucket = s3_server.new_bucket()
        root = open_path(bucket.url)
        (root / "probed").create(b"")
        yield root, bucket, proxy


@pytest.fixture
def place() -> str:
    """The key of the folder of one test."""
    return uuid4().hex


@pytest.fixture
def folder(tmp_path) -> Path:
    """A local folder with `FILES`."""
    for name, data in FILES.items():
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).write_bytes(data)
    return tmp_path / "files"


def with_faults(
    proxy: FaultyProxy, number: int, fault: Fault, times: int, work: Callable[[], object]
) -> tuple[Any, bool]:
    """Return the result of work with faults from a request on, and whether there was that request.

    Late requests have had their effects.
    """
    proxy.clear()
    proxy.schedule = at_request(number, fault, times=times)
    result = work()
    has_fault = len(proxy.log) >= number
    proxy.settle()
    return result, has_fault


def cases() -> Iterator[Any]:
    for name, operation in OPERATIONS.items():
        reads, is_long = operation.before == operation.after, name in MANY_REQUESTS
        usual = FAULTS_OF_MANY_REQUESTS if is_long else USUAL_FAULTS
        for fault, times in product(READ_FAULTS if reads else WRITE_FAULTS, (1, 3)):
            if LONG or (fault in usual and times == 1):
                yield pytest.param(name, fault, times, id=f"{name}, {fault.value}, {times}")


@pytest.mark.parametrize(("name", "fault", "times"), list(cases()))
def test_with_a_fault_at_any_request_an_operation_leaves_what_it_leaves_without(
    name, fault, times, faulty, place, folder
):
    root, bucket, proxy = faulty
    operation = OPERATIONS[name]
    number, has_fault = 0, True
    while has_fault:
        number += 1
        key = f"{place}-{number}"
        for below, data in operation.before.items():
            bucket.put(f"{key}/{below}", data)
        work = partial(operation.work, root / key, folder)
        result, has_fault = with_faults(proxy, number, fault, times, work)
        assert result == operation.result, number
        assert bucket.objects(f"{key}/") == operation.after, number


def test_the_first_file_of_a_new_folder_is_visible_last(faulty, place, folder):
    root, bucket, proxy = faulty
    seen = []

    def look(request: Request) -> None:
        seen.append([*bucket.objects(f"{place}/dataset/")])

    proxy.clear()
    proxy.schedule = look
    OPERATIONS["new_folder"].work(root / place, folder)
    assert [] in seen
    assert ["metadata.json"] in seen
    assert ["data.jsonl"] not in seen


@pytest.mark.parametrize("name", ["create", "replace", "update"])
def test_a_file_that_is_deleted_before_it_is_written_is_written_as_a_new_one(
    name, faulty, place, folder
):
    root, bucket, proxy = faulty
    bucket.put(f"{place}/file", b"old")

    def delete(request: Request) -> None:
        if request.number == 2:
            bucket.delete(f"{place}/file")

    proxy.clear()
    proxy.schedule = delete
    OPERATIONS[name].work(root / place, folder)
    assert bucket.objects(f"{place}/") == {"file": b"new"}


# --- A whole run ---------------------------------------------------------------------------------

# The faults of the first request, the second, ... in turn.
RUN_FAULTS = (
    [(fault,) for fault in WRITE_FAULTS] if LONG else [(Fault.LATE_REQUEST, Fault.LOST_ANSWER)]
)


@pytest.fixture
def run(faulty, project) -> Callable[[str], dict[str, Any]]:
    """Run the pipeline on an artifacts root that is a folder of the bucket."""
    root, _, _ = faulty

    def run(key: str) -> dict[str, Any]:
        return run_training_pipeline(
            "configs/training/mistral_finetune.yaml", "model_v1", artifacts_dir=root / key
        )

    return run


@pytest.mark.parametrize(
    "faults", RUN_FAULTS, ids=lambda faults: ", ".join(fault.value for fault in faults)
)
def test_with_a_fault_at_any_request_a_run_leaves_what_it_leaves_without(
    faults, faulty, place, run
):
    _, bucket, proxy = faulty
    bucket.put(f"{place}-0/datasets/dataset_v1/data.jsonl", DATA)
    evaluation = run(f"{place}-0")
    expected = without_runs(bucket.objects(f"{place}-0/"))
    assert len(expected) == 6  # the data, the registry, and two files each of model and evaluation

    number, has_fault = 0, True
    while has_fault:
        number += 1
        key = f"{place}-{number}"
        bucket.put(f"{key}/datasets/dataset_v1/data.jsonl", DATA)
        fault = faults[number % len(faults)]
        result, has_fault = with_faults(proxy, number, fault, 1, partial(run, key))
        assert result == evaluation, number
        assert without_runs(bucket.objects(f"{key}/")) == expected, number
    assert number > 10
