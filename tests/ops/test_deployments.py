"""Tests of the comparison of prefect.yaml with the deployments of a server."""

from copy import deepcopy
from dataclasses import replace

import pytest
import yaml

from ops.deployments import (
    DEPLOY,
    Deployment,
    compare_deployments,
    expected_deployments,
    flow_name,
)
from tests.conftest import REPOSITORY

FLOW = """
from prefect import flow

def helper(): ...

@flow(name="my-flow", retries=3)
def main(): ...

@flow
def other_flow(): ...
"""
PROJECT = {
    "deployments": [
        {
            "name": "nightly",
            "entrypoint": "flows/my.py:main",
            "parameters": {"config": "c.yaml"},
            "schedules": [{"cron": "0 2 * * *", "timezone": "UTC", "active": True}],
            "work_pool": {"name": "training"},
        },
        {"name": "b", "entrypoint": "flows/my.py:other_flow", "work_pool": {"name": "training"}},
    ]
}
FOLDER = "/srv/project"
RESPONSE = {
    "name": "nightly",
    "entrypoint": "flows/my.py:main",
    "parameters": {"config": "c.yaml"},
    "schedules": [
        {
            "active": True,
            "schedule": {"cron": "0 2 * * *", "timezone": "UTC", "day_or": True},
            "slug": None,
        }
    ],
    "work_pool_name": "training",
    "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": FOLDER}}],
    "paused": False,
}


def expected(project=PROJECT):
    return expected_deployments(project, FOLDER, lambda path: FLOW)


def changed(**values):
    """Return a finding about the server, where the first deployment has other values."""
    one, two = expected()
    return compare_deployments([one, two], [replace(one, **values), two])


# --- Reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "name"),
    [("main", "my-flow"), ("other_flow", "other-flow"), ("helper", "helper"), ("no_one", "no-one")],
)
def test_a_flow_has_the_name_of_its_decorator_or_of_its_function(function, name):
    assert flow_name(FLOW, function) == name


def test_the_deployments_of_a_project_are_those_of_its_file():
    assert expected() == [
        Deployment(
            name="my-flow/nightly",
            entrypoint="flows/my.py:main",
            parameters={"config": "c.yaml"},
            schedules=(("cron 0 2 * * *", "UTC", True),),
            work_pool="training",
            folder=FOLDER,
        ),
        Deployment(
            name="other-flow/b",
            entrypoint="flows/my.py:other_flow",
            parameters={},
            schedules=(),
            work_pool="training",
            folder=FOLDER,
        ),
    ]


def test_a_response_of_the_server_is_the_same_deployment():
    assert Deployment.from_response(RESPONSE, "my-flow") == expected()[0]


@pytest.mark.parametrize(
    ("written", "answered"),
    [
        ({"interval": 3600}, {"interval": 3600.0, "anchor_date": "x", "timezone": "UTC"}),
        ({"rrule": "FREQ=DAILY"}, {"rrule": "FREQ=DAILY", "timezone": "UTC"}),
        (
            {"cron": "0 4 * * *", "timezone": "Asia/Tokyo"},
            {"cron": "0 4 * * *", "timezone": "Asia/Tokyo"},
        ),
        ({"cron": "0 4 * * *"}, {"cron": "0 4 * * *", "timezone": None, "day_or": True}),
    ],
    ids=str,
)
def test_a_schedule_is_the_same_in_the_file_and_on_the_server(written, answered):
    project, response = deepcopy(PROJECT), deepcopy(RESPONSE)
    project["deployments"][0]["schedules"] = [written]
    response["schedules"] = [{"active": True, "schedule": answered}]
    found = Deployment.from_response(response, "my-flow")
    assert found.schedules == expected(project)[0].schedules


@pytest.mark.parametrize("place", ["project", "deployment"])
def test_the_folder_is_not_compared_if_other_steps_provide_the_code(place):
    project = deepcopy(PROJECT)
    steps = [{"prefect.deployments.steps.git_clone": {"repository": "r"}}]
    (project if place == "project" else project["deployments"][0])["pull"] = steps
    found = Deployment.from_response({**RESPONSE, "pull_steps": steps}, "my-flow")
    assert expected(project)[0] == found
    assert found.folder is None


def test_the_names_of_this_project_are_those_of_its_flows():
    project = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    found = expected_deployments(project, FOLDER, lambda path: (REPOSITORY / path).read_text())
    assert [each.name for each in found] == [
        *("training-pipeline/train", "training-pipeline/nightly", "training-pipeline/on-dataset"),
        *("training-sweep/sweep", "dataset-published/configs", "audit-models/nightly"),
        *("compare-models/compare", "verify-models/retrain"),
    ]


# --- Comparing -----------------------------------------------------------------------------------


def test_equal_deployments_are_sound():
    finding = compare_deployments(expected(), expected())
    assert (finding.level, finding.found) == ("OK", "2 as in prefect.yaml.")


def test_a_server_without_the_deployments_is_a_warning():
    finding = compare_deployments(expected(), [])
    assert (finding.level, finding.found, finding.action) == (
        "WARNING",
        "none of prefect.yaml is on the server.",
        DEPLOY,
    )


@pytest.mark.parametrize(
    ("values", "level", "found"),
    [
        ({"entrypoint": "x"}, "FAULT", "not as in prefect.yaml: my-flow/nightly (entrypoint)."),
        ({"parameters": {}}, "FAULT", "not as in prefect.yaml: my-flow/nightly (parameters)."),
        ({"schedules": ()}, "FAULT", "not as in prefect.yaml: my-flow/nightly (schedules)."),
        (
            {"schedules": (("cron 0 2 * * *", "UTC", False),), "work_pool": None},
            "FAULT",
            "not as in prefect.yaml: my-flow/nightly (schedules, work pool).",
        ),
        ({"folder": "/x"}, "WARNING", "of another folder: my-flow/nightly (in /x)."),
        ({"is_paused": True}, "WARNING", "paused: my-flow/nightly."),
    ],
    ids=str,
)
def test_what_differs_is_named(values, level, found):
    finding = changed(**values)
    assert (finding.level, finding.found) == (level, found)


def test_missing_and_further_deployments_are_named():
    one, two = expected()
    finding = compare_deployments([one, two], [one, replace(one, name="my-flow/mine")])
    assert (finding.level, finding.found, finding.action) == (
        "FAULT",
        "missing: other-flow/b; not in prefect.yaml: my-flow/mine.",
        f"{DEPLOY} Delete the others with `prefect deployment delete`, or add them.",
    )


def test_a_further_deployment_alone_is_a_warning():
    one, two = expected()
    finding = compare_deployments([one, two], [one, two, replace(one, name="my-flow/mine")])
    assert finding.level == "WARNING"
