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


@task(**KEPT)
def nothing(step: int, number: int) -> int:  # noqa: ARG001
    """Do nothing."""
    return number


@task(**KEPT)
def logging(step: int, number: int) -> int:
    """Log two lines, as the pipeline's steps do."""
    for _ in range(2):
        get_run_logger().info("Step %d of number %d did nothing, and says so.", step, number)
    return number


@task(**KEPT)
async def logging_async(step: int, number: int) -> int:
    """Log two lines, in a task that is asynchronous."""
    return logging.fn(step, number)


@flow
def five_tasks(number: int) -> None:
    """Call five tasks that only log; a number seen before finds their results."""
    for step in range(STEPS):
        logging(step, number)


@flow
async def five_async_tasks(number: int) -> None:
    """Call five asynchronous tasks that only log."""
    for step in range(STEPS):
        await logging_async(step, number)


@flow
def many(first: int, count: int) -> None:
    """Call five tasks that do nothing for each of many numbers, one after the other."""
    for number in range(first, first + count):
        for step in range(STEPS):
            nothing(step, number)
