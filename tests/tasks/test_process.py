"""The process of a run in a terminal, as it is recorded and found."""

import os
import subprocess
import sys

import pytest

from tasks.process import _machine, _started, has_ended


def recorded(pid):
    return f"{_machine()}:{pid}:{_started(pid)}"


def test_a_process_has_ended_when_it_is_gone_or_not_yet_waited_for():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    text = recorded(process.pid)
    assert not has_ended(text)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended(text)
    process.wait()
    assert has_ended(text)


def test_another_process_with_the_same_id_is_not_that_of_the_run():
    assert has_ended(f"{_machine()}:{os.getpid()}:1")


@pytest.mark.parametrize(
    "text",
    ["", "1", "host:99", "other-boot:4026531836:99:5", ":", "::", f"{_machine()}:x:1", "a:b:c:d"],
)
def test_nothing_is_known_of_other_processes(text):
    assert not has_ended(text)
