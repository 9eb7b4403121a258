"""Throughput of `run_training_pipeline` with several processes on one artifacts root.

    python -m benchmarks.many [--runs 96] [--processes 1 2 4 8] [--rounds 3]

Each process has an equal share of the runs, each with a new config. All start at the same time,
after their imports. Compared with as many processes that run the plain script, which has no
`fsync`.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.context import ForkContext
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, report, run_in_turns, working_folder
from benchmarks.peers import plain
from benchmarks.project import Project
from src.storage import folder as folder_store
from src.storage.entry import Entry
from src.training.pipeline import run_training_pipeline

FORK: ForkContext = multiprocessing.get_context("fork")
ABOUT = "New configs, one artifacts root, a dataset of 10,000 lines. Floor: the plain script."


@dataclass(frozen=True, kw_only=True, slots=True)
class Burst:
    """Result of processes that worked at the same time.

    Attributes:
        rate: Runs per second of all processes.
        locks: Share of their time spent waiting for locks.
        longest_lock: The longest wait for a lock, in seconds.
        syncs: Share of their time spent in `fsync`.
    """

    rate: float
    locks: float
    longest_lock: float
    syncs: float


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=96)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    contenders = {"plain script": plain.train, "`run_training_pipeline`": _train}
    with working_folder() as folder:
        numbers = count()

        def burst(train: Callable[[str], object], processes: int) -> Burst:
            return _burst(Project(folder / f"{next(numbers)}"), train, processes, options.runs)

        bursts = run_in_turns(
            {
                (name, processes): partial(burst, train, processes)
                for processes in options.processes
                for name, train in contenders.items()
            },
            options.rounds,
        )
        report("Concurrent runs", ABOUT, list(_rows(bursts)), folder=folder)


def _rows(results: dict[tuple[str, int], list[Burst]]) -> Iterator[Row]:
    floor, fewest = next(iter(results))
    for (name, processes), bursts in results.items():
        growth = _median(bursts, "rate") / _median(results[name, fewest], "rate")
        note = f"{growth:.2f} x the rate of {fewest}"
        if name != floor:
            note += f"; {_median(bursts, 'syncs'):.0%} in `fsync`"
            note += f", {_median(bursts, 'locks'):.0%} waiting for locks"
            note += f", at most {max(burst.longest_lock for burst in bursts) * 1000:.0f} ms"
        yield Row(
            name=f"{name}, {processes} process{'es' * (processes > 1)}",
            values=[burst.rate for burst in bursts],
            unit="/s",
            floor=[burst.rate for burst in results[floor, processes]],
            note=note,
        )


def _median(bursts: list[Burst], attribute: str) -> float:
    return statistics.median([float(getattr(burst, attribute)) for burst in bursts])


def _train(path: str) -> None:
    run_training_pipeline(path, Path(path).stem)


def _burst(project: Project, train: Callable[[str], object], processes: int, runs: int) -> Burst:
    barrier, results = FORK.Barrier(processes), FORK.SimpleQueue()
    workers = [
        FORK.Process(
            target=_work,
            args=(project.folder, train, project.configs(runs // processes), barrier, results),
        )
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    started, ended, locks, longest, syncs = zip(*(results.get() for _ in workers), strict=True)
    for worker in workers:
        worker.join()
    spent = sum(ended) - sum(started)
    return Burst(
        rate=runs // processes * processes / (max(ended) - min(started)),
        locks=sum(locks) / spent,
        longest_lock=max(longest),
        syncs=sum(syncs) / spent,
    )


def _work(
    folder: Path, train: Callable[[str], object], configs: list[str], barrier: Any, results: Any
) -> None:
    os.chdir(folder)
    locks: list[float] = []
    syncs: list[float] = []
    os.fsync = _timed(os.fsync, syncs)
    folder_store._locked = _timed_entry(folder_store._locked, locks)
    barrier.wait()
    started = time.perf_counter()
    for config in configs:
        train(config)
    results.put((started, time.perf_counter(), sum(locks), max(locks, default=0.0), sum(syncs)))


def _timed(function: Callable[[int], None], seconds: list[float]) -> Any:
    def call(descriptor: int) -> None:
        started = time.perf_counter()
        function(descriptor)
        seconds.append(time.perf_counter() - started)

    return call


def _timed_entry(
    locked: Callable[[Entry], AbstractContextManager[None]], seconds: list[float]
) -> Any:
    @contextmanager
    def lock(entry: Entry) -> Iterator[None]:
        started = time.perf_counter()
        with locked(entry):
            seconds.append(time.perf_counter() - started)
            yield

    return lock


if __name__ == "__main__":
    main()
