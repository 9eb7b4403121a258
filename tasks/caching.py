"""When a step's earlier result may stand in for running it, and when a failed step is tried again.

A cache hit is a promise: a result is served only while the files it speaks of are as the step
left them. Prefect alone goes on serving it after they were deleted or changed.
"""

import os
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.logging import get_run_logger
from prefect.results import ResultStore
from prefect.types import DateTime

from src.source import CORE, source_digest
from src.storage import canonical_json, read, sha256

__all__ = [
    "DURABLE",
    "RESULTS",
    "SPOILED",
    "Journal",
    "Outcome",
    "Promise",
    "changed",
    "is_transient",
    "results_below",
]

RESULTS = ".cache"
TASKS = Path(__file__).parent
SPOILED = "what the cache holds of it is not what was put there"


@dataclass(frozen=True)
class Outcome:
    """Whether a step was served from the cache, and why or why not."""

    cached: bool
    why: str


@dataclass
class Journal:
    """What became of the steps of one run of the pipeline, by step.

    Attributes:
        earlier: Gives the keys of the results that earlier runs left, each also without the
            digest of its code.
        steps: Filled in as the steps are called.
    """

    earlier: Callable[[], AbstractSet[str]] = frozenset
    steps: dict[str, Outcome] = field(default_factory=dict)

    @property
    def cached(self) -> bool:
        """Whether every step was served from the cache."""
        return all(step.cached for step in self.steps.values())

    @contextmanager
    def kept(self) -> Iterator["Journal"]:
        """Note what becomes of the steps called within."""
        token = _JOURNAL.set(self)
        try:
            yield self
        finally:
            _JOURNAL.reset(token)


def _keys(results: Path) -> set[str]:
    names = set()
    with suppress(FileNotFoundError), os.scandir(results) as entries:
        names = {entry.name for entry in entries}
    return names | {name.rpartition("-")[0] for name in names}


_JOURNAL: ContextVar[Journal | None] = ContextVar("journal", default=None)


@dataclass(kw_only=True)
class Promise(CachePolicy):
    """Serve a step's earlier result only while it still holds.

    Its key is `<step>-<sha256>-<sha256>`: the first digest is over what `depends_on` gives, the
    second over the source of the core and of the tasks.

    Attributes:
        depends_on: Gets the task's inputs; gives the values that the result depends on.
        broken: Gets an earlier result and the task's inputs; tells from the files why the result
            no longer holds, or `None` if it does. An `OSError` or `ValueError` it raises is why.
    """

    depends_on: Callable[..., list[str]]
    broken: Callable[..., str | None]

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
        step, store = task_ctx.task.name, task_ctx.result_store
        journal = _JOURNAL.get() or Journal()
        seen = f"{step}-{sha256(canonical_json(parts))}"
        key = f"{seen}-{source_digest(CORE, TASKS)}"
        if (result := _recall(store, key)) is not None:
            why = self._why_broken(result, inputs)
            if why is not None:
                store.write(None, key, expiration=DateTime.now())
        elif key in journal.earlier():
            why = SPOILED
        elif seen in journal.earlier():
            why = "the code changed since this was last done"
        else:
            why = "this was not done before with these inputs"
        outcome = Outcome(why is None, why or "inputs, code and files are as they were")
        journal.steps[step] = outcome
        verb = "Served from the cache" if outcome.cached else "Runs"
        get_run_logger().info("%s: %s.", verb, outcome.why)
        return key

    def _why_broken(self, result: Any, inputs: dict[str, Any]) -> str | None:
        try:
            return self.broken(result, **inputs)
        except (OSError, ValueError) as error:
            return str(error)


def _recall(store: ResultStore, key: str) -> Any:
    """Give an earlier result; `None` where there is none, it was expired or cannot be read."""
    try:
        record = store.read(key)
    except (OSError, ValueError):
        return None
    return None if record.metadata.expiration else record.result


def changed(path: Path, expected: bytes) -> str | None:
    """Tell in which way a file is not what it must be; `None` if it is."""
    found = read(path)
    if found == expected:
        return None
    if found is None:
        return f"{path} is not there"
    return f"{path} is not as it was written"


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


class _Results(LocalFileSystem):
    """Files of one folder, by plain names.

    Prefect's own follows the links in the folder's path a dozen times a step, for keys that might
    lead out of it: ours cannot.
    """

    _block_type_name = "Step results"
    _block_type_slug = "step-results"

    def _resolve_path(self, path: str) -> Path:
        return Path(str(self.basepath), path)


@contextmanager
def results_below(artifacts_dir: str) -> Iterator[Journal]:
    """Keep the results of the steps called within in `<artifacts_dir>/.cache`.

    They are a convenience: with the folder deleted, steps run again and find their work done.

    Yields:
        What becomes of the steps.
    """
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("results_below: call it within a flow.")
    results = Path(artifacts_dir, RESULTS).resolve()
    storage = _Results(basepath=str(results))
    store = context.result_store.model_copy(update={"result_storage": storage})
    with (
        context.model_copy(update={"result_store": store}),
        Journal(cache(partial(_keys, results))).kept() as journal,
    ):
        yield journal
