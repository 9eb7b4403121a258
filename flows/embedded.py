"""The server that a command brings along where there is none, and that ends with it."""

import time

from prefect.client.base import ServerType
from prefect.client.orchestration import get_client

__all__ = ["let_embedded_server_finish"]

QUIET_SECONDS = 3.0  # it writes down what it has every second
POLL_SECONDS = 0.5


def let_embedded_server_finish() -> None:
    """Wait until an embedded server has noted the steps of the runs so far.

    It is told of them while they run, notes them at a rate of its own, and what it has not when the
    process ends is lost to the UI. Any other server goes on by itself: there this does nothing.
    """
    ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}
    with get_client(sync_client=True) as client:
        if client.server_type is not ServerType.EPHEMERAL:
            return
        noted, changed = -1, time.monotonic()
        while time.monotonic() - changed < QUIET_SECONDS:
            response = client.request("POST", "/task_runs/count", json={"task_runs": ended})
            if noted != (noted := response.json()):
                changed = time.monotonic()
            time.sleep(POLL_SECONDS)
