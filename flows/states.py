"""Final states of flows, and how Prefect stores them."""

from typing import Any

from prefect.states import Failed

from flows.logs import log_error
from src.rendering.text import reason_first
from tasks.results import PlainSerializer

__all__ = ["FLOW_OPTIONS", "RunTimeoutError", "failed_state", "timed_out_state"]

FLOW_OPTIONS: dict[str, Any] = {"persist_result": False, "result_serializer": PlainSerializer()}
"""Options of every flow: no result is stored; the error of a failed run is stored as text.

What a run returns is stored below the artifacts root already. Prefect always stores errors; its
default form (pickle) can run code when it is read.
"""


def failed_state(error: Exception) -> Any:
    """Return a state that a flow returns in order to fail with `error`, and log the error.

    State and log have the message of the error in one line, as `reason_first` returns it, and
    nothing else. A raised error would add a prefix of Prefect, and tracebacks in the log of the run
    and of the worker. For a Python caller, the flow raises `error`.
    """
    return _failed(error, name="Failed")


class RunTimeoutError(TimeoutError):
    """Raised when a step of a run takes too long."""


def timed_out_state(error: RunTimeoutError) -> Any:
    """Return a state as `failed_state` does, with the name that Prefect gives to a timeout."""
    return _failed(error, name="TimedOut")


def _failed(error: Exception, *, name: str) -> Any:
    text = reason_first(error)
    log_error(error, text)
    return Failed(name=name, message=text, data=error)
