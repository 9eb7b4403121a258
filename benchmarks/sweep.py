"""Configs per second of a sweep, compared with a plain script, with Prefect and with Kedro.

    python -m benchmarks.sweep [--configs 1000] [--few 100] [--many 10000] [--rounds 3]

The flow `training_sweep` receives new configs and a dataset of 10,000 lines, then the same again.
Each sweep runs in a new process. Its rate counts from the call of the flow until the flow returns;
or, "to the end", until the API of the server shows all of its task runs as finished. The floor is
the plain script, which keeps nothing but the files of the models, and syncs nothing.
"""

import argparse
import json
import math
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, Row, call_command, environment, report, run, working_folder
from benchmarks.project import Project
from benchmarks.server import Server, running_server

STEPS = 5
BATCH_SIZE = 100  # as in `flows.trials`
START = 10  # configs of a short run; the difference to it is free of the start
KEDRO = ROOT / "benchmarks/peers/kedro"
KEDRO_PYTHON = ROOT / ".venv/peers/kedro/bin/python"
ABOUT = "New configs, a dataset of 10,000 lines. Floor: the plain script. More is better."


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepResult:
    """Result of one sweep.

    Attributes:
        count: Number of configs.
        returned: Seconds until the flow returned.
        shown: Seconds until the API showed the last finished task run.
        task_runs: Number of finished task runs that the API shows.
        peak: Peak memory of the process in MiB.
    """

    count: int
    returned: float
    shown: float
    task_runs: int
    peak: float


def sweep(folder: str) -> tuple[float, float]:
    """Sweep over all configs of a project; return the times of the call and of the return."""
    from flows.training_sweep import training_sweep

    started = time.time()
    training_sweep([f"{folder}/configs/*.yaml"], artifacts_dir=f"{folder}/artifacts")
    return started, time.time()


def floor(first: int, count: int) -> tuple[float, float]:
    """Call Prefect's floor; return the times of the call and of the return."""
    from benchmarks.peers.prefect_floor import many

    started = time.time()
    many(first, count)
    return started, time.time()


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=1000)
    parser.add_argument("--few", type=int, default=100, help="configs of the slower contenders")
    parser.add_argument("--many", type=int, default=10_000, help="configs of the largest sweep")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count, few, many = options.configs, options.few, options.many
    with working_folder() as folder, running_server(folder / "server") as server:
        _measure(server, few, "sweep", str(_project(folder / "first", few).folder))
        before = server.memory()
        plain, new, again, bare, kedro = [], [], [], [], []
        peer = _Kedro(folder / "kedro")
        for number in range(options.rounds):
            project = str(_project(folder / f"{number}", count).folder)
            plain.append(_plain(folder / f"plain-{number}", count))
            new.append(_measure(server, count, "sweep", project))
            again.append(_measure(server, count, "sweep", project))
            bare.append(_measure(server, few, "floor", number * few, few))
            kedro += peer.rate(few)
        large = _measure(server, many, "sweep", str(_project(folder / "many", many).folder))
        lost = sum(_batches(count) - each.task_runs for each in new)
        rows = [
            Row(name=f"plain script, {count:,} configs", values=plain, unit="/s", floor=plain),
            Row(
                name=f"`training_sweep`, {count:,} configs",
                values=_returned(new),
                unit="/s",
                floor=plain,
            ),
            Row(
                name="the same, to the end",
                values=_shown(new),
                unit="/s",
                floor=plain,
                note=f"{lost} of {_batches(count) * len(new)} task runs never shown as finished",
            ),
            Row(name="the same again, all done", values=_returned(again), unit="/s", floor=plain),
            Row(
                name=f"`training_sweep`, {many:,} configs, once",
                values=_returned([large]),
                unit="/s",
                floor=plain[-1:],
                note=f"{_returned([large])[0] / statistics.median(_returned(new)):.2f} x the rate "
                f"of {count:,} configs",
            ),
            Row(
                name=f"five no-op tasks, {few:,} times",
                values=_returned(bare),
                unit="/s",
                floor=plain,
                note="Prefect alone, a task run per step and config",
            ),
            Row(
                name=f"Kedro, {few:,} configs, without its start",
                values=kedro,
                unit="/s",
                floor=plain[: len(kedro)],
                note="" if kedro else "not installed: `make bench` installs it",
            ),
            Row(name=f"peak memory, {count:,} configs", values=_peaks(new), unit="MiB"),
            Row(name=f"peak memory, {many:,} configs", values=[large.peak], unit="MiB"),
            Row(name="memory of the server, before", values=[before], unit="MiB"),
            Row(name="memory of the server, after", values=[server.memory()], unit="MiB"),
        ]
        report("Sweep", ABOUT, rows, folder=folder)


def _batches(count: int) -> int:
    """Return the number of task runs of a sweep."""
    return STEPS * math.ceil(count / BATCH_SIZE)


def _peaks(sweeps: list[SweepResult]) -> list[float]:
    return [each.peak for each in sweeps]


def _project(folder: Path, count: int) -> Project:
    project = Project(folder)
    project.configs(count)
    return project


def _measure(server: Server, count: int, function: str, *arguments: object) -> SweepResult:
    before = server.finished_task_runs()
    sample = run(call_command(f"benchmarks.sweep:{function}", *arguments), cwd=ROOT, env=server.env)
    started, returned = json.loads(sample.stdout.splitlines()[-1])
    expected = STEPS * count if function == "floor" else _batches(count)
    shown, since = server.settled(before + expected)
    return SweepResult(
        count=count,
        returned=returned - started,
        shown=since - started,
        task_runs=shown - before,
        peak=sample.peak,
    )


def _returned(sweeps: list[SweepResult]) -> list[float]:
    return [each.count / each.returned for each in sweeps]


def _shown(sweeps: list[SweepResult]) -> list[float]:
    return [each.count / each.shown for each in sweeps]


def _plain(folder: Path, count: int) -> float:
    project, env = Project(folder), environment(folder)
    code = "from benchmarks.peers.plain import main; main()"
    sample = run([sys.executable, "-c", code, *project.configs(count)], cwd=folder, env=env)
    return count / sample.wall


class _Kedro:
    """Kedro, if it is installed, with a separate project."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if KEDRO_PYTHON.exists():
            shutil.copytree(KEDRO, folder)
            self._project = Project(folder)
            self._seconds(1)  # compiles

    def rate(self, count: int) -> list[float]:
        """Return configs per second, without the time of the start; an empty list without Kedro."""
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
