"""Commands under supervision, as real processes."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextvars import copy_context
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.supervision import command as module
from src.supervision.errors import CommandError, CommandStartError, CommandTimeoutError
from tests.supervision.conftest import DEADLINE, processes, wait_until

FOREVER = "import time; print('ready', flush=True); time.sleep(600)"
IGNORES_TERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"
SAVES = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    open("saved", "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""
DETACHES = """
import os, sys, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writing, str(os.getpid()).encode())
        time.sleep(600)
    os._exit(0)
os.wait()
print(os.read(reading, 20).decode(), flush=True)
time.sleep(SECONDS)
"""
DETACHES_AND_ENDS = DETACHES.replace("SECONDS", "0")
DETACHES_AND_STAYS = DETACHES.replace("SECONDS", "600")


class Stop(Exception):
    """Raised by a caller that wants no more lines."""


def stop(*_):
    raise Stop


def shown(program):
    """Return how messages show Python code in double quotes."""
    return f"{sys.executable} -c '{program}'"


# --- Ends ----------------------------------------------------------------------------------------


def test_the_lines_of_a_command_that_succeeds_are_delivered_with_their_streams(commands):
    code = "import sys; print('a'); print('b', file=sys.stderr, end='')"
    assert sorted(commands.run(code)) == [("stderr", "b"), ("stdout", "a")]


def test_a_line_is_delivered_while_the_command_runs(commands):
    code = "print('ready'); import sys, time; sys.stdout.write('half'); time.sleep(600)"
    with pytest.raises(Stop):
        commands.run(code, stop)
    assert commands.lines == [("stdout", "ready")]


def test_an_exit_code_is_an_error_with_the_last_line_first_and_then_the_last_lines(commands):
    code = 'print("step 1"); print("no memory"); raise SystemExit(3)'
    with pytest.raises(CommandError) as caught:
        commands.run(code)
    first = f"{shown(code)}: exited with code 3: no memory"
    assert str(caught.value) == f"{first}\nLast lines of its output:\nstep 1\nno memory"
    assert repr(caught.value) == f"CommandError({first!r})"


def test_an_error_of_a_named_command_has_its_name_and_quotes_no_stdout(commands):
    code = 'import sys; print("step 1"); sys.exit("no memory")'
    with pytest.raises(CommandError) as caught:
        commands.run(code, name="trainer mine")
    assert str(caught.value) == (
        "trainer mine: exited with code 1: no memory\nLast lines of its output:\nno memory"
    )


def test_the_message_has_the_last_20_lines_each_of_at_most_500_characters(commands):
    with pytest.raises(CommandError) as caught:
        commands.run("for i in range(30): print(i, 'x' * 1000)\nraise SystemExit(1)")
    lines = str(caught.value).partition("Last lines of its output:\n")[2].splitlines()
    assert lines == [f"{i} " + "x" * 497 for i in range(10, 30)]


def test_a_long_command_is_shortened_in_a_message(commands):
    with pytest.raises(CommandError) as caught:
        commands.run(["false", "x" * 1000])
    assert str(caught.value) == f"false {'x' * 194}...: exited with code 1. It had no output."


def test_a_signal_differs_from_the_exit_code_of_a_shell_for_it(commands):
    with pytest.raises(CommandError, match=r": was killed by signal SIGSEGV\. It had no output\.$"):
        commands.run("import os; os.kill(os.getpid(), 11)")
    with pytest.raises(CommandError, match=r": exited with code 139\. It had no output\.$"):
        commands.run("raise SystemExit(139)")
    with pytest.raises(CommandError, match=r": was killed by signal 40\. It had no output\.$"):
        commands.run("import os; os.kill(os.getpid(), 40)")


def test_a_program_that_does_not_exist_cannot_be_started(commands):
    with pytest.raises(CommandStartError) as caught:
        commands.run(["no-such-program", "--epochs", "3"])
    assert str(caught.value) == (
        "no-such-program --epochs 3: cannot be started: [Errno 2] No such file or directory: "
        "'no-such-program'."
    )


def test_a_file_that_is_not_executable_cannot_be_started(commands):
    (commands.folder / "train").touch(0o644)
    with pytest.raises(CommandStartError) as caught:
        commands.run(["./train"])
    assert str(caught.value) == (
        "./train: cannot be started: [Errno 13] Permission denied: './train'."
    )


def test_a_file_that_is_no_program_cannot_be_started(commands):
    (commands.folder / "train").touch(0o755)
    with pytest.raises(CommandStartError, match="Exec format error"):
        commands.run(["./train"])


def test_a_command_cannot_be_started_in_a_folder_that_does_not_exist(commands):
    missing = commands.folder / "missing"
    with pytest.raises(CommandStartError, match=f"No such file or directory: '{missing}'"):
        commands.run(["true"], cwd=missing)
    with pytest.raises(CommandStartError, match=f"No such file or directory: '{missing}/lock'"):
        commands.run(["true"], lock=missing / "lock")


def test_an_argument_with_a_null_character_cannot_be_passed(commands):
    with pytest.raises(CommandStartError, match="embedded null byte"):
        commands.run(["true", "\0"])


def test_a_system_without_proc_is_refused(commands, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(CommandStartError) as caught:
        commands.run(["true"])
    assert str(caught.value) == (
        "true: cannot be started. Expected Linux with /proc, found darwin."
    )


def test_a_command_may_close_its_output_and_continue(commands):
    code = """
import os, time
os.close(1), os.close(2)
time.sleep(0.2)
open("done", "w").close()
"""
    assert commands.run(code) == []
    assert (commands.folder / "done").exists()


# --- Timeout -------------------------------------------------------------------------------------


def test_a_command_that_runs_for_too_long_is_ended(commands):
    with pytest.raises(CommandTimeoutError) as caught:
        commands.run(["sleep", "600"], timeout_seconds=0.5)
    assert str(caught.value) == (
        "sleep 600: ended, because it was still running after 0.5 seconds. It had no output."
    )
    assert commands.left() == []


def test_a_command_that_ends_with_success_after_its_timeout_has_not_succeeded(commands):
    with pytest.raises(CommandTimeoutError):
        commands.run(SAVES, timeout_seconds=1.5)


def test_the_wait_for_the_lock_does_not_count_as_time_of_the_command(commands, in_thread):
    with commands.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = in_thread(lambda: commands.run(["sleep", "600"], timeout_seconds=0.1))
        wait_until(lambda: commands.lines != [])
        time.sleep(0.3)  # long enough for a timeout to show
        assert thread.is_alive()
    thread.join()
    assert isinstance(thread.error, CommandTimeoutError)
    assert commands.lines == [("stderr", f"{commands.lock}: locked by another run. Waiting.")]


# --- The end of a command by its caller ----------------------------------------------------------


def test_an_exception_of_the_caller_ends_the_command_first(commands):
    with pytest.raises(Stop):
        commands.run(FOREVER, stop)
    assert commands.left() == []


def test_a_command_can_save_its_work_and_print_before_it_is_ended(commands):
    with pytest.raises(Stop):
        commands.run(SAVES, stop, grace_seconds=60)
    assert (commands.folder / "saved").exists()


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace_period(commands):
    with pytest.raises(Stop):
        commands.run(IGNORES_TERM, stop, grace_seconds=0.1)
    assert commands.left() == []


def test_a_descendant_in_another_session_is_ended(commands):
    with pytest.raises(Stop):
        commands.run(DETACHES_AND_STAYS, stop)
    assert commands.left() == []


def test_a_descendant_that_a_successful_command_leaves_is_ended(commands):
    [(_, pid)] = commands.run(DETACHES_AND_ENDS)
    assert not Path("/proc", pid).exists()


def test_a_stopped_command_is_killed_after_the_grace_period(commands):
    def suspend(_, pid):
        os.kill(int(pid), signal.SIGSTOP)
        raise Stop

    with pytest.raises(Stop):
        commands.run(
            "import os, time; print(os.getpid()); time.sleep(600)", suspend, grace_seconds=0.1
        )
    assert commands.left() == []


@pytest.mark.parametrize("code", [FOREVER, IGNORES_TERM, DETACHES_AND_STAYS])
def test_all_processes_end_when_the_caller_is_killed(code, commands):
    caller = commands.caller(code, grace_seconds=0.1)
    caller.hear()
    assert len(commands.left()) >= 2
    caller.process.kill()
    commands.wait_until_gone()


def test_the_scratch_folder_is_removed_if_and_only_if_the_caller_is_killed(commands):
    scratch = commands.folder / "scratch"
    (scratch / "output").mkdir(parents=True)
    commands.run("pass", scratch=scratch)
    with pytest.raises(Stop):
        commands.run(FOREVER, stop, scratch=scratch)
    assert (scratch / "output").is_dir()
    caller = commands.caller(FOREVER, grace_seconds=0.1)
    caller.hear()
    caller.process.kill()
    commands.wait_until_gone()
    assert not scratch.exists()


@pytest.mark.parametrize("code", [FOREVER, IGNORES_TERM, DETACHES_AND_STAYS])
def test_all_processes_have_ended_when_an_interrupt_is_raised(code, commands):
    caller = commands.caller(code, grace_seconds=0.1)
    caller.hear()
    caller.process.send_signal(signal.SIGINT)
    assert caller.end() == "left: []"


def test_a_process_that_the_caller_forked_does_not_delay_the_end_of_the_command(start, tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from src.supervision.command import Command, run_command
from tests.supervision.conftest import DEADLINE, processes

forked = []
def on_line(stream, line):
    forked.append(os.fork())
    if forked == [0]:
        signal.pause()
    raise KeyError

folder = Path(sys.argv[1])
command = Command(
    argv=["sh", "-c", "echo ready; sleep 600"], cwd=folder, run_file=folder / "r", lock=folder / "l"
)
try:
    run_command(command, on_line=on_line)
except KeyError:
    print(processes(command.run_file))
os.kill(forked[0], signal.SIGKILL)
os.wait()
"""
    assert start(code, tmp_path).end() == "[]"


def test_a_second_interrupt_is_raised_while_the_command_is_ended(commands):
    code = SAVES.replace("sys.exit()", "")
    caller = commands.caller(f"{code}\ntime.sleep(600)", grace_seconds=60)
    assert caller.hear() == "ready"
    caller.process.send_signal(signal.SIGINT)
    wait_until((commands.folder / "saved").exists)
    caller.process.send_signal(signal.SIGINT)
    assert caller.hear().startswith("left: [")
    caller.process.communicate(timeout=60)
    for pid in commands.left():
        os.kill(pid, signal.SIGKILL)


def test_a_command_runs_in_a_thread(commands, in_thread):
    thread = in_thread(lambda: commands.run("print('a')"))
    thread.join()
    assert (thread.error, commands.lines) == (None, [("stdout", "a")])


def test_an_exception_that_another_thread_sets_ends_the_command(commands, in_thread):
    thread = in_thread(lambda: commands.run(FOREVER))
    wait_until(lambda: commands.lines != [])
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stop))
    thread.join()
    assert isinstance(thread.error, Stop)
    assert commands.left() == []


def test_a_command_in_a_thread_is_ended_when_the_event_of_its_context_is_set(commands, in_thread):
    stop = Event()
    with module.commands_until(stop):
        context = copy_context()
    thread = in_thread(lambda: context.run(commands.run, FOREVER))
    wait_until(lambda: commands.lines != [])
    stop.set()
    thread.join()
    assert isinstance(thread.error, KeyboardInterrupt)
    assert commands.left() == []


# --- The supervisor ------------------------------------------------------------------------------

PRINTS_PID = "import os; print(os.getpid(), flush=True)"


def send_to_supervisor(signum):
    """Return a function that sends a signal to the parent of the process that printed its id."""

    def send(_, line):
        if line.isdigit():
            stat = Path("/proc", line, "stat").read_text()
            os.kill(int(stat.rpartition(")")[2].split()[1]), signum)

    return send


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_command_that_ends_with_success_after_a_signal_has_not_succeeded(signum, commands):
    code = SAVES.replace('print("ready", flush=True)', PRINTS_PID)
    with pytest.raises(CommandError, match=r": ended by a signal to its supervisor\.\nLast lines"):
        commands.run(code, send_to_supervisor(signum), grace_seconds=60)
    assert (commands.folder / "saved").exists()


def test_a_command_dies_with_its_supervisor(commands):
    with pytest.raises(CommandError) as caught:
        commands.run(
            f"{PRINTS_PID}; import time; time.sleep(600)", send_to_supervisor(signal.SIGKILL)
        )
    assert (
        ": its supervisor was killed by signal SIGKILL. The processes that it left were killed.\n"
        "Last lines of its output:\n"
    ) in str(caught.value)
    assert commands.left() == []


DETACHES_AND_PRINTS_PIDS = DETACHES_AND_STAYS.replace("print(", "print(os.getpid(), ")


def kill_supervisor(stream, line):
    """Kill the supervisor of the process that printed its id first."""
    send_to_supervisor(signal.SIGKILL)(stream, line.split()[0])


def test_the_processes_that_a_killed_supervisor_left_are_killed(commands):
    with pytest.raises(CommandError, match="its supervisor was killed"):
        commands.run(DETACHES_AND_PRINTS_PIDS, kill_supervisor)  # the stray holds the output open
    assert commands.left() == []


def test_they_are_killed_before_an_exception_of_the_caller_is_raised(commands):
    def kill_and_stop(stream, line):
        kill_supervisor(stream, line)
        raise Stop

    with pytest.raises(Stop):
        commands.run(DETACHES_AND_PRINTS_PIDS, kill_and_stop)
    assert commands.left() == []


def test_those_that_a_killed_caller_left_are_killed_before_the_next_command(commands, monkeypatch):
    monkeypatch.setattr(module, "_kill_strays", lambda *_: None)
    with pytest.raises(CommandError, match="its supervisor was killed"):
        commands.run(DETACHES_AND_PRINTS_PIDS, kill_supervisor)
    [(_, line)] = commands.lines
    stray = int(line.split()[1])
    wait_until(lambda: commands.left() == [stray])
    check = f"import os; print(os.path.exists('/proc/{stray}/exe'))"
    assert commands.run(check) == [("stdout", "False")]


def test_a_caller_that_has_the_mark_of_the_lock_is_not_killed(commands, monkeypatch):
    commands.lock.touch()
    status = commands.lock.stat()
    monkeypatch.setenv("LLM_TRAIN_LOCK", f"{status.st_dev}:{status.st_ino}")
    assert commands.caller("print('a')").end() == "a"


def test_a_process_of_a_user_with_the_same_run_file_is_not_killed(commands):
    variables = {**os.environ, "LLM_TRAIN_RUN": str(commands.run_file)}
    with subprocess.Popen(["sleep", "600"], env=variables) as process:
        commands.run(["true"])
        assert process.poll() is None
        process.kill()


STOPS_SUPERVISOR = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP)"


def test_a_command_that_stops_its_supervisor_and_succeeds_has_succeeded(commands):
    assert commands.run(STOPS_SUPERVISOR) == []


def test_a_command_that_stops_its_supervisor_is_ended_after_its_timeout(commands):
    with pytest.raises(CommandTimeoutError):
        commands.run(f"{STOPS_SUPERVISOR}; time.sleep(600)", timeout_seconds=0.5)
    assert commands.left() == []


def test_a_command_that_stops_its_supervisor_again_and_again_is_ended(commands, monkeypatch):
    monkeypatch.setattr(module, "STOPPED_SECONDS", 0.3)
    code = """
import os, signal, time
while True:
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(0.01)
"""
    with pytest.raises(CommandError, match="its supervisor was killed by signal SIGKILL"):
        commands.run(code)
    commands.wait_until_gone()


def test_a_supervisor_that_a_debugger_stops_is_ended():
    def trace_me():
        assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0  # PTRACE_TRACEME

    with subprocess.Popen(["sleep", "600"], preexec_fn=trace_me) as process:
        os.waitpid(process.pid, os.WUNTRACED)  # it stops when the program starts
        since = module._continue(process, None)
        assert since is not None
        module._continue(process, since - module.STOPPED_SECONDS)
        assert process.wait() == -signal.SIGKILL


def test_kill_0_in_a_command_does_not_reach_the_supervisor(commands):
    with pytest.raises(CommandError, match=r": was killed by signal SIGKILL\."):
        commands.run(["sh", "-c", "kill -KILL 0"])


def test_orphans_that_end_leave_no_zombie(commands):
    code = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        os.fork()
        os._exit(0)
    os.wait()
def children():
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getppid():
            yield int(name)
while list(children()) != [os.getpid()]:
    time.sleep(0.01)
"""
    assert commands.run(code) == []


# --- The lock ------------------------------------------------------------------------------------


def test_commands_over_one_lock_never_overlap(commands, in_thread):
    code = """
import os, signal, time
os.close(os.open("busy", os.O_CREAT | os.O_EXCL))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    time.sleep(0.05)
    os.unlink("busy")
"""
    threads = [in_thread(lambda: commands.run(code, grace_seconds=60)) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert [thread.error for thread in threads] == [None] * 4


def test_an_exception_ends_the_wait_for_the_lock(commands):
    with commands.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Stop):
            commands.run(["touch", "started"], stop)
    assert commands.left() == []
    assert not (commands.folder / "started").exists()


def test_a_successor_waits_until_all_processes_of_a_killed_caller_have_ended(commands):
    code = DETACHES.replace("import", f"{IGNORES_TERM.partition(';')[0]}\nimport", 1)
    code = code.replace("reading,", "signal.signal(15, signal.SIG_IGN); reading,", 1)
    caller = commands.caller(code.replace("SECONDS", "600"), grace_seconds=0.5)
    pid = caller.hear()
    caller.process.kill()
    check = f"import os; print(os.path.exists('/proc/{pid}/exe'))"
    assert commands.run(check)[-1] == ("stdout", "False")


def test_a_successor_continues_a_stopped_supervisor_whose_caller_was_killed(commands, in_thread):
    caller = commands.caller(f"{PRINTS_PID}; import time; time.sleep(600)", grace_seconds=0.1)
    pid = caller.hear()
    caller.process.send_signal(signal.SIGSTOP)  # so that it does not continue its supervisor
    send_to_supervisor(signal.SIGSTOP)("stdout", pid)
    caller.process.kill()
    thread = in_thread(lambda: commands.run("print('a')"))
    thread.join(DEADLINE)
    assert commands.lines[-1] == ("stdout", "a")


# --- Environment ---------------------------------------------------------------------------------


def test_a_command_gets_the_variables_of_the_caller_without_those_of_prefect(commands, monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2")
    monkeypatch.setenv("PREFECT_API_KEY", "hunter2")
    monkeypatch.setenv("HF_HOME", "/models")
    for name in ("PYTHONHASHSEED", "PYTHONUNBUFFERED", "LLM_TRAIN_RUN"):
        monkeypatch.delenv(name, raising=False)
    lines = {line for _, line in commands.run(["env"])}
    assert {
        "HF_HOME=/models",
        "PYTHONHASHSEED=0",
        "PYTHONUNBUFFERED=1",
        f"LLM_TRAIN_RUN={commands.run_file}",
    } <= lines
    assert [line for line in lines if "hunter2" in line or line.startswith("PREFECT")] == []
    assert "LLM_TRAIN_RUN" not in os.environ


def test_variables_of_the_caller_come_before_the_defaults(commands, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    monkeypatch.setenv("HF_HOME", "/models")
    lines = {line for _, line in commands.run(["env"])}
    assert {"HF_HOME=/models", "PYTHONHASHSEED=1"} <= lines


def test_paths_may_be_relative_to_the_folder_of_the_caller(commands, monkeypatch):
    monkeypatch.chdir(commands.folder)
    (commands.folder / "project").mkdir()
    paths = {"cwd": Path("project"), "run_file": Path("run.json"), "lock": Path("lock")}
    lines = [line for _, line in commands.run(["sh", "-c", "pwd; echo $LLM_TRAIN_RUN"], **paths)]
    assert lines == [f"{commands.folder}/project", f"{commands.folder}/run.json"]
    assert commands.lock.exists()


def test_stdin_is_empty(commands):
    assert commands.run("import sys; print(repr(sys.stdin.read()))") == [("stdout", "''")]


def test_signals_of_a_terminal_reach_neither_the_command_nor_its_supervisor(commands):
    code = "import os; print([os.getsid(pid) == pid for pid in (os.getpid(), os.getppid())])"
    assert commands.run(code) == [("stdout", "[True, True]")]


def test_no_descriptor_is_open_in_the_command_or_left_in_the_caller(commands):

    def descriptors():
        return sorted(path.name for path in Path("/proc/self/fd").iterdir())

    before = descriptors()
    fds = "import os; print(sorted(os.listdir('/proc/self/fd')))"
    assert commands.run(fds) == [("stdout", "['0', '1', '2', '3']")]  # 3 lists the folder
    for argv in (["false"], ["no-such-program"], ["sh", "-c", "kill -9 $PPID"]):
        with pytest.raises(CommandError):
            commands.run(argv)
    with pytest.raises(CommandError):
        commands.run(["true"], cwd=commands.folder / "missing")
    with pytest.raises(Stop):
        commands.run(FOREVER, stop)
    assert descriptors() == before


# --- Output --------------------------------------------------------------------------------------


def lines_of(*chunks):
    lines = []
    output = module._Output("stdout", lambda _, line: lines.append(line))
    for chunk in chunks:
        output.feed(chunk)
    output.finish()
    return lines


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"", []),
        (b"a\r\nb\r", ["a", "b"]),
        (b"\r 10%\r 20%\ndone\n", [" 20%", "done"]),
        (b"10%\r20%\r\n", ["20%"]),
        (b"caf\xc3\xa9 \xff\n", ["caf\u00e9 \ufffd"]),
        (b"a\x00\x1b[31mb\n", ["a\x00\x1b[31mb"]),
        (b"x" * 65536 + b"\n", ["x" * 65536]),
        (b"x" * 70000 + b"\ny\n", ["x" * 65536 + " [4,464 more bytes]", "y"]),
        (b"x" * 70000 + b"\ry\n", ["y"]),
    ],
)
def test_output_is_split_into_lines_as_a_terminal_shows_them(data, expected):
    assert lines_of(data) == expected
    assert lines_of(*(data[i : i + 1] for i in range(len(data)))) == expected


@given(st.lists(st.text("ab\r\n\u00e9").map(str.encode)))
def test_lines_do_not_depend_on_how_the_output_is_read(chunks):
    assert lines_of(*chunks) == lines_of(b"".join(chunks))


def test_the_output_of_a_command_that_has_ended_is_complete(commands):
    code = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
print("ready", flush=True)
os.write(1, b"line\\n" * 200_000)  # 1,000,000 bytes
"""

    def wait(_, line):
        if line == "ready":
            wait_until(lambda: commands.left() == [])

    lines = commands.run(code, wait)
    assert lines == [("stdout", "ready"), *[("stdout", "line")] * 200_000]


def test_large_output_is_read_with_little_memory(start, tmp_path):
    code = """
import sys
from pathlib import Path
from src.supervision.command import Command, run_command

WRITE = {
    "lines": "import os\\nfor _ in range(200): os.write(1, (b'x' * 999 + b'\\\\n') * 1000)",
    "one line": "import os\\nfor _ in range(50): os.write(1, b'x' * 1000000)",
}

def peak():  # that of getrusage begins with the memory of the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

folder = Path(sys.argv[1])
for name, write in WRITE.items():
    count = 0
    def on_line(stream, line):
        global count
        count += len(line)
    before = peak()
    command = Command(
        argv=[sys.executable, "-c", write], cwd=folder, run_file=folder / "r", lock=folder / "lock"
    )
    run_command(command, on_line=on_line)
    assert peak() - before < 10_000, (name, before, peak())  # KiB
    print(name, count)
"""
    assert start(code, tmp_path).end().splitlines() == [
        "lines 199800000",
        f"one line {65536 + len(' [49,934,464 more bytes]')}",
    ]
    assert processes(tmp_path / "r") == []
