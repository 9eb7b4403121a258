"""An artifacts root in a bucket, compared with a folder and with the requests alone.

    python -m benchmarks.bucket [--sizes 10 1000] [--megabytes 512] [--configs 200] [--rounds 5]

The bucket is on a server of S3 on this machine (moto), which answers one request after the other.
So the figures of the bucket and of the requests alone are mostly those of the server. The number of
requests depends on neither. Floor: the requests that cannot be left out, by obstore.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import obstore
from obstore.store import S3Store

from benchmarks.measure import (
    Row,
    Sample,
    call_command,
    call_result,
    figures,
    report,
    run_in_turns,
    timed,
    working_folder,
)
from benchmarks.project import Project, metadata
from benchmarks.server import running_server
from src.records.canonical import canonical_json
from src.storage import StorePath, open_path
from src.training.hashing import count_and_hash
from src.training.pipeline import run_training_pipeline
from src.training.registry import register_model
from tests.object_store.s3_server import running_s3_server

ABOUT = (
    "A server of S3 on this machine, which handles one request at a time. Floor: the requests that "
    "cannot be left out, by obstore, in the same process."
)
REQUESTS = ("get", "head", "put", "list", "list_with_delimiter", "delete")
BARE, BUCKET, FOLDER = "the requests alone", "bucket", "folder"
PIECE_BYTES = 1 << 23

Actions = dict[str, Callable[[], Sample]]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1_000])
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--configs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with working_folder() as folder, running_s3_server() as server:
        os.environ |= {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_REGION": "us-east-1",
        }
        url = server.new_bucket().url
        topics = {"run": _runs(folder, url)}
        for size in options.sizes:
            topics[f"register at {size:,} models"] = _registrations(folder, url, size)
        topics[f"hash of {options.megabytes} MB"] = _hashes(folder, url, options.megabytes)
        rows: list[Row] = []
        for topic, actions in topics.items():
            rows += _rows(topic, actions, options.rounds)
        with running_server(folder / "server") as prefect:
            rows += _sweeps(folder, url, options.configs, prefect.env)
        report("Bucket", ABOUT, rows, folder=folder)


def _rows(topic: str, actions: Actions, rounds: int) -> Iterator[Row]:
    requests = {name: _counted(action) for name, action in actions.items()}
    samples = run_in_turns(actions, rounds)
    for name, each in samples.items():
        yield Row(
            name=f"{topic}: {name}",
            values=figures(each, "wall"),
            unit="ms",
            floor=figures(samples[BARE], "wall"),
            note=f"{requests[name]} requests" if requests[name] else "",
        )


def _counted(action: Callable[[], object]) -> int:
    """Call a function; return the number of its requests."""
    with _counting() as number:
        action()
        return number()


@contextmanager
def _counting() -> Iterator[Callable[[], int]]:
    numbers = count()
    last = 0

    def counting(request: Callable[..., Any], *arguments: object, **options: object) -> Any:
        nonlocal last
        last = next(numbers) + 1
        return request(*arguments, **options)

    with ExitStack() as stack:
        for name in REQUESTS:
            counted = partial(counting, getattr(obstore, name))
            stack.enter_context(patch.object(obstore, name, counted))
        yield lambda: last


def _store(url: str) -> S3Store:
    return S3Store(
        url.removeprefix("s3://"), prefix=uuid4().hex, client_options={"allow_http": True}
    )


# --- One run -------------------------------------------------------------------------------------


def _runs(folder: Path, url: str) -> Actions:
    """Return a run of a new config, in a process that has made one before."""
    project = Project(folder / "run")
    root = open_path(f"{url}/run")
    _copy_dataset(project, root)
    store = _store(url)
    data = (project.artifacts / "datasets/dataset_v1/data.jsonl").read_bytes()
    obstore.put(store, "data.jsonl", data)
    obstore.put(store, "registry.json", canonical_json({"models": []}))

    def bare() -> None:
        name = uuid4().hex
        digest = sha256(obstore.get(store, "data.jsonl").bytes())
        for file in ("provenance", "metadata"):
            obstore.put(store, f"{name}/{file}", digest.hexdigest().encode() * 60, mode="create")
        found = obstore.get(store, "registry.json")
        version: Any = {"e_tag": found.meta["e_tag"]}
        obstore.put(store, "registry.json", bytes(found.bytes()) + b" ", mode=version)
        for file in ("evaluation-provenance", "evaluation"):
            obstore.put(store, f"{name}/{file}", digest.hexdigest().encode() * 60, mode="create")

    return {
        BARE: partial(timed, bare),
        BUCKET: lambda: timed(
            partial(run_training_pipeline, project.config(), artifacts_dir=f"{url}/run")
        ),
        FOLDER: lambda: timed(
            partial(run_training_pipeline, project.config(), artifacts_dir=str(project.artifacts))
        ),
    }


def _copy_dataset(project: Project, root: StorePath) -> None:
    source = project.artifacts / "datasets/dataset_v1"
    with (root / "datasets/dataset_v1").new_folder() as copy:
        for name in ("data.jsonl", "metadata.json"):
            copy.write(name, [(source / name).read_bytes()])


# --- One registration ----------------------------------------------------------------------------


def _registrations(folder: Path, url: str, size: int) -> Actions:
    registry = canonical_json({"models": [metadata(number) for number in range(size)]})
    in_folder = open_path(folder / f"{size}") / "registry.json"
    in_bucket = open_path(f"{url}/{size}") / "registry.json"
    store, new = _store(url), map(metadata, count(size))
    for path in (in_folder, in_bucket):
        path.replace(registry)
    obstore.put(store, "registry.json", registry)

    def bare() -> None:
        found = obstore.get(store, "registry.json")
        version: Any = {"e_tag": found.meta["e_tag"]}
        obstore.put(store, "registry.json", bytes(found.bytes()) + b" ", mode=version)

    return {
        BARE: partial(timed, bare),
        BUCKET: lambda: timed(partial(register_model, next(new), in_bucket)),
        FOLDER: lambda: timed(partial(register_model, next(new), in_folder)),
    }


# --- Hashing of data -----------------------------------------------------------------------------


def _hashes(folder: Path, url: str, megabytes: int) -> Actions:
    line = b'{"text": "' + b"x" * (1_000_000 - 13) + b'"}\n'
    path = folder / "data/data.jsonl"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.writelines([line] * megabytes)
    store = _store(url)
    obstore.put(store, "data.jsonl", path, chunk_size=PIECE_BYTES)
    root = open_path(f"{url}/hash")
    with (root / "data").new_folder() as copy, path.open("rb") as data:
        copy.write("data.jsonl", iter(partial(data.read, PIECE_BYTES), b""))

    def bare() -> None:
        digest = sha256()
        for piece in obstore.get(store, "data.jsonl").stream(PIECE_BYTES):
            digest.update(piece)

    return {
        BARE: partial(timed, bare),
        BUCKET: partial(timed, partial(count_and_hash, root / "data/data.jsonl")),
        FOLDER: partial(timed, partial(count_and_hash, open_path(path.parent) / path.name)),
    }


# --- A sweep -------------------------------------------------------------------------------------


def _sweeps(folder: Path, url: str, configs: int, env: Mapping[str, str]) -> list[Row]:
    """Sweep once over new configs on a folder and in a bucket, each in a new process."""
    values: dict[str, float] = {}
    for name in (FOLDER, BUCKET):
        project = Project(folder / f"sweep_{name}")
        root = f"{url}/sweep" if name == BUCKET else str(project.artifacts)
        if name == BUCKET:
            _copy_dataset(project, open_path(root))
        project.configs(configs)
        command = call_command("benchmarks.bucket:sweep", str(project.folder / "configs"), root)
        values[name] = 1000 * call_result(command, cwd=project.folder, env=env)
    return [
        Row(
            name=f"sweep of {configs} configs: {name}",
            values=[milliseconds],
            unit="ms",
            floor=[values[FOLDER]],
        )
        for name, milliseconds in values.items()
    ]


def sweep(configs: str, root: str) -> float:
    """Sweep over all configs of a folder; return the time of the flow in seconds."""
    from flows.training_sweep import training_sweep

    return timed(lambda: training_sweep([f"{configs}/*.yaml"], artifacts_dir=root)).wall


if __name__ == "__main__":
    main()
