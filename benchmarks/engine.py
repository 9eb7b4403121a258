"""What the flow `training_pipeline` costs above Prefect itself.

    python -m benchmarks.engine [--rounds 16] [--starts 3]

On a running server: in one process, after a warm-up, the flow takes turns with a flow of five
tasks that do nothing but log, with kept results; with a new input (cold) and the same again (warm).
CPU is that of the client, with what it still sends in the background afterwards.

With nothing running, so that Prefect brings a server along: whole processes, `llm-train run`
(`make run`) and the same five steps in Prefect written the obvious way, each with a new config and
a Prefect home that earlier runs have filled.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.measure import (
    ROOT,
    Row,
    Sample,
    called,
    each,
    environment,
    in_turns,
    python,
    report,
    run,
    timed,
    workshop,
)
from benchmarks.project import Project
from benchmarks.server import running_server

SETTLING_SECONDS = 0.5
PROMPT = {"PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.1"}  # so that a run pays for its own log
MEASURES = (("wall", "wall"), ("cpu", "CPU"))
NOTHING, ASYNC, OURS = "five no-op tasks", "five async no-op tasks", "`training_pipeline`"
WORK = "its steps alone, `run_training_pipeline`"
OBVIOUS, MAKE_RUN = "Prefect, the obvious way", "`make run`"


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=16, help="on a running server")
    parser.add_argument("--starts", type=int, default=3, help="rounds with nothing running")
    options = parser.parse_args()
    with workshop() as folder:
        _on_a_server(folder, options.rounds)
        _with_nothing_running(folder, options.starts)


def _on_a_server(folder: Path, rounds: int) -> None:
    command = python("benchmarks.engine:take_turns", str(folder / "project"), rounds)
    with running_server(folder / "server") as server:
        taken = {
            name: [Sample(wall=wall, cpu=cpu) for wall, cpu in samples]
            for name, samples in called(command, cwd=ROOT, env=server.env | PROMPT).items()
        }
    rows = [
        Row(
            name=f"{name}, {state}: {title}",
            values=each(taken[f"{name}, {state}"], what),
            unit="ms",
            floor=each(taken[f"{NOTHING}, {state}"], what),
        )
        for what, title in MEASURES
        for state in ("cold", "warm")
        for name in (NOTHING, ASYNC, OURS, WORK)
    ]
    about = (
        "A flow run in a process that has run before. Floor: five sync tasks in a sync flow. "
        "Of a sync flow's wall time, about 950 ms are Prefect's wait at its end."
    )
    report("Engine, on a running server", about, rows, folder=folder)


def take_turns(folder: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Give wall and CPU seconds of each flow, by name; to be called where a server is known."""
    from benchmarks.peers.prefect_floor import five_async_tasks, five_tasks
    from flows.training_pipeline import training_pipeline
    from src.training.pipeline import run_training_pipeline

    project = Project(Path(folder))
    config, number = "", 0

    def new(work: Callable[[], object]) -> Sample:
        nonlocal config, number
        config, number = project.config(), number + 1
        return _settled(work)

    flows: dict[str, Callable[[], object]] = {
        NOTHING: lambda: five_tasks(number),
        ASYNC: lambda: asyncio.run(five_async_tasks(number)),
        OURS: lambda: training_pipeline(config, None, str(project.artifacts)),
        WORK: lambda: run_training_pipeline(config, artifacts_dir=str(project.artifacts)),
    }
    contenders = {}
    for name, flow in flows.items():
        contenders[f"{name}, cold"] = partial(new, flow)
        contenders[f"{name}, warm"] = partial(_settled, flow)
    taken = in_turns(contenders, rounds)
    return {name: [(each.wall, each.cpu) for each in samples] for name, samples in taken.items()}


def _settled(work: Callable[[], object]) -> Sample:
    """Time a call, and count the CPU of what goes on for a moment after it."""
    used = time.process_time()
    sample = timed(work)
    time.sleep(SETTLING_SECONDS)
    return Sample(wall=sample.wall, cpu=time.process_time() - used)


def _with_nothing_running(folder: Path, rounds: int) -> None:
    projects = {name: Project(folder / name.split()[-1]) for name in (OBVIOUS, MAKE_RUN)}
    obvious, ours = projects.values()
    llm_train = Path(sys.executable).with_name("llm-train")

    def make_run() -> Sample:
        command = [str(llm_train), "run", ours.config(), "--artifacts-dir", str(ours.artifacts)]
        env = environment(folder, PREFECT_HOME=str(folder / "home-ours"))
        return run(command, cwd=ROOT, env=env)

    def flow() -> Sample:
        command = [sys.executable, "-c", "from benchmarks.peers.prefect_flow import main; main()"]
        env = environment(
            folder,
            PREFECT_HOME=str(folder / "home-obvious"),
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="90",
        )
        return run([*command, obvious.config()], cwd=obvious.folder, env=env)

    taken = in_turns({OBVIOUS: flow, MAKE_RUN: make_run}, rounds)
    rows = [
        Row(
            name=f"{name}: {title}",
            values=each(samples, what, 1),
            unit="s",
            floor=each(taken[OBVIOUS], what, 1),
        )
        for what, title in MEASURES
        for name, samples in taken.items()
    ]
    about = "A new config, in a new process that brings its server along. Floor: the obvious flow."
    report("Engine, with nothing running", about, rows, folder=folder)


if __name__ == "__main__":
    main()
