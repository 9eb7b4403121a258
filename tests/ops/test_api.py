"""Tests of ops.api, with a real server for the states of runs."""

import os
import subprocess
import sys
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from filelock import FileLock

import flows.report
import ops.api
from ops.api import Api
from ops.runs import Run
from ops.server import ServerProcess, listen
from ops.up import _mark_lost_runs
from tests.conftest import REPOSITORY
from tests.network import STARTUP_SECONDS

CONFIG_PATH = "configs/training/mistral_finetune.yaml"
AUTH_STRING = "without a colon"  # which Prefect accepts


@pytest.fixture(scope="module")
def url(tmp_path_factory, homes):
    """The URL of the API of a server."""
    home = homes.create(tmp_path_factory.mktemp("prefect"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(home), "PREFECT_SERVER_UI_ENABLED": "false"}
    env["PREFECT_SERVER_API_AUTH_STRING"] = AUTH_STRING
    with (home / "server.log").open("w+b") as log:
        server = ServerProcess(listen(), env=env, log=log)
        try:
            server.wait_until_ready(STARTUP_SECONDS)
            yield server.api_url
        finally:
            server.stop()


@pytest.fixture
def api(url):
    return Api(url, AUTH_STRING, "training")


@pytest.fixture
def client(url):
    headers = {"Authorization": f"Basic {b64encode(AUTH_STRING.encode()).decode()}"}
    with httpx.Client(base_url=f"{url}/", headers=headers, timeout=120) as client:
        yield client


@pytest.mark.parametrize(
    ("state", "crashed", "cancelled"),
    [
        ("PENDING", "CRASHED", "CANCELLED"),
        ("RUNNING", "CRASHED", "CANCELLED"),
        ("CANCELLING", "CANCELLED", "CANCELLED"),
        ("COMPLETED", "COMPLETED", "COMPLETED"),
        ("FAILED", "FAILED", "FAILED"),
        ("CRASHED", "CRASHED", "CRASHED"),
    ],
)
def test_a_run_is_crashed_or_cancelled_unless_it_has_ended(api, client, state, crashed, cancelled):
    flow = client.post("flows/", json={"name": "a flow"}).json()["id"]
    found = []
    for change in (api.crash, api.cancel):
        run = client.post("flow_runs/", json={"flow_id": flow}).json()["id"]
        body = {"state": {"type": state, "message": "its state"}, "force": True}
        client.post(f"flow_runs/{run}/set_state", json=body).raise_for_status()
        # The state that was read before may be that of a run which has ended meanwhile.
        entered_state = datetime(2026, 1, 1, tzinfo=UTC)
        change(Run(id=run, state="CANCELLING", entered_state=entered_state), "gone")
        after = client.get(f"flow_runs/{run}").json()["state"]
        assert after["message"] == ("its state" if after["type"] == state else "gone")
        found.append(after["type"])
    assert found == [crashed, cancelled]


def test_a_worker_has_polled_once_it_has_sent_a_heartbeat_after_a_time(api, client):
    api.create_pool({})
    before = datetime.now(UTC) - timedelta(days=1)
    assert not api.has_polled("up-host", before)
    for name in ("up-host", "another"):
        worker = {"name": name, "heartbeat_interval_seconds": 30}
        client.post("work_pools/training/workers/heartbeat", json=worker).raise_for_status()
    assert api.has_polled("up-host", before)
    assert not api.has_polled("up-host", before + timedelta(days=2))
    assert not api.has_polled("up", before)


def test_a_run_in_a_terminal_is_crashed_once_its_process_is_gone(api, client, url, project):
    api.create_pool({})
    models = Path("artifacts/models")
    models.mkdir(exist_ok=True)
    variables = {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": AUTH_STRING}
    command = [sys.executable, "-c", "from cli.main import main; main()", "run", CONFIG_PATH]
    with FileLock(models / "registry.json.lock", preserve_lock_file=True):
        env = os.environ | variables | {"PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(command, env=env)
        try:
            while not list(models.glob("*/metadata.json")):
                assert process.poll() is None
                time.sleep(0.1)
            [run] = api.active_runs_without_worker()
            _mark_lost_runs(api, "up-host", datetime.now(UTC))
            assert client.get(f"flow_runs/{run.id}").json()["state_type"] == "RUNNING"
        finally:
            process.kill()
            process.wait()
    _mark_lost_runs(api, "up-host", datetime.now(UTC))
    state = client.get(f"flow_runs/{run.id}").json()["state"]
    assert (state["name"], state["message"]) == (
        "Crashed",
        "its process was gone; run the command again",
    )


def test_the_table_that_is_created_empty_is_the_one_that_runs_update():
    assert ops.api.TABLE_KEY == flows.report.TABLE_KEY
