"""Tests of ops.api, with a real server for the states of runs."""

import os
from datetime import UTC, datetime

import httpx
import pytest

import flows.report
import ops.api
from ops.api import Api
from ops.runs import Run
from ops.server import ServerProcess, listen
from tests.network import STARTUP_SECONDS


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The URL of the API of a server."""
    home = tmp_path_factory.mktemp("prefect")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(home), "PREFECT_SERVER_UI_ENABLED": "false"}
    with (home / "server.log").open("w+b") as log:
        server = ServerProcess(listen(), env=env, log=log)
        try:
            server.wait_until_ready(STARTUP_SECONDS)
            yield server.api_url
        finally:
            server.stop()


@pytest.fixture
def api(url):
    return Api(url, "", "training")


@pytest.fixture
def client(url):
    with httpx.Client(base_url=f"{url}/", timeout=120) as client:
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


def test_the_table_that_is_created_empty_is_the_one_that_runs_update():
    assert ops.api.TABLE_KEY == flows.report.TABLE_KEY
