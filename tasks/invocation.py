"""The flow run, as the provenance of what it makes tells of it."""

from datetime import UTC

from prefect.context import FlowRunContext
from prefect.utilities.urls import url_for

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
        # Not `runtime.flow_run.ui_url`: that is an old route, and `None/...` where there is no UI.
        url=url_for("flow-run", obj_id=context.flow_run.id),
        builder=BUILDER,
        started_on=f"{started.isoformat(timespec='milliseconds')}Z",
    )
