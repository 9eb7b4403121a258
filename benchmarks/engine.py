"""Cost of the flow `training_pipeline` in addition to Prefect.

    python -m benchmarks.engine [--rounds 16] [--starts 3]

On a running server, in one process, after a warm-up: the flow takes turns with a flow of five tasks
that only log and keep their results; each with a new input (cold), and with the same again (warm).
CPU is that of the client, including what it sends in the background afterwards.

With no server running, so that Prefect starts one: whole processes, `llm-train run` (`make run`)
and the same five steps in a straightforward Prefect flow; each with a new config and a Prefect home
that earlier runs have filled.
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
    call_command,
    call_result,
    environment,
    figures,
    report,
    run,
    run_in_turns,
    timed,
    working_folder,
)
from benchmarks.project import Project
from benchmarks.server import running_server

SETTLING_SECONDS = 0.5
# A run sends its log before it ends, so its cost is counted.
PROMPT = {"PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.1"}
MEASURES = (("wall", "wall"), ("cpu", "CPU"))
NOTHING, ASYNC, OURS = "five no-op tasks", "five async no-op tasks", "`training_pipeline`"
WORK = "its steps alone, `run_training_pipeline`"
STRAIGHTFORWARD, MAKE_RUN = "straightforward Prefect flow", "`make run`"


def main() -> None:
    """Run both benchmarks and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=16, help="on a running server")
    parser.add_argument("--starts", type=int, default=3, help="rounds with no server running")
    options = parser.parse_args()
    with working_folder() as folder:
        _on_a_server(folder, options.rounds)
        _without_a_server(folder, options.starts)


def _on_a_server(folder: Path, rounds: int) -> None:
    command = call_command("benchmarks.engine:measure_flows", str(folder / "project"), rounds)
    with running_server(folder / "server") as server:
        samples = {
            name: [Sample(wall=wall, cpu=cpu) for wall, cpu in costs]
            for name, costs in call_result(command, cwd=ROOT, env=server.env | PROMPT).items()
        }
    rows = [
        Row(
            name=f"{name}, {state}: {title}",
            values=figures(samples[f"{name}, {state}"], attribute),
            unit="ms",
            floor=figures(samples[f"{NOTHING}, {state}"], attribute),
        )
        for attribute, title in MEASURES
        for state in ("cold", "warm")
        for name in (NOTHING, ASYNC, OURS, WORK)
    ]
    about = (
        "A flow run in a process that has run before. Floor: five sync tasks in a sync flow. "
        "Of a sync flow's wall time, about 950 ms are Prefect's wait at its end."
    )
    report("Engine, on a running server", about, rows, folder=folder)


def measure_flows(folder: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return wall and CPU seconds of each flow; the environment names the server."""
    from benchmarks.peers.prefect_floor import five_async_tasks, five_tasks
    from flows.training_pipeline import training_pipeline
    from src.training.pipeline import run_training_pipeline

    project = Project(Path(folder))
    config, number = "", 0

    def cold(work: Callable[[], object]) -> Sample:
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
        contenders[f"{name}, cold"] = partial(cold, flow)
        contenders[f"{name}, warm"] = partial(_settled, flow)
    samples = run_in_turns(contenders, rounds)
    return {name: [(each.wall, each.cpu) for each in costs] for name, costs in samples.items()}


def _settled(work: Callable[[], object]) -> Sample:
    """Time a call; its CPU time includes what runs in the background for a moment after it."""
    used = time.process_time()
    sample = timed(work)
    time.sleep(SETTLING_SECONDS)
    return Sample(wall=sample.wall, cpu=time.process_time() - used)


def _without_a_server(folder: Path, rounds: int) -> None:
    theirs, ours = Project(folder / "straightforward"), Project(folder / "ours")
    llm_train = Path(sys.executable).with_name("llm-train")

    def make_run() -> Sample:
        command = [str(llm_train), "run", ours.config(), "--artifacts-dir", str(ours.artifacts)]
        env = environment(folder, PREFECT_HOME=str(folder / "home-ours"))
        return run(command, cwd=ROOT, env=env)

    def flow() -> Sample:
        command = [sys.executable, "-c", "from benchmarks.peers.prefect_flow import main; main()"]
        env = environment(
            folder,
            PREFECT_HOME=str(folder / "home-straightforward"),
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="90",
        )
        return run([*command, theirs.config()], cwd=theirs.folder, env=env)

    samples = run_in_turns({STRAIGHTFORWARD: flow, MAKE_RUN: make_run}, rounds)
    rows = [
        Row(
            name=f"{name}: {title}",
            values=figures(samples[name], attribute, 1),
            unit="s",
            floor=figures(samples[STRAIGHTFORWARD], attribute, 1),
        )
        for attribute, title in MEASURES
        for name in (STRAIGHTFORWARD, MAKE_RUN)
    ]
    about = "A new config, in a new process that starts a server. Floor: the straightforward flow."
    report("Engine, with no server running", about, rows, folder=folder)


if __name__ == "__main__":
    main()
