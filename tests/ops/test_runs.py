"""Tests of ops.runs: which runs have lost their process, with processes as values and real ones."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.runs import Process, Run, kill, lost_runs, own_processes, processes

STARTED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
BEFORE, AFTER = STARTED - timedelta(minutes=5), STARTED + timedelta(seconds=1)
NOW = STARTED + timedelta(seconds=30)
EXECUTING = Process(pid=100, environ={"PREFECT__FLOW_RUN_ID": "executed"})
OTHER = Process(pid=200, environ={"HOME": "/"})
UNREADABLE = Process(pid=300, environ=None)


def run(**changes):
    """Return a run that is Running on this worker, whose process is gone."""
    values = {
        "id": "lost",
        "state": "RUNNING",
        "entered_state": BEFORE,
        "worker": "up-host",
        "pid": 99,
    }
    return Run(**(values | changes))


def is_lost(candidate):
    """Return whether a run is one that has lost its process."""
    found = [EXECUTING, OTHER, UNREADABLE]
    return lost_runs([candidate], found, "up-host", STARTED, NOW) == [candidate]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"state": "CANCELLING"},
        {"entered_state": AFTER},
        {"pid": None},
        {"pid": 100},  # used again by a process of another run
        {"pid": 200},  # used again by a process of no run
        {"state": "PENDING"},
        {"state": "PENDING", "worker": None, "pid": None},
    ],
    ids=str,
)
def test_a_run_of_this_worker_without_a_process_is_lost(changes):
    assert is_lost(run(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "executed"},
        {"id": "executed", "pid": None},
        {"pid": 300},  # of another user: it can be that of the run
        {"worker": "up-another-host"},
        {"worker": "ProcessWorker 1"},
        {"state": "PENDING", "entered_state": AFTER},  # the worker is starting it
        {"state": "PENDING", "worker": None, "entered_state": AFTER},
        {"state": "PENDING", "worker": None, "entered_state": STARTED - timedelta(seconds=29)},
        {"worker": None, "entered_state": NOW},  # its worker has not labelled it yet
    ],
    ids=str,
)
def test_a_live_run_and_a_run_of_another_worker_are_not_lost(changes):
    assert not is_lost(run(**changes))


def test_a_run_is_read_from_a_response_of_the_server():
    response = {
        "id": "1",
        "state_type": "RUNNING",
        "state": {"timestamp": "2026-01-01T11:55:00.000000Z"},
        "labels": {"prefect.worker.name": "up-host"},
        "infrastructure_pid": "99",
    }
    assert Run.from_response(response) == run(id="1")
    unlabelled = response | {"labels": {}, "infrastructure_pid": None}
    assert Run.from_response(unlabelled) == run(id="1", worker=None, pid=None)
    on_a_host = response | {"infrastructure_pid": "host:99"}  # of a release of Prefect before 3.8
    assert Run.from_response(on_a_host) == run(id="1", pid=None, process="host:99")


def test_the_processes_of_a_worker_are_found_and_killed_and_others_are_not(tmp_path):
    own = {"PREFECT_HOME": str(tmp_path), "PREFECT__WORKER_NAME": "up-host"}
    environments = [
        own | {"PREFECT__FLOW_RUN_ID": "1"},
        own | {"PREFECT__FLOW_RUN_ID": "2", "PREFECT_HOME": "/elsewhere"},
        own | {"PREFECT__FLOW_RUN_ID": "3", "PREFECT__WORKER_NAME": "another"},
        own,
    ]
    code = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=os.environ | env, stdout=subprocess.PIPE)
        for env in environments
    ]
    try:
        for process in started:
            process.stdout.readline()
        [found] = own_processes(processes(), "up-host", Path(tmp_path))
        assert (found.pid, found.run_id) == (started[0].pid, "1")
        kill([found])
        assert started[0].wait(60) == -9
        assert [process.poll() for process in started[1:]] == [None, None, None]
        kill([found])  # it has ended
    finally:
        for process in started:
            process.kill()
            process.communicate()
