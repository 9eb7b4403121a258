"""What Prefect itself costs: flows of five tasks that do nothing but log, with kept results."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import INPUTS

KEPT: dict[str, Any] = {
    "cache_policy": INPUTS,
    "persist_result": True,
    "result_serializer": "json",
}
STEPS = 5


def _nothing(step: int, number: int) -> int:
    for _ in range(2):  # as the pipeline's steps do
        get_run_logger().info("Step %d of number %d did nothing, and says so.", step, number)
    return number


nothing = task(**KEPT)(_nothing)


@task(**KEPT)
async def nothing_async(step: int, number: int) -> int:
    """Do nothing, asynchronously."""
    return _nothing(step, number)


@flow
def five_tasks(number: int) -> None:
    """Call five tasks; a number seen before finds their results."""
    for step in range(STEPS):
        nothing(step, number)


@flow
async def five_async_tasks(number: int) -> None:
    """Call five asynchronous tasks."""
    for step in range(STEPS):
        await nothing_async(step, number)


@flow
def many(count: int) -> None:
    """Call five tasks for each of many numbers."""
    for number in range(count):
        for step in range(STEPS):
            nothing(step, number)
