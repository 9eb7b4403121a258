"""Tests of `llm-train doctor` with a deployed server and its worker."""

import json
import subprocess
import sys

import pytest

from tests.e2e.conftest import AUTH_STRING, eventually

OF_SERVER = ("server", "clock", "versions", "deployments", "worker")


@pytest.fixture
def doctor(platform):
    """Run `llm-train doctor` in the project of the platform; return the findings by check."""

    def doctor():
        done = subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()", "doctor", "--json"],
            cwd=platform.project,
            env=platform.env | {"PYTHONPATH": str(platform.project)},
            capture_output=True,
            text=True,
        )
        assert done.stderr == "Loading Prefect ...\n"
        assert AUTH_STRING.partition(":")[2] not in done.stdout
        return {each["check"]: each for each in json.loads(done.stdout)}

    return doctor


def eventually_found(doctor, check, found):
    """Wait until a check has found this; a busy server does not answer in time."""
    eventually(lambda: check in (findings := doctor()) and found in findings[check]["found"])


def test_a_deployed_server_with_a_worker_is_sound(doctor):
    expected = dict.fromkeys(OF_SERVER, "OK")

    def sound():
        found = doctor()
        levels = {name: found[name]["level"] for name in OF_SERVER if name in found}
        return found if levels == expected else None

    found = eventually(sound)
    assert found["deployments"]["found"] == "8 as in prefect.yaml."
    assert "worker-0" in found["worker"]["found"]


def test_a_deployment_that_was_changed_is_named_until_it_is_deployed_again(platform, doctor):
    deployment = platform.deployment("training-pipeline/nightly")
    [schedule] = deployment["schedules"]
    path = f"deployments/{deployment['id']}/schedules/{schedule['id']}"
    platform.api.patch(path, json={"active": False}).raise_for_status()
    try:
        changed = "not as in prefect.yaml: training-pipeline/nightly (schedules)."
        eventually_found(doctor, "deployments", changed)
    finally:
        platform.deploy()
    eventually_found(doctor, "deployments", "8 as in prefect.yaml.")
