"""Run a command of a user under a supervisor, and deliver its output line by line."""

import fcntl
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from src.supervision.errors import CommandError, CommandStartError, CommandTimeoutError

__all__ = ["DEFAULTS", "GRACE_SECONDS", "Command", "Stream", "commands_until", "run_command"]

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[Stream, str], None]

MAX_LINE = 1 << 16  # bytes
LAST_LINES = 20
MAX_LAST_LINE = 500  # characters
MAX_COMMAND = 200  # characters
READ = 1 << 16  # bytes
PIPE = 1 << 20  # bytes; the largest capacity of a pipe without privileges
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
WAKE_SECONDS = 0.25
STOPPED_SECONDS = 5.0  # a process that stops its supervisor again and again is ended

SUPERVISOR = Path(__file__).with_name("supervisor.py")
RUN_FILE = "LLM_TRAIN_RUN"
DEFAULTS = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
"""Variables that a command gets unless they are set."""
WITHHELD = ("PREFECT_", "LLM_TRAIN_LOCK")
"""Prefixes of the variables of the caller that a command does not get."""


_STOP: ContextVar[Event | None] = ContextVar("stop", default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command of a user, and the limits under which it runs.

    It gets the variables of the caller, without those of Prefect, because some are secrets.
    PYTHONHASHSEED is 0 and PYTHONUNBUFFERED is 1 unless set.

    Attributes:
        argv: The program, searched in PATH unless it contains a slash, and its arguments.
        cwd: Working directory of the command; a relative program is relative to it.
        run_file: Value of LLM_TRAIN_RUN in the environment of the command, as an absolute path.
        lock: File that is locked while a process of the command lives; created if missing, and
            never removed. A command waits until the lock is free.
        name: Its name in errors, which do not quote its stdout; by default its argv.
        scratch: Folder that is removed if the caller is killed; by default none.
        timeout_seconds: How long the command may run, without the wait for the lock.
        grace_seconds: Time between SIGTERM and SIGKILL when the command is ended.
    """

    argv: Sequence[str]
    cwd: Path
    run_file: Path
    lock: Path
    name: str | None = None
    scratch: Path | None = None
    timeout_seconds: float | None = None
    grace_seconds: float = GRACE_SECONDS


@contextmanager
def commands_until(stop: Event) -> Iterator[None]:
    """End the commands of the block when `stop` is set, also those of threads with its context.

    Their `run_command` then raises KeyboardInterrupt: Ctrl-C itself reaches the main thread alone.
    """
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


def run_command(command: Command, *, on_line: OnLine) -> None:
    """Run a command until it and all its descendants have ended.

    Works in any thread, and starts none. Any exception in this thread, such as KeyboardInterrupt
    or one that `on_line` raises, ends the command first, as a timeout does; see `src.supervision`.
    A second exception meanwhile is raised immediately, and the supervisor alone ends the command.

    Stdin of the command is /dev/null. A process that the command leaves is ended with it.

    Args:
        command: The command. Its lock exists afterwards.
        on_line: Called with each line of stdout and stderr as it is written, without the line end.
            A line is what a terminal shows of it: the text after the last carriage return. Bytes
            that are not UTF-8 are replaced; the bytes of a line after the first 64 KiB are
            dropped, and counted at its end. While the function runs, the output is not read, so a
            slow one slows the command.

    Raises:
        CommandError: The exit code is not 0, a signal killed the command, or its supervisor
            received a signal. The message has the last lines of the output.
        CommandStartError: There is no such program or folder, the program or the lock may not be
            opened, or this system is not Linux with /proc.
        CommandTimeoutError: The command was still running after `timeout_seconds`.
    """
    if not Path("/proc/self/environ").exists():
        expected = f"Expected Linux with /proc, found {sys.platform}."
        raise CommandStartError(f"{_command_text(command)}: cannot be started. {expected}")
    last: deque[str] = deque(maxlen=LAST_LINES)

    def deliver(stream: Stream, line: str) -> None:
        if stream == "stderr" or command.name is None:
            last.append(line[:MAX_LAST_LINE])
        on_line(stream, line)

    connection, other_end = socket.socketpair()
    with connection:
        with other_end:
            process = _start(command, other_end)
        with process:
            try:
                report = _read(process, connection, deliver, _STOP.get())
            except BaseException:
                connection.shutdown(socket.SHUT_WR)  # the request to end the command
                # A command that cannot write its output might not write its checkpoint either.
                if not _read(process, connection, lambda *_: None):
                    _kill_strays(process, command.lock)
                raise
            if not report:
                _kill_strays(process, command.lock)
    _check(command, report, process.returncode, last)


def _start(command: Command, connection: socket.socket) -> subprocess.Popen[bytes]:
    """Start the supervisor in a new session, so that Ctrl-C in a terminal does not reach it."""
    timeout = float("inf") if command.timeout_seconds is None else command.timeout_seconds
    scratch = "" if command.scratch is None else os.path.abspath(command.scratch)  # noqa: PTH100
    lock = os.path.abspath(command.lock)  # noqa: PTH100
    limits = [lock, str(command.grace_seconds), str(timeout), scratch]
    try:
        return subprocess.Popen(  # noqa: S603  # the command of a user
            [sys.executable, "-I", "-S", str(SUPERVISOR), *limits, *command.argv],
            cwd=os.fspath(command.cwd),
            env=_environment(command),
            stdin=connection.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CommandStartError(f"{_command_text(command)}: cannot be started: {error}.") from error


def _environment(command: Command) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(WITHHELD)}
    run_file = {RUN_FILE: os.path.abspath(command.run_file)}  # noqa: PTH100  # keeps links
    return {**DEFAULTS, **inherited, **run_file}


def _read(
    process: subprocess.Popen[bytes],
    connection: socket.socket,
    on_line: OnLine,
    stop: Event | None = None,
) -> str:
    """Deliver the output until the supervisor has ended; return its report.

    The end of the output is not waited for: the command may close it early, and a process may
    hold it open after the supervisor was killed.

    Raises:
        KeyboardInterrupt: `stop` is set.
    """
    report, stopped_since = b"", None
    outputs = [_Output("stdout", on_line), _Output("stderr", on_line)]
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        for pipe, output in zip((process.stdout, process.stderr), outputs, strict=True):
            assert pipe is not None  # noqa: S101  # only for types
            selector.register(pipe, selectors.EVENT_READ, output)
        while connection in selector.get_map():
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
            stopped_since = _continue(process, stopped_since)
            # An exception that another thread sets in this one is raised when select returns.
            for key, _ in selector.select(WAKE_SECONDS):
                data = os.read(key.fd, READ)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is connection:
                    report += data
                else:
                    key.data.feed(data)
        for key, _ in selector.select(0):
            key.data.feed(os.read(key.fd, PIPE))
    for output in outputs:
        output.finish()
    return report.decode()


def _continue(process: subprocess.Popen[bytes], stopped_since: float | None) -> float | None:
    """Continue a supervisor that was stopped (SIGSTOP, ptrace), or kill it after `STOPPED_SECONDS`.

    Args:
        process: The supervisor. While it is stopped, it applies no limit, and ends no process.
        stopped_since: What the last call returned.

    Returns:
        The time since which every call has found it stopped; `None` if it is not.
    """
    try:
        state = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return None
    if state not in (b"T", b"t"):  # by a signal, or by a process that traces it
        return None
    now = time.monotonic()
    since = now if stopped_since is None else stopped_since
    process.send_signal(signal.SIGCONT if now - since < STOPPED_SECONDS else signal.SIGKILL)
    return since


def _kill_strays(process: subprocess.Popen[bytes], lock: Path) -> None:
    """Kill the processes that a supervisor left which ended without a report."""
    from src.supervision.supervisor import kill_strays, lock_mark  # for Linux alone

    process.wait()  # its lock is free
    with suppress(OSError), lock.open("rb") as file:
        # If another command holds the lock already, it kills them before it starts.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kill_strays(lock_mark(file.fileno()), time.sleep)


class _Output:
    """Splits a stream into lines, each of at most `MAX_LINE` bytes in memory."""

    def __init__(self, stream: Stream, on_line: OnLine) -> None:
        self._stream = stream
        self._on_line = on_line
        self._line = bytearray()
        self._dropped = 0  # bytes
        self._held = b""  # a carriage return at the end of the data so far

    def feed(self, data: bytes) -> None:
        """Deliver the lines that end in `data`."""
        *ended, rest = (self._held + data).split(b"\n")
        for part in ended:
            self._append(part.removesuffix(b"\r"))
            self._deliver()
        self._held = rest[-1:] if rest.endswith(b"\r") else b""
        self._append(rest.removesuffix(b"\r"))

    def finish(self) -> None:
        """Deliver the last line, if it has no end."""
        if self._line:
            self._deliver()

    def _append(self, part: bytes) -> None:
        _, carriage_return, part = part.rpartition(b"\r")
        if carriage_return:
            self._line.clear()
            self._dropped = 0
        kept = part[: MAX_LINE - len(self._line)]
        self._line += kept
        self._dropped += len(part) - len(kept)

    def _deliver(self) -> None:
        line = self._line.decode(errors="replace")
        if self._dropped:
            line += f" [{self._dropped:,} more bytes]"
        self._line.clear()
        self._dropped = 0
        self._on_line(self._stream, line)


def _check(command: Command, report: str, supervisor_code: int, last: Sequence[str]) -> None:
    """Raise the error that the report of the supervisor describes."""
    reason, _, detail = report.partition(" ")
    end = "\n".join(["\nLast lines of its output:", *last]) if last else " It had no output."
    if reason == "failed":
        raise CommandStartError(f"{_command_text(command)}: cannot be started: {detail}.")
    if reason == "timeout":
        raise CommandTimeoutError(
            f"{_command_text(command)}: ended, because it was still running after "
            f"{command.timeout_seconds:g} seconds.{end}"
        )
    if reason == "exited" and detail != "0":
        ending = f"{_command_text(command)}: {_ending(int(detail))}"
        raise CommandError(f"{ending}: {last[-1]}{end}" if last else f"{ending}.{end}")
    if reason == "stopped":
        raise CommandError(f"{_command_text(command)}: ended by a signal to its supervisor.{end}")
    if reason != "exited":
        raise CommandError(
            f"{_command_text(command)}: its supervisor {_ending(supervisor_code)}. The processes "
            f"that it left were killed.{end}"
        )


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by signal {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-code}"


def _command_text(command: Command) -> str:
    text = command.name or shlex.join(command.argv)
    return text if len(text) <= MAX_COMMAND else f"{text[:MAX_COMMAND]}..."
