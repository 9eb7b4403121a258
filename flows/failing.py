"""How a flow fails on what a person can put right."""

from typing import Any

from prefect.states import Failed

__all__ = ["failed"]


def failed(error: Exception) -> Any:
    """Give what a flow returns to fail with an error.

    The run then shows the error's text and no more, where one that raises shows the engine's words
    in front of it and a traceback in the log. Callers of the flow get the error itself.
    """
    return Failed(message=str(error), data=error)
