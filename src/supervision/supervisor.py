"""Run a command, and end it with all its descendants when the caller closes the connection.

    python -I -S supervisor.py LOCK GRACE_SECONDS TIMEOUT_SECONDS SCRATCH ARGV...

A program that imports nothing of this project, so that it starts fast. Its stdin is a socket to the
caller; LOCK is locked, `flock(2)`, until the last descendant has ended. The report, one line
written to the socket, says why the command ended, and its exit code or negated signal. If the
caller is gone by then, the folder SCRATCH is removed, unless that argument is empty.

    exited CODE     it ended without a request
    timeout CODE    it was still running after TIMEOUT_SECONDS
    stopped CODE    the supervisor received SIGTERM, SIGINT or SIGHUP
    failed REASON   it, or the supervisor, could not be started
"""

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

CALLER = 0  # the socket
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.05
LOOK_SECONDS = 1.0
MARK = "LLM_TRAIN_LOCK"
"""Variable of the environment that marks the processes of a command."""

prctl = ctypes.CDLL(None).prctl


class StopRequested(Exception):
    """Raised when the caller is gone, or a signal asks the supervisor to stop."""


class Supervisor:
    """A command and its descendants, which become children of this process when orphaned.

    Attributes:
        code: Exit code or negated signal of the command; `None` while it runs.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._signals, wakeup = os.pipe()
        for end in (self._signals, wakeup):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(each, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a thread of the caller may block signals
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def lock(self, path: str) -> str:
        """Lock a file, as soon as it is free, until this process ends; return the mark for it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        is_waiting, next_look = False, 0.0
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if not is_waiting:
                print(f"{path}: locked by another run. Waiting.", file=sys.stderr, flush=True)  # noqa: T201
            is_waiting = True
            if time.monotonic() > next_look:
                next_look = time.monotonic() + LOOK_SECONDS
                continue_others()
            self.wait(POLL_SECONDS)
        return lock_mark(descriptor)

    def start(self, argv: list[str], mark: str) -> None:
        """Start the command."""
        supervisor = os.getpid()

        def die_with_supervisor() -> None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != supervisor:  # which was killed before this took effect
                os._exit(1)

        # Not released: an object that is deleted reaps its process.
        self._process = subprocess.Popen(  # noqa: S603  # the command of a user
            argv,
            stdin=subprocess.DEVNULL,
            env={**os.environ, MARK: mark},
            start_new_session=True,  # `kill 0` in the command does not reach this process
            preexec_fn=die_with_supervisor,  # this process has one thread
        )

    def wait(self, seconds: float) -> None:
        """Wait until a child has ended, at most `seconds`; raise on a request to stop."""
        ready, _, _ = select.select([CALLER, self._signals], [], [], seconds)
        if CALLER in ready or (self._signals in ready and self._received() - {signal.SIGCHLD}):
            raise StopRequested

    def has_children(self) -> bool:
        """Reap the children that have ended; return whether any is left."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if self._process and pid == self._process.pid:
                    self.code = os.waitstatus_to_exitcode(status)
        return False

    def end(self, grace_seconds: float) -> None:
        """End all descendants.

        The command ends its own children in the order it needs. Those that it leaves become
        children of this process, and get the signals in their turn.
        """
        deadline = time.monotonic() + grace_seconds
        terminated: set[int] = set()
        while self.has_children():
            found = set(_children())  # not reaped, so no pid of an unrelated process
            if time.monotonic() < deadline:
                _send(found - terminated, signal.SIGTERM)
                terminated |= found
            else:
                _send(found, signal.SIGKILL)
            if select.select([self._signals], [], [], POLL_SECONDS)[0]:
                self._received()

    def _received(self) -> set[int]:
        return set(os.read(self._signals, 512))


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  # fast


def _stat(pid: int) -> list[bytes]:
    """Return the state of a process, its parent, and so on; see proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _children() -> Iterator[int]:
    """Yield the children of this process."""
    for pid in _pids():
        with suppress(OSError):
            if _parent(pid) == os.getpid():
                yield pid


def _ancestors() -> set[int]:
    """Return this process, its parent, and so on, as far as they can be seen."""
    pid, found = os.getpid(), set()
    with suppress(OSError):
        while pid:
            found.add(pid)
            pid = _parent(pid)
    return found


def _marked(variable: bytes) -> Iterator[int]:
    """Yield the processes that have a variable in their environment."""
    for pid in _pids():
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if variable in file.read().split(b"\0"):
                yield pid


def lock_mark(descriptor: int) -> str:
    """Return the value of `MARK` for an open lock file."""
    status = os.fstat(descriptor)
    return f"{status.st_dev}:{status.st_ino}"


def _program_and_lock(pid: int) -> list[bytes]:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().split(b"\0")[3:5]


def continue_others() -> None:
    """Continue the supervisors over the same lock that were stopped, and whose caller was killed.

    One of them may hold the lock. It then ends its command.
    """
    own = _program_and_lock(os.getpid())
    for pid in _pids():
        with suppress(OSError):
            if _stat(pid)[0] == b"T" and _program_and_lock(pid) == own:
                os.kill(pid, signal.SIGCONT)


def kill_strays(mark: str, wait: Callable[[float], object]) -> None:
    """Kill the processes that a killed supervisor left; wait until they have ended.

    The caller of this function has locked the lock. It and its ancestors are not killed: a user may
    have set the variable.
    """
    own = _ancestors()
    while strays := [pid for pid in _marked(f"{MARK}={mark}".encode()) if pid not in own]:
        _send(strays, signal.SIGKILL)
        wait(POLL_SECONDS)


def _send(pids: set[int] | list[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def supervise(lock: str, grace_seconds: float, timeout_seconds: float, argv: list[str]) -> str:
    """Run a command until it and all its descendants have ended; return the report."""
    supervisor = Supervisor()
    reason = "exited"
    try:
        mark = supervisor.lock(lock)
        kill_strays(mark, supervisor.wait)
        supervisor.start(argv, mark)
        deadline = time.monotonic() + timeout_seconds
        while supervisor.has_children() and supervisor.code is None:
            left = deadline - time.monotonic()
            if left <= 0:
                reason = "timeout"
                break
            supervisor.wait(min(left, 3600))
    except StopRequested:
        reason = "stopped"
    except (OSError, subprocess.SubprocessError) as error:
        return f"failed {error}"
    supervisor.end(grace_seconds)
    return f"{reason} {supervisor.code}"


if __name__ == "__main__":
    lock, grace, timeout, scratch, *argv = sys.argv[1:]
    report = supervise(lock, float(grace), float(timeout), argv)
    try:
        os.write(CALLER, report.encode(errors="replace"))
    except OSError:  # the caller is gone
        if scratch:
            subprocess.run(["rm", "-rf", "--", scratch], check=False)  # noqa: S603, S607
