"""Final states of flows."""

from typing import Any

from prefect.states import Failed

from src.rendering.text import printable

__all__ = ["failed_state"]


def failed_state(error: Exception) -> Any:
    """Return a state that a flow returns in order to fail with `error`.

    The run shows the message of the error and nothing else, where a raised error shows Prefect's
    words in front of it and a traceback in the log. A Python caller of the flow gets the error.
    """
    return Failed(message=printable(str(error)), data=error)
