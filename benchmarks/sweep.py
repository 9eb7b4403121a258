"""How many configs a second a sweep takes, beside Prefect's own floor and what users pick instead.

    python -m benchmarks.sweep [--configs 1000] [--few 100] [--rounds 3]

The flow `training_sweep` takes new configs and a dataset of 10,000 lines, then the same again. A
sweep is a process of its own; its rate counts from the call of the flow until that returns, or to
the end: until the server's API shows the last finished task run that it will show. The floor calls
five tasks that do nothing for each config, one after the other in one flow.
"""

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, Row, environment, python, report, run, workshop
from benchmarks.project import Project
from benchmarks.server import Server, running_server

STEPS = 5
START = 10  # configs of the run that is taken off, to get at the rate without the start
KEDRO = ROOT / "benchmarks/peers/kedro"
KEDRO_PYTHON = ROOT / ".venv/peers/kedro/bin/python"
ABOUT = "New configs, a dataset of 10,000 lines. Floor: five no-op tasks a config; more is better."


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """What became of one sweep.

    Attributes:
        count: Its configs.
        returned: Seconds until the flow returned.
        shown: Seconds until the API showed the last of its task runs finished.
        task_runs: How many of them the API shows.
        peak: The most memory that the process held, in MiB.
    """

    count: int
    returned: float
    shown: float
    task_runs: int
    peak: float


def sweep(folder: str) -> tuple[float, float]:
    """Sweep over all configs of a project; tell when the flow was called and when it returned."""
    from flows.training_sweep import training_sweep

    started = time.time()
    training_sweep([f"{folder}/configs/*.yaml"], artifacts_dir=f"{folder}/artifacts")
    return started, time.time()


def floor(first: int, count: int) -> tuple[float, float]:
    """Call Prefect's floor; tell when it was called and when it returned."""
    from benchmarks.peers.prefect_floor import many

    started = time.time()
    many(first, count)
    return started, time.time()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=1000)
    parser.add_argument("--few", type=int, default=100, help="for what need not be so many")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count, few = options.configs, options.few
    with workshop() as folder, running_server(folder / "server") as server:
        first = _swept(server, few, "sweep", str(_project(folder / "first", few).folder))
        bare, new, again, plain, kedro = [], [], [], [], []
        peer = _Kedro(folder / "kedro")
        for number in range(options.rounds):
            project = str(_project(folder / f"{number}", count).folder)
            bare.append(_swept(server, count, "floor", number * count, count))
            new.append(_swept(server, count, "sweep", project))
            again.append(_swept(server, count, "sweep", project))
            plain.append(_plain(folder / f"plain-{number}", count))
            kedro += peer.rate(few)
        rate, ended = _returned(bare), _shown(bare)
        lost = sum(STEPS * count - each.task_runs for each in new)
        rows = [
            Row(name=f"five no-op tasks, {count:,} times", values=rate, unit="/s", floor=rate),
            Row(
                name=f"`training_sweep`, {count:,} configs",
                values=_returned(new),
                unit="/s",
                floor=rate,
            ),
            Row(name="the same again, all cached", values=_returned(again), unit="/s", floor=rate),
            Row(
                name=f"five no-op tasks, {count:,} times, to the end",
                values=ended,
                unit="/s",
                floor=ended,
            ),
            Row(
                name=f"`training_sweep`, {count:,} configs, to the end",
                values=_shown(new),
                unit="/s",
                floor=ended,
                note=f"{lost:,} of {STEPS * count * len(new):,} task runs are never shown as ended",
            ),
            Row(name=f"peak memory at {few:,} configs", values=[first.peak], unit="MiB"),
            Row(
                name=f"peak memory at {count:,} configs",
                values=[each.peak for each in new],
                unit="MiB",
                floor=[first.peak] * len(new),
            ),
            Row(name=f"plain script, {count:,} configs", values=plain, unit="/s", floor=rate),
            Row(
                name=f"Kedro, {few:,} configs, its start not counted",
                values=kedro,
                unit="/s",
                floor=rate,
                note="" if kedro else "not installed: `make bench` does it",
            ),
        ]
        report("Sweep", ABOUT, rows, folder=folder)


def _project(folder: Path, count: int) -> Project:
    project = Project(folder)
    project.configs(count)
    return project


def _swept(server: Server, count: int, function: str, *arguments: object) -> Swept:
    before = server.task_runs()
    sample = run(python(f"benchmarks.sweep:{function}", *arguments), cwd=ROOT, env=server.env)
    started, returned = json.loads(sample.said.splitlines()[-1])
    shown, since = server.settled(before + STEPS * count)
    return Swept(
        count=count,
        returned=returned - started,
        shown=since - started,
        task_runs=shown - before,
        peak=sample.peak,
    )


def _returned(sweeps: list[Swept]) -> list[float]:
    return [swept.count / swept.returned for swept in sweeps]


def _shown(sweeps: list[Swept]) -> list[float]:
    return [swept.task_runs / STEPS / swept.shown for swept in sweeps]


def _plain(folder: Path, count: int) -> float:
    project, env = Project(folder), environment(folder)
    code = "from benchmarks.peers.plain import main; main()"
    sample = run([sys.executable, "-c", code, *project.configs(count)], cwd=folder, env=env)
    return count / sample.wall


class _Kedro:
    """Kedro in a folder of its own, if it is installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if KEDRO_PYTHON.exists():
            shutil.copytree(KEDRO, folder)
            self._project = Project(folder)
            self._seconds(1)  # which compiles

    def rate(self, count: int) -> list[float]:
        """Give its configs a second, without the seconds that it takes to start."""
        if not KEDRO_PYTHON.exists():
            return []
        start = self._seconds(START)
        return [count / (self._seconds(START + count) - start)]

    def _seconds(self, count: int) -> float:
        env = environment(self._folder, KEDRO_DISABLE_TELEMETRY="1", HOME=str(self._folder))
        code = "from benchmarks.peers.kedro_many import main; main()"
        command = [str(KEDRO_PYTHON), "-c", code, *self._project.configs(count)]
        return run(command, cwd=self._folder, env=env).wall


if __name__ == "__main__":
    main()
