"""A process that forks others on request: to be killed in the middle of work, or to race.

It has imported everything before the first fork, so a child costs milliseconds. It reads requests
from stdin and answers on stdout, one JSON value a line; see `harness.Worker` for the other end.
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

from src import storage
from src.evaluation.evaluator import evaluate_model
from src.training import pipeline
from src.training.registry import get_model, list_models, register_model
from src.versions import ModelVersionConflict

CHILD_SECONDS = 240


class Log:
    """Lines that are in the file, whatever happens to the process next."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._sync = os.fsync  # the real one: what is patched in later must not count it

    def add(self, *event: object) -> None:
        os.write(self._descriptor, (json.dumps(event) + "\n").encode())
        self._sync(self._descriptor)


class Fuse:
    """Kills this process at the n-th of its steps, and at none where n is 0."""

    def __init__(self, step: int, log: Log) -> None:
        self._left = step
        self._log = log

    def burn(self, name: str, last_deed: Callable[[], None] = lambda: None) -> None:
        self._left -= 1
        if self._left == 0:
            self._log.add("died", name)
            last_deed()
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        """Make steps of every call that changes files, before it, after it, and half-way."""
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
        fill = storage._Draft.fill

        def torn(draft: storage._Draft, pieces: Iterable[bytes], seal: bytes | None = None) -> None:
            data = b"".join(pieces)
            for end in (0, 1, len(data) // 2, len(data)):
                self.burn(f"after {end} of {len(data)} bytes", partial(_write, draft, data[:end]))
            fill(draft, [data], seal)

        storage._Draft.fill = torn

    def _around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.burn(f"before {name}")
            result = function(*args, **kwargs)
            self.burn(f"after {name}")
            return result

        return call


def _write(draft: storage._Draft, data: bytes) -> None:
    with open(draft.descriptor, "wb", closefd=False) as file:
        file.truncate()
        file.write(data)


def run(task: dict[str, Any], barrier: Any, stop: int) -> None:
    """Train, register and evaluate a pool of configs and versions, in an order of its own."""
    log = Log(task["log"])
    pool = [tuple(each) for each in task["pool"]]
    random.Random(task["seed"]).shuffle(pool)

    def acknowledged(metadata: dict[str, Any], path: Path) -> bool:
        added = register_model(metadata, path)
        log.add("acknowledged", metadata["model_version"], added)
        return added

    pipeline.register_model = acknowledged
    Fuse(task["step"], log).arm()
    log.add("began")
    for config, version in pool:
        pipeline.run_training_pipeline(config, version, artifacts_dir=task["root"])
    log.add("done")


def register(task: dict[str, Any], barrier: Any, stop: int) -> list[tuple[str, int, int]]:
    """Register versions, and say when each was begun and when it was acknowledged."""
    stamps = []
    barrier.wait()
    for metadata in task["models"]:
        began = time.monotonic_ns()
        added = register_model(metadata, task["registry"])
        ended = time.monotonic_ns()
        assert added
        stamps.append((metadata["model_version"], began, ended))
    return stamps


def read(task: dict[str, Any], barrier: Any, stop: int) -> list[int]:
    """Read the registry until all writers are done; give the lengths of the lists it saw."""
    draw = random.Random(task["seed"])
    lengths = [0]
    before: list[dict[str, Any]] = []
    barrier.wait()
    ended = False
    while not ended:
        ended = bool(select.select([stop], [], [], 0)[0])
        models = list_models(task["registry"])
        assert models[: len(before)] == before, "the list did not grow by appending alone"
        if models:
            model = draw.choice(models)
            assert get_model(model["model_version"], task["registry"]) == model
        if len(models) > len(before):
            lengths.append(len(models))
        before = models
    return lengths


def rounds(task: dict[str, Any], barrier: Any, stop: int) -> list[str]:
    """Do one thing a round, at the same time as another process; give what came of each."""
    results = []
    for step in task["rounds"]:
        barrier.wait()
        try:
            if "metadata" in step:
                result = str(register_model(step["metadata"], step["registry"]))
            elif "evaluate" in step:
                folder = evaluate_model(step["evaluate"], step["models"], step["evaluations"])
                # Read at once, while others still write.
                result = (folder / "evaluation.json").read_text()
            else:
                pipeline.run_training_pipeline(
                    step["config"], step["version"], artifacts_dir=step["root"]
                )
                result = "succeeded"
        except ModelVersionConflict:
            result = "conflict"
        results.append(result)
    return results


TASKS = {task.__name__: task for task in (run, register, read, rounds)}


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
