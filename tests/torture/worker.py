"""A process that forks others on request, to be killed in the middle of work or to race.

It has imported everything before the first fork, so a child costs milliseconds. It reads requests
from stdin and answers on stdout, one JSON value per line; see `harness.Worker` for the client.
"""

import fcntl
import json
import multiprocessing
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from src.evaluation.evaluator import evaluate_model
from src.records.metadata import ModelVersionConflict
from src.storage import StorePath, folder, open_file
from src.training import pipeline
from src.training.registry import get_model, list_models, register_model

CHILD_SECONDS = 240


class Log:
    """Lines in a file that survive the death of the process."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        # The original functions: calls of the log are not steps of the work.
        self._write, self._sync = os.write, os.fsync

    def add(self, *event: object) -> None:
        self._write(self._descriptor, (json.dumps(event) + "\n").encode())
        self._sync(self._descriptor)


class Fuse:
    """Kills this process at the n-th of its steps; never if n is 0."""

    def __init__(self, step: int, log: Log) -> None:
        self._left = step
        self._log = log

    def burn(self, name: str, last_action: Callable[[], object] = lambda: None) -> None:
        self._left -= 1
        if self._left == 0:
            self._log.add("died", name)
            last_action()
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        """Add steps before, after and in the middle of every call that changes files."""
        for module, name in (
            (os, "fsync"),
            (os, "link"),
            (os, "mkdir"),
            (os, "open"),
            (os, "replace"),
            (os, "unlink"),
            (fcntl, "flock"),
        ):
            setattr(module, name, self._around(getattr(module, name), name))
        write, write_memo = folder._LockedFile.write, os.write  # only memos use os.write

        def torn(file: folder._LockedFile, data: Iterable[bytes | memoryview]) -> None:
            whole = b"".join(data)
            for end in (0, 1, len(whole) // 2, len(whole)):
                self.burn(f"after {end} of {len(whole)} bytes", partial(_write, file, whole[:end]))
            write(file, [whole])

        def torn_memo(descriptor: int, data: bytes) -> int:
            for end in (0, len(data) // 2, len(data)):
                self.burn(
                    f"after {end} of {len(data)} bytes of a memo",
                    partial(write_memo, descriptor, data[:end]),
                )
            return write_memo(descriptor, data)

        folder._LockedFile.write = torn
        os.write = torn_memo

    def _around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.burn(f"before {name}")
            result = function(*args, **kwargs)
            self.burn(f"after {name}")
            return result

        return call


def _write(locked: folder._LockedFile, data: bytes) -> None:
    with open(locked.descriptor, "wb", closefd=False) as file:
        file.truncate()
        file.write(data)


def run(task: dict[str, Any], barrier: Any, stop: int) -> None:
    """Train, register and evaluate a pool of configs and versions, in random order."""
    log = Log(task["log"])
    pool = [tuple(each) for each in task["pool"]]
    random.Random(task["seed"]).shuffle(pool)

    def acknowledged(metadata: dict[str, Any], path: StorePath) -> bool:
        is_added = register_model(metadata, path)
        log.add("acknowledged", metadata["model_version"], is_added)
        return is_added

    pipeline.register_model = acknowledged
    Fuse(task["step"], log).arm()
    log.add("began")
    for config, version in pool:
        pipeline.run_training_pipeline(config, version, artifacts_dir=task["root"])
    log.add("done")


def register(task: dict[str, Any], barrier: Any, stop: int) -> list[tuple[str, int, int]]:
    """Register versions; return each with the times of its start and its acknowledgement."""
    stamps = []
    barrier.wait()
    for metadata in task["models"]:
        began = time.monotonic_ns()
        is_added = register_model(metadata, task["registry"])
        ended = time.monotonic_ns()
        assert is_added
        stamps.append((metadata["model_version"], began, ended))
    return stamps


def register_all(task: dict[str, Any], barrier: Any, stop: int) -> None:
    """Register versions; with faults, an entry may be there before its registration returns."""
    registry = open_file(task["registry"])
    barrier.wait()
    for metadata in task["models"]:
        register_model(metadata, registry)


def add_folder(task: dict[str, Any], barrier: Any, stop: int) -> str:
    """Add a folder to a bucket, its first file in parts; return `added` or `exists`."""
    from src.storage import bucket
    from src.storage.objects import client

    bucket.PART_BYTES = client.PART_BYTES = 1 << 12
    try:
        with open_file(task["folder"]).new_folder() as folder:
            folder.write("data.jsonl", [bytes(range(256)) * 40])
            folder.write("metadata.json", [b"{}"])
    except FileExistsError:
        return "exists"
    return "added"


def read(task: dict[str, Any], barrier: Any, stop: int) -> list[int]:
    """Read the registry until all writers are done; return the lengths of the lists."""
    draw = random.Random(task["seed"])
    lengths = [0]
    before: list[dict[str, Any]] = []
    barrier.wait()
    ended = False
    while not ended:
        ended = bool(select.select([stop], [], [], 0)[0])
        models = list_models(task["registry"])
        assert models[: len(before)] == before, "the list changed other than by appending"
        if models:
            model = draw.choice(models)
            assert get_model(model["model_version"], task["registry"]) == model
        if len(models) > len(before):
            lengths.append(len(models))
        before = models
    return lengths


def rounds(task: dict[str, Any], barrier: Any, stop: int) -> list[str]:
    """Take one step per round, concurrently with other processes; return the results."""
    results = []
    for step in task["rounds"]:
        barrier.wait()
        try:
            if "metadata" in step:
                result = str(register_model(step["metadata"], step["registry"]))
            elif "evaluate" in step:
                evaluation = evaluate_model(step["evaluate"], step["models"], step["evaluations"])
                # Read immediately, while others still write.
                result = (evaluation / "evaluation.json").read_text()
            else:
                pipeline.run_training_pipeline(
                    step["config"], step["version"], artifacts_dir=step["root"]
                )
                result = "succeeded"
        except ModelVersionConflict:
            result = "conflict"
        results.append(result)
    return results


TASKS = {task.__name__: task for task in (run, register, register_all, add_folder, read, rounds)}


def _child(task: dict[str, Any], barrier: Any, stop: int) -> int:
    signal.alarm(CHILD_SECONDS)
    try:
        result = TASKS[task["task"]](task, barrier, stop)
        Path(task["result"]).write_text(json.dumps(result))
    except BaseException:
        barrier.abort()
        Path(task["result"]).write_text(json.dumps(traceback.format_exc()))
        return 1
    return 0


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def serve() -> None:
    context = multiprocessing.get_context("fork")
    for request in iter(sys.stdin.readline, ""):
        tasks = json.loads(request)
        barrier = context.Barrier(len(tasks), timeout=CHILD_SECONDS)
        stop, stopper = os.pipe()
        children = []
        for task in tasks:
            process = os.fork()
            if process == 0:
                os.close(stopper)
                os._exit(_child(task, barrier, stop))
            children.append(process)
        _answer("started")
        if sys.stdin.readline().strip() == "kill":
            for process in children:
                os.kill(process, signal.SIGKILL)
        codes: dict[int, int] = {}
        # Readers read for as long as there are writers.
        for reads in (False, True):
            for task, process in zip(tasks, children, strict=True):
                if (task["task"] == "read") is reads:
                    codes[process] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if not reads:
                os.close(stopper)
        os.close(stop)
        _answer([codes[process] for process in children])


if __name__ == "__main__":
    serve()
