"""Commands under supervision, the processes that they leave, and callers in other processes."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from src.supervision.command import Command, Stream, run_command
from tests.conftest import Child

DEADLINE = 120.0  # seconds; against a hang

CALLER = """
import sys
from pathlib import Path
from src.supervision.command import Command, run_command
from tests.supervision.conftest import processes

folder, argv, grace = Path(sys.argv[1]), sys.argv[3:], float(sys.argv[2])
command = Command(
    argv=argv,
    cwd=folder,
    run_file=folder / "run.json",
    lock=folder / "lock",
    scratch=folder / "scratch",
    grace_seconds=grace,
)
try:
    run_command(command, on_line=lambda stream, line: print(line, flush=True))
except KeyboardInterrupt:
    print("left:", processes(command.run_file), flush=True)
"""


class Commands:
    """Commands over one lock, in one folder."""

    def __init__(self, folder: Path, start: Callable[..., Child]) -> None:
        self.folder = folder
        self.run_file = folder / "run.json"
        self.lock = folder / "lock"
        self.lines: list[tuple[Stream, str]] = []
        self._start = start

    def run(
        self,
        program: str | Sequence[str],
        on_line: Callable[[Stream, str], None] | None = None,
        **limits: Any,
    ) -> list[tuple[Stream, str]]:
        """Run Python code or a command; return its lines, which are in `lines` as well."""
        self.lines = lines = []

        def deliver(stream: Stream, line: str) -> None:
            lines.append((stream, line))
            if on_line:
                on_line(stream, line)

        run_command(self.command(program, **limits), on_line=deliver)
        return lines

    def command(self, program: str | Sequence[str], **limits: Any) -> Command:
        paths = {"cwd": self.folder, "run_file": self.run_file, "lock": self.lock}
        return Command(argv=argv(program), **{**paths, **limits})

    def caller(self, program: str, grace_seconds: float = 60) -> Child:
        """Run Python code from another process, which prints the lines of the code."""
        return self._start(CALLER, self.folder, grace_seconds, *argv(program))

    def left(self) -> list[int]:
        """Return the processes that exist now, the supervisors included."""
        return processes(self.run_file)

    def wait_until_gone(self) -> None:
        """Wait until no process is left."""
        wait_until(lambda: self.left() == [])


def argv(program: str | Sequence[str]) -> Sequence[str]:
    return [sys.executable, "-c", program] if isinstance(program, str) else program


def processes(run_file: Path) -> list[int]:
    """Return the processes that have the variable of a run file and have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"LLM_TRAIN_RUN={run_file}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition is still false"
        time.sleep(0.01)


@pytest.fixture
def commands(tmp_path: Path, start: Callable[..., Child]) -> Iterator[Commands]:
    """Commands that end in the test; no process of them is left."""
    commands = Commands(tmp_path, start)
    yield commands
    commands.wait_until_gone()


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], object]], "Thread"]]:
    """Start threads that end in the test."""
    threads: list[Thread] = []

    def in_thread(function: Callable[[], object]) -> Thread:
        threads.append(Thread(function))
        threads[-1].start()
        return threads[-1]

    yield in_thread
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


class Thread(threading.Thread):
    """A thread whose error is available."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self.error = error
