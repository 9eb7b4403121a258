"""Tests of the checks of Prefect's side, with small servers."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version

import pytest

from ops import doctor
from ops.answer import Server
from ops.doctor import (
    _expected,
    check_server,
    clock_finding,
    home_finding,
    place_of,
    version_finding,
    worker_finding,
)
from src.diagnosis.finding import Finding
from tests.network import answering, free_port, json_answer

NOW = datetime(2026, 11, 29, 10, tzinfo=UTC)
PLACE = "http://server/api"


def respond(path, **changed):
    """Return what a sound server with a worker answers."""
    deployments = [
        {
            "name": each.name.partition("/")[2],
            "flow_id": f"id of {each.name.partition('/')[0]}",
            "entrypoint": each.entrypoint,
            "parameters": each.parameters,
            "schedules": [
                {"active": active, "schedule": {"cron": text[5:], "timezone": zone}}
                for text, zone, active in each.schedules
            ],
            "work_pool_name": each.work_pool,
            "pull_steps": [
                {"prefect.deployments.steps.set_working_directory": {"directory": each.folder}}
            ],
            "paused": False,
        }
        for each in _expected()
    ]
    flows = {each["flow_id"] for each in deployments}
    answers = {
        "/api/admin/version": version("prefect"),
        "/api/flows/filter": [{"id": flow, "name": flow[6:]} for flow in flows],
        "/api/deployments/filter": deployments,
        "/api/work_pools/filter": [{"name": "training", "is_paused": False}],
        "/api/work_pools/training/workers/filter": [
            {"name": "up-here", "status": "ONLINE"},
            {"name": "old", "status": "OFFLINE"},
        ],
    } | changed
    return answers[path]


def findings(answer, **options):
    """Return the findings about a server by check."""
    with answering(answer) as (url, _):
        found = list(check_server(Server(f"{url}/api"), PLACE, **options))
    by_check = {each.check: each for each in found}
    assert len(by_check) == len(found)
    return by_check


def sound(**changed):
    """Return an answer to each request, with other values for some paths."""
    return lambda path: [json_answer(respond(path, **changed))]


# --- A server ------------------------------------------------------------------------------------


def test_a_sound_server_has_no_faults():
    found = findings(sound())
    assert {name: each.level for name, each in found.items()} == dict.fromkeys(
        ["server", "clock", "versions", "deployments", "worker"], "OK"
    )
    assert found["server"].found == f"{PLACE}: answers."
    assert found["deployments"].found == "8 as in prefect.yaml."
    assert found["worker"].found == "online in the work pool 'training': up-here."


def test_the_clock_is_compared_with_that_of_the_server():
    date = format_datetime(datetime.now(UTC) - timedelta(hours=2), usegmt=True)
    found = findings(lambda path: [json_answer(respond(path), date=date)])
    assert found["clock"].level == "WARNING"
    assert "s ahead of that of the server" in found["clock"].found


def test_another_release_of_the_server_is_a_warning():
    found = findings(sound(**{"/api/admin/version": "3.1.4"}))["versions"]
    assert (found.level, found.found) == (
        "WARNING",
        f"Prefect {version('prefect')} here, 3.1.4 on the server.",
    )


def test_prefect_cloud_has_no_version_that_is_compared():
    assert [*findings(sound(), is_cloud=True)] == ["server", "clock", "deployments", "worker"]


@pytest.mark.parametrize(
    ("changed", "check", "level", "found"),
    [
        ({"/api/deployments/filter": []}, "deployments", "WARNING", "none of prefect.yaml"),
        ({"/api/work_pools/filter": []}, "worker", "WARNING", "no work pool 'training' on the"),
        (
            {"/api/work_pools/training/workers/filter": []},
            "worker",
            "FAULT",
            "no worker of the work pool 'training' is online.",
        ),
        (
            {"/api/work_pools/filter": [{"is_paused": True}]},
            "worker",
            "WARNING",
            "the work pool 'training' is paused",
        ),
    ],
    ids=str,
)
def test_what_is_missing_on_a_server_is_named(changed, check, level, found):
    finding = findings(sound(**changed))[check]
    assert (finding.level, finding.found.startswith(found)) == (level, True)


# --- Hostile servers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (json_answer({}, 401), "401: the login is refused."),
        (json_answer({}, 404), "answered HTTP status 404. Expected 200."),
        (json_answer(["3.9"]), "not the API of a Prefect server."),
        (json_answer("3.9\x1b[2K"), "not the API of a Prefect server."),
        (json_answer("3." + "9" * 100), "not the API of a Prefect server."),
        (b"\x00" * 100, "no server answers: RemoteProtocolError."),
    ],
    ids=repr,
)
def test_a_server_that_answers_rubbish_is_one_fault_and_is_asked_nothing_more(answer, found):
    with answering(lambda _: [answer]) as (url, requests):
        server, clock = check_server(Server(f"{url}/api"), PLACE)
    assert (server.level, server.found) == ("FAULT", f"{PLACE}: {found}")
    assert "PREFECT_API_" in server.action
    assert (clock.check, clock.level) == ("clock", "OK")
    assert [path for path, _ in requests] == ["/api/admin/version"]


@pytest.mark.parametrize("start", [b"", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_server_that_never_ends_its_answer_is_one_fault(monkeypatch, start):
    monkeypatch.setattr(doctor, "SECONDS", 0.5)
    end = threading.Event()

    def answer(_):
        yield start
        while not end.wait(0.05):
            yield b"X: y\r\n" if start else b""

    with answering(answer) as (url, _):
        server, _ = check_server(Server(f"{url}/api"), PLACE)
        end.set()
    assert server == Finding(
        check="server",
        level="FAULT",
        found=f"{PLACE}: no result after 0.5 s.",
        action=doctor.START,
    )


def test_no_server_at_the_port_is_one_fault():
    server, _ = check_server(Server(f"http://127.0.0.1:{free_port()}/api"), PLACE)
    assert server.level == "FAULT"
    assert server.found.startswith(f"{PLACE}: no server answers: ")


@pytest.mark.parametrize("value", [1, "x", None, [1], [{}], {"a": 1}, [[]], [{"name": {}}]])
@pytest.mark.parametrize("path", ["/api/flows/filter", "/api/deployments/filter"])
def test_deployments_in_an_unknown_form_are_one_fault(path, value):
    finding = findings(sound(**{path: value}))["deployments"]
    assert finding.level == "FAULT"
    assert finding.found.startswith(PLACE)


@pytest.mark.parametrize("value", [1, "x", [1], [{}], {"a": 1}, [[]]])
@pytest.mark.parametrize(
    "path", ["/api/work_pools/filter", "/api/work_pools/training/workers/filter"]
)
def test_workers_in_an_unknown_form_are_one_fault(path, value):
    assert findings(sound(**{path: value}))["worker"].level == "FAULT"


# --- Facts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "server", "level", "found"),
    [
        (NOW, None, "OK", "2026-11-29 10:00:00 UTC."),
        (NOW, NOW, "OK", "2026-11-29 10:00:00 UTC, as that of the server."),
        (NOW, NOW + timedelta(seconds=60), "OK", "2026-11-29 10:00:00 UTC, as that of the server."),
        (
            NOW,
            NOW + timedelta(seconds=61),
            "WARNING",
            "2026-11-29 10:00:00 UTC, 61 s behind that of the server.",
        ),
        (
            NOW,
            NOW - timedelta(days=1),
            "WARNING",
            "2026-11-29 10:00:00 UTC, 86,400 s ahead of that of the server.",
        ),
        (NOW.replace(year=1970), None, "FAULT", "1970-11-29 10:00:00 UTC."),
        (NOW.replace(year=2023), NOW, "FAULT", "2023-11-29 10:00:00 UTC."),
    ],
)
def test_a_clock_that_differs_is_a_warning_and_one_that_was_never_set_a_fault(
    now, server, level, found
):
    finding = clock_finding(now, server)
    assert (finding.level, finding.found) == (level, found)


@pytest.mark.parametrize(
    ("client", "server", "level"),
    [("3.9.1", "3.9.7", "OK"), ("3.9.1", "3.8.1", "WARNING"), ("3.9.1", "4.9.1", "WARNING")],
)
def test_patch_releases_are_compatible(client, server, level):
    assert version_finding(client, server).level == level


@pytest.mark.parametrize(
    ("online", "is_paused", "level"),
    [(["a"], False, "OK"), (["a"], True, "WARNING"), ([], False, "FAULT"), ([], True, "FAULT")],
)
def test_a_work_pool_needs_a_worker_that_is_online(online, is_paused, level):
    assert worker_finding("p", online, is_paused=is_paused).level == level


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://127.0.0.1:4200/api", "http://127.0.0.1:4200/api"),
        ("https://user:secret@host/api", "https://host/api"),
        ("https://user:se@cret@host/api?token=secret#secret", "https://host/api"),
        ("http://[secret/api", "the URL of the server"),
        ("http://host/\x1b[2K", "http://host/\\x1b[2K"),
    ],
)
def test_a_place_has_no_credentials(url, place):
    assert place_of(url) == place


def test_a_home_folder_that_can_be_written_is_named_with_its_profile(tmp_path):
    finding = home_finding(tmp_path / "new/home", "up")
    assert finding == Finding(
        check="prefect", level="OK", found=f"home {tmp_path}/new/home, profile up."
    )
    assert [*tmp_path.iterdir()] == []


def test_a_home_folder_below_a_file_is_a_fault(tmp_path):
    (tmp_path / "file").touch()
    assert home_finding(tmp_path / "file/home", "").level == "FAULT"
    assert home_finding(tmp_path / "file", "").level == "FAULT"
