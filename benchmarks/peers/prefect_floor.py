"""Prefect's floor: flows of five tasks that do nothing or only log, and keep their results."""

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
    """Log two lines, as a step of the pipeline does."""
    for _ in range(2):
        get_run_logger().info("Step %d of number %d only logs this line.", step, number)
    return number


@task(**KEPT)
async def logging_async(step: int, number: int) -> int:
    """Log two lines, in an asynchronous task."""
    return logging.fn(step, number)


@flow
def five_tasks(number: int) -> None:
    """Call five tasks that only log; a number of an earlier call is served from the cache."""
    for step in range(STEPS):
        logging(step, number)


@flow
async def five_async_tasks(number: int) -> None:
    """Call five asynchronous tasks that only log."""
    for step in range(STEPS):
        await logging_async(step, number)


@flow
def many(first: int, count: int) -> None:
    """Call five no-op tasks for each of many numbers, one after the other."""
    for number in range(first, first + count):
        for step in range(STEPS):
            nothing(step, number)
