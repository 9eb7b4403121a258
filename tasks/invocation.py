"""The flow run, as the provenance of what it makes tells of it."""

from datetime import UTC

from prefect import runtime
from prefect.context import FlowRunContext

from src.provenance import Invocation

__all__ = ["this_run"]

BUILDER = "urn:llm-training-pipeline:builder:prefect"


def this_run() -> Invocation:
    """Give the flow run that the calling task is part of: its id, its page, its start."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return Invocation()
    started = context.start_time.astimezone(UTC).replace(tzinfo=None)
    return Invocation(
        id=str(context.flow_run.id),
        url=runtime.flow_run.ui_url,
        builder=BUILDER,
        started_on=f"{started.isoformat(timespec='milliseconds')}Z",
    )
