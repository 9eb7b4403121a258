"""Tests of ops.recovery with a real server: runs that lost their worker, and crashed runs."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from filelock import FileLock

from ops.recovery import automations
from ops.runs import processes
from tests.e2e.conftest import eventually
from tests.torture.harness import LONG

TRAIN = "training-pipeline/train"
AWAY_SECONDS, STARTED = (20, 4) if LONG else (10, 2)
NAMES = [automation.name for automation in automations()]
HEARTBEATS, PENDING, _, RETRY = NAMES


def recovery(platform):
    """Run ops.recovery; return its automations by name."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.recovery"],
        cwd=platform.project,
        env=platform.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return deployed(platform)


def deployed(platform):
    found = platform.post("automations/filter")
    return {each["name"]: each for each in found if each["name"] in NAMES}


@pytest.fixture(scope="module")
def recovered(platform):
    """The platform, with the automations."""
    recovery(platform)
    return platform


def new_run(platform, name, days=1):
    """Create a run for a later day; return its id."""
    deployment = platform.deployment(TRAIN)
    at = {"scheduled_time": (datetime.now(UTC) + timedelta(days=days)).isoformat()}
    state = {"type": "SCHEDULED", "state_details": at}
    parameters = deployment["parameters"] | {"model_version": name}
    body = {"state": state, "parameters": parameters}
    return platform.post(f"deployments/{deployment['id']}/create_flow_run", **body)["id"]


def set_state(platform, run, state):
    answer = platform.post(f"flow_runs/{run}/set_state", state={"type": state}, force=True)
    assert answer["status"] == "ACCEPT"


def states(platform, run):
    """Return the names and messages of all states of a run, in order."""
    found = platform.api.get("flow_run_states/", params={"flow_run_id": run}).json()
    return [(state["name"], state["message"]) for state in found]


def is_completed(platform, run):
    return platform.get(f"flow_runs/{run}")["state_name"] == "Completed"


def send_heartbeat(platform, run):
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [
            {"prefect.resource.id": "prefect.tag.training", "prefect.resource.role": "tag"}
        ],
    }
    platform.api.post("events", json=[event]).raise_for_status()


def test_a_second_call_changes_nothing_and_restores_an_edited_automation(platform):
    first = recovery(platform)
    assert set(first) == set(NAMES)
    assert recovery(platform) == first
    edit_within(platform, first[HEARTBEATS], 60)
    second = recovery(platform)
    assert second[RETRY] == first[RETRY]
    assert second[HEARTBEATS]["trigger"]["within"] == 300


def edit_within(platform, automation, seconds):
    body = {key: value for key, value in automation.items() if key not in ("id", "created")}
    body = body | {"trigger": automation["trigger"] | {"within": seconds}}
    body.pop("updated")
    response = platform.api.put(f"automations/{automation['id']}", json=body)
    assert response.is_success, response.text


def test_a_crashed_run_is_tried_again_once_and_a_cancelled_one_is_not(recovered):
    twice, cancelled, fence = (new_run(recovered, f"retried_{n}") for n in range(3))
    set_state(recovered, cancelled, "CANCELLED")
    set_state(recovered, twice, "CRASHED")
    eventually(lambda: is_completed(recovered, twice))
    assert ("AwaitingRetry", "tried once more after a crash") in states(recovered, twice)
    set_state(recovered, twice, "RUNNING")
    set_state(recovered, twice, "CRASHED")
    set_state(recovered, fence, "CRASHED")
    eventually(lambda: is_completed(recovered, fence))
    found = [recovered.get(f"flow_runs/{run}")["state_name"] for run in (twice, cancelled)]
    assert found == ["Crashed", "Cancelled"]


def test_a_run_without_heartbeats_is_crashed_and_tried_again_and_an_ended_one_is_not(recovered):
    edit_within(recovered, deployed(recovered)[HEARTBEATS], 10)
    try:
        lost, ended = (new_run(recovered, f"heartbeat_{n}") for n in range(2))
        for run in (ended, lost):
            set_state(recovered, run, "RUNNING")
            send_heartbeat(recovered, run)
        set_state(recovered, ended, "COMPLETED")
        eventually(lambda: is_completed(recovered, lost))
        message = "its worker was gone: no heartbeat for 300 seconds"
        assert ("Crashed", message) in states(recovered, lost)
        assert [name for name, _ in states(recovered, ended)] == [
            "Scheduled",
            "Running",
            "Completed",
        ]
    finally:
        recovery(recovered)


def test_a_run_that_does_not_start_is_crashed_and_tried_again(recovered):
    edit_within(recovered, deployed(recovered)[PENDING], 10)
    try:
        lost = new_run(recovered, "pending")
        set_state(recovered, lost, "PENDING")
        eventually(lambda: is_completed(recovered, lost))
        message = "its worker was gone: not started after 900 seconds"
        assert ("Crashed", message) in states(recovered, lost)
    finally:
        recovery(recovered)


def test_runs_that_start_or_crash_while_the_server_is_away_complete_after_one_retry(recovered):
    crashed = new_run(recovered, "crashed")
    set_state(recovered, crashed, "RUNNING")
    started = [new_run(recovered, f"away_{n}", days=0) for n in range(STARTED)]
    eventually(lambda: any(len(states(recovered, run)) > 1 for run in started))
    recovered.server.kill()
    time.sleep(AWAY_SECONDS)
    recovered.start_server()
    set_state(recovered, crashed, "CRASHED")
    for run in (crashed, *started):
        eventually(lambda run=run: is_completed(recovered, run))
        retries = [name for name, _ in states(recovered, run)].count("AwaitingRetry")
        assert retries == 1 if run == crashed else retries <= 1


def test_a_run_whose_process_is_killed_is_tried_again(recovered):
    models = recovered.project / "artifacts/models"
    models.mkdir(exist_ok=True)
    with FileLock(models / "registry.json.lock", preserve_lock_file=True):
        run = new_run(recovered, "killed", days=0)
        eventually((models / "killed/metadata.json").exists)
        [process] = eventually(lambda: [each.pid for each in processes() if each.run_id == run])
        os.kill(process, signal.SIGKILL)
    eventually(lambda: is_completed(recovered, run))
    assert [name for name, _ in states(recovered, run)].count("AwaitingRetry") == 1
