"""The flow run as an invocation, for the statements that its steps write."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC

from prefect.context import FlowRunContext
from prefect.utilities.urls import url_for

from src.environment import PREFECT_BUILDER, Invocation

__all__ = ["flow_invocation", "one_invocation"]

WORKER_VARIABLE = "PREFECT__WORKER_NAME"  # set by Prefect in the process of a worker's flow run
MAX_WORKER = 200  # characters

_WITHOUT_FLOW: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


@contextmanager
def one_invocation() -> Iterator[None]:
    """Use one invocation for all steps that are called in the block without a flow run."""
    token = _WITHOUT_FLOW.set(Invocation())
    try:
        yield
    finally:
        _WITHOUT_FLOW.reset(token)


def flow_invocation() -> Invocation:
    """Return the flow run of the calling task: its id, page, start and worker."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return _WITHOUT_FLOW.get() or Invocation()
    started = context.start_time.astimezone(UTC).isoformat(timespec="milliseconds")
    return Invocation(
        id=str(context.flow_run.id),
        # `runtime.flow_run.ui_url` is an old route, and `None/...` without a UI.
        url=url_for("flow-run", obj_id=context.flow_run.id),
        builder=PREFECT_BUILDER,
        started_on=started.replace("+00:00", "Z"),
        worker=_worker(),
    )


def _worker() -> str | None:
    """Return the name of the worker that started this process; `None` without one."""
    name = os.environ.get(WORKER_VARIABLE, "")
    return name[:MAX_WORKER] if name.isprintable() and name.strip() else None
