"""When a step's earlier result may stand in for running it, and when a failed step is tried again.

A cache hit is a promise: a result is served only while the files it speaks of are as the step
left them. Prefect alone goes on serving it after they were deleted or changed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.logging import get_run_logger
from prefect.types import DateTime

from src.source import CORE, source_digest
from src.storage import canonical_json, sha256

__all__ = ["DURABLE", "Promise", "is_transient", "results_below"]

RESULTS = ".cache"


@dataclass
class Promise(CachePolicy):
    """Serve a step's earlier result only while it still holds.

    Its key is `<step>-<sha256>`, over what `depends_on` gives and the source of the core and of
    the tasks.

    Attributes:
        depends_on: Gets the task's inputs; gives the values that the result depends on.
        kept: Gets an earlier result and the task's inputs; tells from the files whether it still
            holds. An `OSError` or `ValueError` it raises means no.
    """

    depends_on: Callable[..., list[str]] = list
    kept: Callable[..., bool] = bool

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002  # Prefect's signature
        **kwargs: Any,  # noqa: ARG002
    ) -> str | None:
        """Give the key, after expiring a result under it that no longer holds."""
        try:
            parts = self.depends_on(**inputs)
        except (OSError, ValueError):
            return None  # the step will meet the same fault, and report it
        code = source_digest(CORE, Path(__file__).parent)
        key = f"{task_ctx.task.name}-{sha256(canonical_json([code, *parts]))}"
        store = task_ctx.result_store
        if store.exists(key):
            try:
                holds = self.kept(store.read(key).result, **inputs)
            except (OSError, ValueError):
                holds = False
            if not holds:
                get_run_logger().info(
                    "The files are not as an earlier run of this step left them: it runs again."
                )
                store.write(None, key, expiration=DateTime.now())
        return key


def is_transient(
    task: Task[..., Any],  # noqa: ARG001  # Prefect's signature
    task_run: TaskRun,  # noqa: ARG001
    state: State[Any],
) -> bool:
    """Tell whether a failed step may succeed on another try.

    I/O errors and lock time-outs may; a missing file, and anything that is wrong with the input,
    will be the same the next time.
    """
    return isinstance(state.data, OSError) and not isinstance(state.data, FileNotFoundError)


DURABLE: dict[str, Any] = {
    "persist_result": True,
    "result_serializer": "json",
    "retries": 3,
    "retry_delay_seconds": [1, 2, 4],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
}
"""What all steps have in common: kept results, and up to three further tries."""


@contextmanager
def results_below(artifacts_dir: str) -> Iterator[None]:
    """Keep the results of the steps called within in `<artifacts_dir>/.cache`.

    They are a convenience: with the folder deleted, steps run again and find their work done.
    """
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("results_below: call it within a flow.")
    storage = LocalFileSystem(basepath=str(Path(artifacts_dir, RESULTS).resolve()))
    store = context.result_store.model_copy(update={"result_storage": storage})
    with context.model_copy(update={"result_store": store}):
        yield
