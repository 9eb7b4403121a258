"""Configs per second of a distributed sweep, and the flow runs that a server takes.

    python -m benchmarks.distributed [--configs 3] [--seconds 2 20] [--workers 1 4] [--rounds 1]

The sweep's configs name a trainer that sleeps. The flow `training_sweep` submits them as flow runs
of `training-pipeline/train` to separate worker processes, one run at a time each; its rate
counts from the call of the flow until the flow returns. `--configs` is the number of configs for
each worker. Floor: one worker.

A run of a worker is a new process that imports Prefect, which a few cores can do only so often.
What the server takes is therefore measured without that: processes that have imported everything
execute flow runs of the same deployment, without a trainer, one after the other, on a server with
SQLite and on one with PostgreSQL if it is installed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, Row, call_command, report, run, working_folder
from benchmarks.project import Project
from benchmarks.server import Database, cpu_seconds, postgres, running_server
from ops.server import stop_group

CLIENTS = 4  # processes that execute flow runs
POLL_SECONDS = 2  # as the worker of `make up`
START_SECONDS = 60.0
TIMES = re.compile(r"^\[[\d., ]+\]$", re.MULTILINE)
TRAINER = """
import time

def train(run):
    time.sleep(run.options["seconds"])
    (run.output / "weights").write_text(f"{run.config.learning_rate}")
"""
DEPLOYED = ("flows", "ops", "src", "tasks", "prefect.yaml", "pyproject.toml")
ABOUT = (
    "A trainer that sleeps; one run at a time and worker. Floor: one worker. Then flow runs of "
    f"`training-pipeline/train` without a trainer, in {CLIENTS} processes that have run before. "
    "More is better."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Result of some flow runs.

    Attributes:
        rate: Flow runs per second.
        worker: CPU seconds per flow run in the workers and their child processes.
        server: CPU seconds per flow run in the server.
        database: CPU seconds per flow run in PostgreSQL; 0 for SQLite.
    """

    rate: float
    worker: float
    server: float
    database: float

    @property
    def cores(self) -> float:
        """The number of cores that they kept busy."""
        return self.rate * (self.worker + self.server + self.database)


def sweep(folder: str, pattern: str) -> tuple[float, float]:
    """Sweep over the configs of a project; return the times of the call and of the return."""
    from flows.training_sweep import training_sweep

    started = time.time()
    training_sweep(
        [f"{folder}/configs/{pattern}"], artifacts_dir=f"{folder}/artifacts", distribute=True
    )
    return started, time.time()


def execute(folder: str, configs: Sequence[str]) -> tuple[float, float]:
    """Execute a flow run of the deployment for each config, with the requests of a worker.

    Waits for the end of stdin before the second one, because the first imports everything.

    Returns:
        The times of the start of the second one and of the end of the last one.
    """
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.states import Pending

    import tasks  # noqa: F401  # configures Prefect before its first import
    from flows.distribution import DEPLOYMENT
    from flows.training_pipeline import training_pipeline

    # Without heartbeats a flow returns immediately, and fewer processes are sufficient.
    with (
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        get_client(sync_client=True) as client,
    ):
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        started = 0.0
        for number, config in enumerate(configs):
            if number == 1:
                print("ready", flush=True)
                sys.stdin.read()
                started = time.time()
            flow_run = client.create_flow_run_from_deployment(
                deployment.id,
                parameters={"training_config_path": config, "artifacts_dir": f"{folder}/artifacts"},
            )
            client.set_flow_run_state(flow_run.id, Pending())
            run_flow(training_pipeline, flow_run=client.read_flow_run(flow_run.id))
        return started, time.time()


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=int, default=3, help="for each worker")
    parser.add_argument("--seconds", type=float, nargs="+", default=[2, 20], help="of a training")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--runs", type=int, default=50, help="of each process without a trainer")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    rows: list[Row] = []
    with working_folder() as folder:
        with _Platform(folder / "sqlite") as platform:
            rows += _sweeps(platform, options)
            rows.append(_capacity("SQLite", platform, options))
        with postgres() as database:
            if database:
                with _Platform(folder / "postgres", database) as platform:
                    rows.append(_capacity("PostgreSQL", platform, options))
        report("Distributed sweeps", ABOUT, rows, folder=folder)


def _sweeps(platform: "_Platform", options: argparse.Namespace) -> Iterator[Row]:
    """Measure sweeps of each length with each number of workers."""
    results: dict[tuple[float, int], list[Result]] = {
        (seconds, workers): [] for seconds in options.seconds for workers in options.workers
    }
    with platform.workers(1) as pids:
        platform.sweep(1, 0, pids)  # compiles
    for _ in range(options.rounds):
        for workers in options.workers:
            with platform.workers(workers) as pids:
                for seconds in options.seconds:
                    result = platform.sweep(workers * options.configs, seconds, pids)
                    results[seconds, workers].append(result)
    for (seconds, workers), found in results.items():
        yield Row(
            name=f"sleeps {seconds:g} s, {workers} worker{'s' * (workers > 1)}",
            values=[each.rate for each in found],
            unit="/s",
            floor=[each.rate for each in results[seconds, options.workers[0]]],
            note=f"{_mean(found, 'cores'):.2f} cores busy; CPU per run: worker "
            f"{_mean(found, 'worker'):.2f} s, server {_mean(found, 'server'):.2f} s",
        )


def _capacity(name: str, platform: "_Platform", options: argparse.Namespace) -> Row:
    """Measure the flow runs that a server takes."""
    found = [platform.execute(options.runs) for _ in range(options.rounds)]
    rate = _mean(found, "rate")
    return Row(
        name=f"the server, {name}: flow runs",
        values=[each.rate for each in found],
        unit="/s",
        note=f"{_mean(found, 'cores'):.2f} cores busy; CPU per run: process "
        f"{_mean(found, 'worker'):.2f} s, server {_mean(found, 'server'):.2f} s, database "
        f"{_mean(found, 'database'):.2f} s. "
        f"At most {60 * rate:,.0f} trainings of a minute at a time",
    )


def _mean(results: Sequence[Result], attribute: str) -> float:
    return statistics.fmean(getattr(each, attribute) for each in results)


class _Platform(ExitStack):
    """A server with the deployment `training-pipeline/train` of a project that is a copy."""

    def __init__(self, folder: Path, database: Database | None = None) -> None:
        super().__init__()
        self._database = database
        settings = {"PREFECT_WORKER_QUERY_SECONDS": f"{POLL_SECONDS}"}
        if database:
            settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        folder.mkdir()
        self._server = self.enter_context(running_server(folder / "server", **settings))
        self._project = Project(folder / "project")
        self._folder = folder
        for name in DEPLOYED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self._project.folder / name)
        (self._project.folder / "sleeping.py").write_text(TRAINER)
        pool = ("work-pool", "create", "--type", "process", "training")
        self._prefect(*pool, "--base-job-template", "ops/base_job_template.json")
        self._prefect("deploy", "--name", "train")

    def _prefect(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        run(command, cwd=self._project.folder, env=self._server.env)

    @contextmanager
    def workers(self, count: int) -> Iterator[list[int]]:
        """Start workers; yield the ids of their processes."""
        worker = ["worker", "start", "--pool", "training", "--limit", "1", "--name"]
        commands = [
            [sys.executable, "-m", "prefect", *worker, f"worker-{number}"]
            for number in range(count)
        ]
        with self._started(commands, "started!") as processes:
            yield [process.pid for process in processes]

    @contextmanager
    def _started(
        self, commands: Sequence[list[str]], word: str, stdin: int = subprocess.DEVNULL
    ) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Start processes, and wait until each has printed a word; kill them on exit."""
        with ExitStack() as stack:
            processes = []
            for number, command in enumerate(commands):
                log = stack.enter_context(open(self._log(number), "wb"))
                process = subprocess.Popen(
                    command,
                    cwd=self._project.folder,
                    env=self._server.env,
                    stdin=stdin,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                stack.callback(stop_group, process, (signal.SIGKILL,))
                processes.append(process)
            deadline = time.monotonic() + START_SECONDS
            for number, process in enumerate(processes):
                while word not in (text := self._log(number).read_text()):
                    if process.poll() is not None or time.monotonic() > deadline:
                        sys.exit(f"{commands[number]} did not start:\n{text[-4000:]}")
                    time.sleep(0.2)
            yield processes

    def _log(self, number: int) -> Path:
        return self._folder / f"{number}.log"

    def sweep(self, count: int, seconds: float, workers: Sequence[int]) -> Result:
        """Sweep over new configs of a trainer that sleeps."""
        configs = [Path(config) for config in self._project.configs(count)]
        component = f"trainer: {{use: 'sleeping:train', options: {{seconds: {seconds}}}}}\n"
        sweep = f"sweep-{configs[0].stem}"
        (self._project.folder / "configs" / sweep).mkdir()
        for config in configs:
            config.write_text(config.read_text() + component)
            config.rename(config.parent / sweep / config.name)
        arguments = (str(self._project.folder), f"{sweep}/*.yaml")
        command = call_command("benchmarks.distributed:sweep", *arguments)
        before = self._cpu(workers)
        sample = run(command, cwd=self._project.folder, env=self._server.env)
        started, ended = json.loads(sample.stdout.splitlines()[-1])
        return _result(count, ended - started, before, self._cpu(workers))

    def execute(self, count: int) -> Result:
        """Execute flow runs in `CLIENTS` processes that have run before."""
        commands = [
            call_command(
                "benchmarks.distributed:execute",
                *(str(self._project.folder), self._project.configs(1 + count)),
            )
            for _ in range(CLIENTS)
        ]
        stdin, start = os.pipe()
        with self._started(commands, "ready\n", stdin) as processes:
            pids = [process.pid for process in processes]
            before = self._cpu(pids)
            os.close(stdin)
            os.close(start)  # all continue at the end of their stdin
            for pid in pids:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its CPU time stays readable
            after = self._cpu(pids)
        times = []
        for number in range(CLIENTS):
            text = self._log(number).read_text()
            if not (found := TIMES.findall(text)):
                sys.exit(f"{commands[number]} failed:\n{text[-4000:]}")
            times.append(json.loads(found[-1]))
        seconds = max(ended for _, ended in times) - min(started for started, _ in times)
        return _result(CLIENTS * count, seconds, before, after)

    def _cpu(self, workers: Sequence[int]) -> tuple[float, float, float]:
        database = cpu_seconds(self._database.pid) if self._database else 0
        return sum(map(cpu_seconds, workers)), self._server.cpu(), database


def _result(count: int, seconds: float, before: Sequence[float], after: Sequence[float]) -> Result:
    used = [(last - first) / count for first, last in zip(before, after, strict=True)]
    return Result(rate=count / seconds, worker=used[0], server=used[1], database=used[2])


if __name__ == "__main__":
    main()
