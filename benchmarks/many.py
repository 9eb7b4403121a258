"""How the throughput of `run_training_pipeline` grows with processes on one artifacts root.

    python -m benchmarks.many [--runs 96] [--processes 1 2 4 8] [--rounds 3]

The runs are shared out evenly; all processes start at once, each with configs of its own, what they
import being there. Beside them as many processes with the plain script's functions. They sync
nothing.
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

from benchmarks.measure import Row, in_turns, report, workshop
from benchmarks.peers import plain
from benchmarks.project import Project
from src import storage
from src.training.pipeline import run_training_pipeline

FORK: ForkContext = multiprocessing.get_context("fork")
ABOUT = "New configs, one artifacts root, a dataset of 10,000 lines. Floor: the plain script."


@dataclass(frozen=True, kw_only=True, slots=True)
class Burst:
    """What came of processes that worked at once.

    Attributes:
        rate: Runs a second, of all of them.
        locks: The share of their time that they waited for locks.
        syncs: The share of their time that they spent in `fsync`.
    """

    rate: float
    locks: float
    syncs: float


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=96)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    contenders = {"plain script": plain.train, "`run_training_pipeline`": _train}
    with workshop() as folder:
        numbers = count()

        def burst(train: Callable[[str], object], processes: int) -> Burst:
            return _burst(Project(folder / f"{next(numbers)}"), train, processes, options.runs)

        taken = in_turns(
            {
                (name, processes): partial(burst, train, processes)
                for processes in options.processes
                for name, train in contenders.items()
            },
            options.rounds,
        )
        report("Many at once", ABOUT, list(_rows(taken)), folder=folder)


def _rows(taken: dict[tuple[str, int], list[Burst]]) -> Iterator[Row]:
    floor, fewest = next(iter(taken))
    for (name, processes), bursts in taken.items():
        growth = _median(bursts, "rate") / _median(taken[name, fewest], "rate")
        note = f"{growth:.2f} x that of {fewest}"
        if name != floor:
            note += f"; {_median(bursts, 'syncs'):.0%} in `fsync`"
            note += f", {_median(bursts, 'locks'):.0%} waiting for locks"
        yield Row(
            name=f"{name}, {processes} at once",
            values=[burst.rate for burst in bursts],
            unit="/s",
            floor=[burst.rate for burst in taken[floor, processes]],
            note=note,
        )


def _median(bursts: list[Burst], what: str) -> float:
    return statistics.median([float(getattr(burst, what)) for burst in bursts])


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
    started, ended, locks, syncs = zip(*(results.get() for _ in workers), strict=True)
    for worker in workers:
        worker.join()
    spent = sum(ended) - sum(started)
    return Burst(
        rate=runs // processes * processes / (max(ended) - min(started)),
        locks=sum(locks) / spent,
        syncs=sum(syncs) / spent,
    )


def _work(
    folder: Path, train: Callable[[str], object], configs: list[str], barrier: Any, results: Any
) -> None:
    os.chdir(folder)
    locks: list[float] = []
    syncs: list[float] = []
    os.fsync = _clocked(os.fsync, syncs)
    storage.locked = _clocked_entry(storage.locked, locks)
    barrier.wait()
    started = time.perf_counter()
    for config in configs:
        train(config)
    results.put((started, time.perf_counter(), sum(locks), sum(syncs)))


def _clocked(function: Callable[[int], None], seconds: list[float]) -> Any:
    def call(descriptor: int) -> None:
        started = time.perf_counter()
        function(descriptor)
        seconds.append(time.perf_counter() - started)

    return call


def _clocked_entry(
    locked: Callable[[Path], AbstractContextManager[None]], seconds: list[float]
) -> Any:
    @contextmanager
    def lock(path: Path) -> Iterator[None]:
        started = time.perf_counter()
        with locked(path):
            seconds.append(time.perf_counter() - started)
            yield

    return lock


if __name__ == "__main__":
    main()
