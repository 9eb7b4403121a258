"""How many configs a second a sweep takes, beside Prefect's own floor and what users pick instead.

    python -m benchmarks.sweep [--configs 1000] [--few 100]

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


def floor(count: int) -> tuple[float, float]:
    """Call Prefect's floor; tell when it was called and when it returned."""
    from benchmarks.peers.prefect_floor import many

    started = time.time()
    many(count)
    return started, time.time()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=1000)
    parser.add_argument("--few", type=int, default=100, help="for what need not be so many")
    options = parser.parse_args()
    count, few = options.configs, options.few
    with workshop() as folder:
        small, large = Project(folder / "few"), Project(folder / "many")
        small.configs(few)
        large.configs(count)
        with running_server(folder / "floor-server") as server:
            shown = _swept(server, few, "floor", few)
            bare = _swept(server, count, "floor", count, wait=False)
        with running_server(folder / "server") as server:
            first = _swept(server, few, "sweep", str(small.folder))
            new = _swept(server, count, "sweep", str(large.folder))
            again = _swept(server, count, "sweep", str(large.folder), wait=False)
        rate = [bare.count / bare.returned]
        ended = [shown.task_runs / STEPS / shown.shown]
        lost = STEPS * count - new.task_runs
        rows = [
            Row(name=f"five no-op tasks, {count:,} times", values=rate, unit="/s", floor=rate),
            _rate(f"`training_sweep`, {count:,} configs", new, rate),
            _rate("the same again, all cached", again, rate),
            Row(
                name=f"five no-op tasks, {few:,} times, to the end",
                values=ended,
                unit="/s",
                floor=ended,
            ),
            Row(
                name=f"`training_sweep`, {count:,} configs, to the end",
                values=[new.task_runs / STEPS / new.shown],
                unit="/s",
                floor=ended,
                note=f"{lost:,} of {STEPS * count:,} task runs are never shown as ended",
            ),
            Row(name=f"peak memory at {few:,} configs", values=[first.peak], unit="MiB"),
            Row(
                name=f"peak memory at {count:,} configs",
                values=[new.peak],
                unit="MiB",
                floor=[first.peak],
            ),
            _plain(folder / "plain", count, rate),
            _kedro(folder / "kedro", few, rate),
        ]
        report("Sweep", ABOUT, rows, folder=folder)


def _swept(
    server: Server, count: int, function: str, argument: object, *, wait: bool = True
) -> Swept:
    before = server.task_runs()
    sample = run(python(f"benchmarks.sweep:{function}", argument), cwd=ROOT, env=server.env)
    started, returned = json.loads(sample.said.splitlines()[-1])
    shown, since = server.settled(before + STEPS * count) if wait else (0, 0.0)
    return Swept(
        count=count,
        returned=returned - started,
        shown=since - started,
        task_runs=shown - before,
        peak=sample.peak,
    )


def _rate(name: str, swept: Swept, floor: list[float]) -> Row:
    return Row(name=name, values=[swept.count / swept.returned], unit="/s", floor=floor)


def _plain(folder: Path, count: int, floor: list[float]) -> Row:
    project, env = Project(folder), environment(folder)
    code = "from benchmarks.peers.plain import main; main()"
    sample = run([sys.executable, "-c", code, *project.configs(count)], cwd=folder, env=env)
    rate = [count / sample.wall]
    return Row(name=f"plain script, {count:,} configs", values=rate, unit="/s", floor=floor)


def _kedro(folder: Path, count: int, floor: list[float]) -> Row:
    name = f"Kedro, {count:,} configs, its start not counted"
    if not KEDRO_PYTHON.exists():
        return Row(name=name, values=[], unit="/s", note="not installed: `make bench` does it")
    shutil.copytree(KEDRO, folder)
    project = Project(folder)
    env = environment(folder, KEDRO_DISABLE_TELEMETRY="1", HOME=str(folder))
    code = "from benchmarks.peers.kedro_many import main; main()"

    def seconds(count: int) -> float:
        command = [str(KEDRO_PYTHON), "-c", code, *project.configs(count)]
        return run(command, cwd=folder, env=env).wall

    seconds(1)  # which compiles
    start = seconds(START)
    rate = [count / (seconds(START + count) - start)]
    return Row(name=name, values=rate, unit="/s", floor=floor)


if __name__ == "__main__":
    main()
