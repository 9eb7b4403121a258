"""What the benchmarks share: whole processes, taking turns, and tables that name their floor.

Machines are noisy and differ. So what is compared takes turns in one run, and is told as a ratio to
a floor: what the same work costs where nothing is added to it.
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
    "called",
    "each",
    "environment",
    "in_turns",
    "instructions",
    "machine",
    "markdown",
    "python",
    "report",
    "run",
    "timed",
    "workshop",
]

ROOT = Path(__file__).parents[1]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What a process, or a call, took.

    Attributes:
        wall: Seconds by the clock.
        cpu: Seconds of user and system time, those of child processes included.
        peak: The most memory that one process held, in MiB; 0 where it was not measured.
        said: What it printed.
    """

    wall: float
    cpu: float
    peak: float = 0.0
    said: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        name: What was measured.
        values: A figure for each round.
        unit: Of the figures.
        floor: What they are a ratio to: the figures of another row, of the same rounds.
        note: Anything else to know.
    """

    name: str
    values: Sequence[float]
    unit: str
    floor: Sequence[float] | None = None
    note: str = ""


@contextmanager
def workshop() -> Iterator[Path]:
    """Lend a temporary folder (in `$TMPDIR`, whose file system is then measured)."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Give the environment of the processes that are measured.

    They import this project, with bytecode that a first run compiles to `folder`; Prefect's home is
    there too. They report to nobody.
    """
    env = os.environ | {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env.pop("PREFECT_API_URL", None)
    return env | settings


def python(function: str, *arguments: object) -> list[str]:
    """Give the command that calls a function in its own process, and prints its result as JSON.

    Args:
        function: E.g. `benchmarks.engine:take_turns`.
        arguments: Its arguments; values that JSON has a form for.
    """
    module, name = function.split(":")
    call = f"{name}(*json.loads(sys.argv[1]))"
    code = f"import json, sys; from {module} import {name}; print(json.dumps({call}))"
    return [sys.executable, "-c", code, json.dumps(arguments)]


def run(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> Sample:
    """Run a process to its end, and count it with those that it started and waited for.

    Raises:
        SystemExit: It failed; shows the end of what it wrote to standard error.
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
            said=out.read().decode(),
        )


def called(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> Any:
    """Run a command that `python` gave; give the function's result."""
    return json.loads(run(command, cwd=cwd, env=env).said.splitlines()[-1])


def timed(work: Callable[[], object]) -> Sample:
    """Call a function in this process."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return Sample(wall=time.perf_counter() - started, cpu=time.process_time() - used)


def in_turns(contenders: Mapping[K, Callable[[], T]], rounds: int) -> dict[K, list[T]]:
    """Let all take their turn in each round, after a first round that does not count.

    Returns:
        What they gave, by contender.
    """
    taken: dict[K, list[T]] = {name: [] for name in contenders}
    for _ in range(1 + rounds):
        for name, contender in contenders.items():
            taken[name].append(contender())
    return {name: results[1:] for name, results in taken.items()}


def each(samples: Sequence[Sample], what: str, scale: float = 1000) -> list[float]:
    """Give one attribute of all samples; times in milliseconds."""
    return [scale * getattr(sample, what) for sample in samples]


def instructions(
    command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]
) -> list[float]:
    """Count a process's instructions, in millions, less its children's; none without valgrind."""
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
    """Print a table, under its title, with what it is about and the machine it is of."""
    print(f"## {title}\n\n{about}\n{machine(folder)}.\n\n{markdown(rows)}", flush=True)


def markdown(rows: Sequence[Row]) -> str:
    """Give a Markdown table: medians, with the least and the most, and ratios round by round."""
    lines = ["| | median (least to most) | ratio to the floor | |", "|---|---|---|---|"]
    for row in rows:
        ratios = [mine / floor for mine, floor in zip(row.values, row.floor or (), strict=False)]
        ratio = "floor" if row.floor == row.values else _spread(ratios, "x")
        lines.append(f"| {row.name} | {_spread(row.values, row.unit)} | {ratio} | {row.note} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], unit: str) -> str:
    if not values:
        return ""
    middle = f"{_number(statistics.median(values))} {unit}".strip()
    if len(values) == 1:
        return middle
    return f"{middle} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    """Give a number in three digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def machine(folder: Path) -> str:
    """Tell in one line what was measured on."""
    text = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"model name\s*: (.*)", text)
    df = subprocess.run(["df", "-PT", folder], capture_output=True, text=True, check=True)  # noqa: S607
    return (
        f"Measured on {os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, "
        f"{df.stdout.splitlines()[1].split()[1]}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, Prefect {version('prefect')}"
    )
