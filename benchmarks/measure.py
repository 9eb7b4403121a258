"""Shared parts of the benchmarks: measured processes and calls, rounds, and tables with ratios.

Machines are noisy and differ. Contenders therefore take turns within one run, and each figure is
also given as a ratio to a floor: the cost of the same work with nothing added to it.
"""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "ROOT",
    "Row",
    "Sample",
    "call_command",
    "call_result",
    "count_instructions",
    "environment",
    "figures",
    "machine",
    "markdown",
    "report",
    "run",
    "run_in_turns",
    "timed",
    "working_folder",
]

ROOT = Path(__file__).parents[1]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The cost of one process or call.

    Attributes:
        wall: Elapsed time in seconds.
        cpu: User and system time in seconds; for `run`, including child processes.
        peak: Peak memory of a single process in MiB; 0 if it was not measured.
        stdout: Standard output of the process.
    """

    wall: float
    cpu: float
    peak: float = 0.0
    stdout: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        name: The contender.
        values: One figure per round.
        unit: Unit of the figures.
        floor: The figures of the floor, in the same rounds; `None` for no ratio.
        note: Further facts.
    """

    name: str
    values: Sequence[float]
    unit: str
    floor: Sequence[float] | None = None
    note: str = ""


@contextmanager
def working_folder() -> Iterator[Path]:
    """Create a temporary folder in `$TMPDIR`, whose file system is measured; remove it on exit.

    The memos of this process and its children are kept next to it. So they exist, as they usually
    do, and the user's cache folder is not used.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        path = Path(folder, "work")
        path.mkdir()
        yield path


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return the environment of measured processes.

    They import this project, with bytecode that the first run compiles into `folder`. Prefect's
    home is in `folder` too. Telemetry is off.
    """
    env = os.environ | {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    env["PREFECT_PROFILES_PATH"] = f"{env['PREFECT_HOME']}/profiles.toml"  # not that of `make up`
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env.pop("PREFECT_API_URL", None)
    return env | settings


def call_command(function: str, *arguments: object) -> list[str]:
    """Return the command that calls a function in a new process and prints its result as JSON.

    Args:
        function: Module and name, e.g. `benchmarks.engine:measure_flows`.
        arguments: Arguments of the function; JSON values.
    """
    module, name = function.split(":")
    call = f"{name}(*json.loads(sys.argv[1]))"
    code = f"import json, sys; from {module} import {name}; print(json.dumps({call}))"
    return [sys.executable, "-c", code, json.dumps(arguments)]


def run(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> Sample:
    """Run a process to its end; its cost includes the children that it waited for.

    Raises:
        SystemExit: The process failed; shows the end of its standard error.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{command} exited with {process.returncode}:\n{err.read().decode()[-4000:]}")
        return Sample(
            wall=wall,
            cpu=usage.ru_utime + usage.ru_stime,
            peak=usage.ru_maxrss / 1024,
            stdout=out.read().decode(),
        )


def call_result(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> Any:
    """Run a command of `call_command`; return the result of the function."""
    return json.loads(run(command, cwd=cwd, env=env).stdout.splitlines()[-1])


def timed(work: Callable[[], object]) -> Sample:
    """Call a function in this process, and return its cost."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return Sample(wall=time.perf_counter() - started, cpu=time.process_time() - used)


def run_in_turns(contenders: Mapping[K, Callable[[], T]], rounds: int) -> dict[K, list[T]]:
    """Call all contenders once per round, after a first round that does not count.

    Returns:
        The results of each contender.
    """
    results: dict[K, list[T]] = {name: [] for name in contenders}
    for _ in range(1 + rounds):
        for name, contender in contenders.items():
            results[name].append(contender())
    return {name: counted for name, (_, *counted) in results.items()}


def figures(samples: Sequence[Sample], attribute: str, scale: float = 1000) -> list[float]:
    """Return one attribute of all samples; times are in milliseconds."""
    return [scale * getattr(sample, attribute) for sample in samples]


def count_instructions(
    command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]
) -> list[float]:
    """Count the instructions of a process, without its children, in millions.

    Returns:
        One figure; an empty list if valgrind is not installed.
    """
    if shutil.which("valgrind") is None:
        return []
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(
        [*valgrind, *command],
        cwd=cwd,
        env={**env, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(count) / 1e6 for count in re.findall(r"Collected : (\d+)", done.stderr)[-1:]]


def report(title: str, about: str, rows: Sequence[Row], *, folder: Path) -> None:
    """Print a table with a title, a description, and the machine that it was measured on."""
    print(f"## {title}\n\n{about}\n{machine(folder)}.\n\n{markdown(rows)}", flush=True)


def markdown(rows: Sequence[Row]) -> str:
    """Render a Markdown table: medians with minimum and maximum, and ratios round by round."""
    lines = ["| | median (min to max) | ratio to the floor | |", "|---|---|---|---|"]
    for row in rows:
        ratios = [value / floor for value, floor in zip(row.values, row.floor or (), strict=False)]
        ratio = "floor" if row.floor == row.values else _spread(ratios, "x")
        lines.append(f"| {row.name} | {_spread(row.values, row.unit)} | {ratio} | {row.note} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], unit: str) -> str:
    if not values:
        return ""
    median = f"{_number(statistics.median(values))} {unit}".strip()
    if len(values) == 1:
        return median
    return f"{median} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    """Return a number with three digits, or with all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def machine(folder: Path) -> str:
    """Return one line about the machine, its file system and its software."""
    text = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"model name\s*: (.*)", text)
    df = subprocess.run(["df", "-PT", folder], capture_output=True, text=True, check=True)  # noqa: S607
    return (
        f"Measured on {os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, "
        f"{df.stdout.splitlines()[1].split()[1]}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, Prefect {version('prefect')}"
    )
