"""Tests of ops.recovery without a server; tests/e2e has those with one."""

import tomllib
from datetime import timedelta
from pathlib import Path

from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from ops import recovery

ROOT = Path(__file__).parents[2]


def test_a_run_is_lost_after_several_missed_heartbeats():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["prefect"]
    assert 5 * settings["flows"]["heartbeat_frequency"] <= recovery.HEARTBEAT_SECONDS


def test_a_crashed_run_is_tried_again_once_as_long_as_the_server_keeps_it():
    _, _, first_crash, _ = recovery.automations()
    document = (ROOT / "docs/operations.md").read_text()
    [seconds] = [
        int(line.split("=")[1].split()[0])
        for line in document.splitlines()
        if "DB_VACUUM_RETENTION_PERIOD=" in line
    ]
    assert first_crash.trigger.within == timedelta(seconds=seconds)


def test_a_server_that_cannot_be_reached_is_an_error(capsys):
    settings = {PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(settings):
        assert recovery.main([]) == 1
    assert capsys.readouterr() == (
        "",
        "error: Prefect server: ConnectError: All connection attempts failed\n",
    )
