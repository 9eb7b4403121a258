"""Compare the deployments of prefect.yaml with those of a server."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.diagnosis.finding import Finding, fault, ok, warning
from src.rendering.text import truncated_list

__all__ = ["Deployment", "Schedule", "compare_deployments", "expected_deployments", "flow_name"]

CHECK = "deployments"
SET_FOLDER = "prefect.deployments.steps.set_working_directory"
DEPLOY = "Run `prefect deploy --all` in this folder, or `make up`."
KINDS = ("cron", "interval", "rrule")  # of schedules
FIELDS = ("entrypoint", "parameters", "schedules", "work_pool")  # that are compared

Schedule = tuple[str, str, bool]
"""When, e.g. `cron 0 2 * * *`; the time zone; whether it is active."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """What `prefect deploy` sets of a deployment.

    Attributes:
        name: Flow and deployment, e.g. `training-pipeline/train`.
        entrypoint: The flow function, e.g. `flows/training_pipeline.py:training_pipeline`.
        parameters: Its parameters.
        schedules: Its schedules, sorted.
        work_pool: The name of its work pool.
        folder: The folder where workers run the flow; `None` if other steps provide the code.
        is_paused: Whether it is paused.
    """

    name: str
    entrypoint: str
    parameters: Mapping[str, Any]
    schedules: tuple[Schedule, ...]
    work_pool: str | None
    folder: str | None
    is_paused: bool = False

    @classmethod
    def from_response(cls, value: Mapping[str, Any], flow: str) -> "Deployment":
        """Return a deployment of a flow from the server's JSON; see `ops.answer.expected_form`."""
        steps = [item for step in value["pull_steps"] or () for item in step.items()]
        is_local = [name for name, _ in steps] == [SET_FOLDER]
        schedules = [{**each["schedule"], "active": each["active"]} for each in value["schedules"]]
        return cls(
            name=f"{flow}/{value['name']}",
            entrypoint=value["entrypoint"],
            parameters=value["parameters"],
            schedules=_schedules(schedules),
            work_pool=value["work_pool_name"],
            folder=steps[0][1]["directory"] if is_local else None,
            is_paused=value["paused"],
        )


def expected_deployments(
    project: Mapping[str, Any], folder: str, read: Callable[[str], str]
) -> list[Deployment]:
    """Return the deployments that `prefect deploy --all` creates in a folder.

    Args:
        project: The contents of prefect.yaml.
        folder: The folder, where prefect.yaml is.
        read: Returns the source of a file in the folder.
    """
    deployments = []
    for each in project["deployments"]:
        path, _, function = each["entrypoint"].rpartition(":")
        deployments.append(
            Deployment(
                name=f"{flow_name(read(path), function)}/{each['name']}",
                entrypoint=each["entrypoint"],
                parameters=each.get("parameters") or {},
                schedules=_schedules(each.get("schedules") or ()),
                work_pool=each["work_pool"]["name"],
                folder=None if project.get("pull") or each.get("pull") else folder,
            )
        )
    return deployments


def flow_name(source: str, function: str) -> str:
    """Return the name of the flow that a function of a module is, from the source of the module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            for keyword in _keywords(node.decorator_list):
                if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
    return function.replace("_", "-")


def _keywords(decorators: Sequence[ast.expr]) -> Iterator[ast.keyword]:
    for each in decorators:
        if isinstance(each, ast.Call):
            yield from each.keywords


def _schedules(values: Sequence[Mapping[str, Any]]) -> tuple[Schedule, ...]:
    """Return schedules of prefect.yaml or of the server in one form, sorted."""
    found = []
    for value in values:
        [kind] = [kind for kind in KINDS if value.get(kind) is not None]
        text = f"{kind} {float(value[kind]) if kind == 'interval' else value[kind]}"
        found.append((text, value.get("timezone") or "UTC", value.get("active", True) is not False))
    return tuple(sorted(found))


def compare_deployments(expected: Sequence[Deployment], found: Sequence[Deployment]) -> Finding:
    """Return whether the deployments of a server are those of prefect.yaml.

    Args:
        expected: See `expected_deployments`.
        found: The deployments of the same flows on the server.
    """
    by_name = {each.name: each for each in found}
    names = {each.name for each in expected}
    if names.isdisjoint(by_name):
        return warning(CHECK, "none of prefect.yaml is on the server.", DEPLOY)
    missing = [each.name for each in expected if each.name not in by_name]
    differing, elsewhere = [], []
    for each in expected:
        if (other := by_name.get(each.name)) is None:
            continue
        fields = [*_differing(each, other)]
        if fields:
            differing.append(f"{each.name} ({', '.join(fields)})")
        elif each.folder not in (None, other.folder):
            elsewhere.append(f"{each.name} (in {other.folder})")
    paused = [each.name for each in found if each.is_paused and each.name in names]
    extra = [each.name for each in found if each.name not in names]
    parts = {
        "missing": missing,
        "not as in prefect.yaml": differing,
        "of another folder": elsewhere,
        "paused": paused,
        "not in prefect.yaml": extra,
    }
    text = "; ".join(f"{what}: {truncated_list(which)}" for what, which in parts.items() if which)
    if not text:
        return ok(CHECK, f"{len(expected)} as in prefect.yaml.")
    actions = [
        DEPLOY if missing or differing or elsewhere else "",
        "Resume the paused ones in the UI." if paused else "",
        "Delete the others with `prefect deployment delete`, or add them." if extra else "",
    ]
    finding = fault if missing or differing else warning
    return finding(CHECK, f"{text}.", " ".join(filter(None, actions)))


def _differing(expected: Deployment, found: Deployment) -> Iterator[str]:
    for name in FIELDS:
        if getattr(found, name) != getattr(expected, name):
            yield name.replace("_", " ")
