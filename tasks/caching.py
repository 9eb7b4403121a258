"""Cache policy and retries of the steps.

A cached result is served only while the files that the step read or wrote are unchanged. Prefect
alone would serve it after they were deleted or edited.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger
from prefect.results import ResultStore
from prefect.settings import get_current_settings

from src.artifacts import Artifacts
from src.environment import CORE, source_digest
from src.records.canonical import canonical_json, sha256
from src.records.layout import METADATA_LIMIT, STATEMENT_FILE
from src.storage import Location, StorePath, open_path
from src.supervision.errors import CommandStartError, CommandTimeoutError
from src.training.attempt import TrainerFailedError
from tasks.results import (
    PlainSerializer,
    StepCall,
    StepResults,
    StoredResult,
    begin_call,
    file_digests,
)

__all__ = [
    "ALTERED_RESULT",
    "STEP_OPTIONS",
    "CacheDecision",
    "DecisionLog",
    "VerifiedResult",
    "difference_reason",
    "is_transient",
    "is_transient_error",
    "model_statement",
    "step_results",
]

TASKS = Path(__file__).parent
_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    CommandStartError,
    CommandTimeoutError,
    TrainerFailedError,
)
UNCHANGED = "inputs, code and files are unchanged"
NO_RESULT = "no valid cached result for these inputs and this code"
FAILED = "the last run of this step failed"
ALTERED_RESULT = "the cached result is unreadable or altered"


@dataclass(frozen=True, slots=True)
class CacheDecision:
    """Whether a step was served from the cache, and the reason."""

    is_cached: bool
    reason: str


@dataclass
class DecisionLog:
    """The cache decisions of the steps of one config.

    Attributes:
        steps: The decision by step, in the order of the calls.
    """

    steps: dict[str, CacheDecision] = field(default_factory=dict)

    @property
    def is_cached(self) -> bool:
        """Whether every step was served from the cache."""
        return all(step.is_cached for step in self.steps.values())

    @contextmanager
    def recording(self) -> Iterator["DecisionLog"]:
        """Record the decisions of the steps that are called in the block."""
        token = _LOG.set(self)
        try:
            yield self
        finally:
            _LOG.reset(token)


_LOG: ContextVar[DecisionLog | None] = ContextVar("decisions", default=None)


@dataclass(kw_only=True)
class VerifiedResult(CachePolicy):
    """Serve a cached result only if the files that it describes are unchanged.

    The cache key is `<step>-<sha256>-<sha256>`: a digest of the values that the step depends on,
    and a digest of the source of the core and of the tasks. Paths are no such values: a result lies
    below the root that it belongs to, and another spelling of a path is the same file.

    Attributes:
        depends_on: Receives the inputs of the task; returns the values that its result depends on.
        as_named: Receives a cached result and the inputs of the task; returns the result with its
            path as these inputs name it.
        stale_reason: Receives a cached result and the inputs of the task; returns why the result
            is stale, or `None`. An `OSError` or `ValueError` that it raises is such a reason.
        files: Receives the inputs of the task; returns files. The result is served only while these
            files are unchanged.
    """

    depends_on: Callable[..., list[str]]
    as_named: Callable[..., Any] = lambda result, **_: result
    stale_reason: Callable[..., str | None]
    files: Callable[..., Sequence[StorePath]] = lambda **_: ()

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002  # Prefect's signature
        **kwargs: Any,  # noqa: ARG002
    ) -> str | None:
        """Return the cache key; decide whether its stored result is served, and log why."""
        results = _step_results(task_ctx.result_store)
        call = self.begin(task_ctx.task.name, inputs, results)
        if call is None:
            return None
        verb = "Served from the cache" if call.cached else "Runs"
        get_run_logger().info("%s: %s.", verb, call.reason)
        return call.key

    def begin(self, step: str, inputs: dict[str, Any], results: StepResults) -> StepCall | None:
        """Begin a call of a step: decide whether its stored result is served.

        Args:
            step: The name of the step.
            inputs: Its inputs by name.
            results: The stored results.

        Returns:
            The call, which is now the current one; `None` if an input cannot be read. Then the step
            itself raises the error.
        """
        begin_call(None)
        try:
            parts, files = self.depends_on(**inputs), self.files(**inputs)
        except (OSError, ValueError):
            return None
        key = f"{step}-{sha256(canonical_json(parts))}-{source_digest(CORE, TASKS)}"
        stored, reason = _load(results, key)
        if stored is not None and reason is None:
            stored, reason = self._checked(stored, files, inputs)
        decision = CacheDecision(reason is None, reason or UNCHANGED)
        cached, stale = (stored, None) if decision.is_cached else (None, stored)
        call = StepCall(key=key, cached=cached, stale=stale, files=files, reason=decision.reason)
        begin_call(call)
        if (log := _LOG.get()) is not None:
            log.steps[step] = decision
        return call

    def _checked(
        self, stored: StoredResult, files: Sequence[StorePath], inputs: dict[str, Any]
    ) -> tuple[StoredResult, str | None]:
        """Return the result as these inputs name it, and why it is stale, or `None`."""
        try:
            stored = replace(stored, value=self.as_named(stored.value, **inputs))
            reason = self.stale_reason(stored.value, **inputs)
            return stored, reason or _changed_file(stored, files)
        except (OSError, ValueError) as error:
            return stored, str(error)


def _step_results(store: ResultStore) -> StepResults:
    """Return the storage of the results of a step.

    Any other storage than `StepResults` is replaced: Prefect's own reads a file with the serializer
    that the file names.
    """
    if not isinstance(store.result_storage, StepResults):  # called outside of `step_results`
        folder = get_current_settings().results.local_storage_path
        store.result_storage = StepResults.in_folder(open_path(folder))
    return store.result_storage


def _load(results: StepResults, key: str) -> tuple[StoredResult | None, str | None]:
    """Return a stored result, and the reason why it is not served; `None` if it may be."""
    try:
        stored = results.stored(key)
    except (OSError, ValueError):
        return None, ALTERED_RESULT
    if stored is None:
        return None, NO_RESULT
    return (stored, FAILED) if stored.has_failed else (stored, None)


def _changed_file(stored: StoredResult, files: Sequence[StorePath]) -> str | None:
    found = file_digests(files)
    if stored.files.keys() != found.keys():
        return ALTERED_RESULT
    for file in files:
        if found[file.key] != stored.files[file.key]:
            what = "was added" if stored.files[file.key] is None else "was changed"
            return f"{file} {what if found[file.key] else 'does not exist'}"
    return None


@contextmanager
def step_results(artifacts: Artifacts) -> Iterator[DecisionLog]:
    """Store the results of the steps that the block calls, in `.cache/` of the artifacts root.

    The results only save time: if they are deleted, the steps run again and change nothing.

    Yields:
        The cache decisions of those steps.
    """
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("step_results: no flow run. Call it within a flow.")
    storage = StepResults.in_folder(artifacts.cache)
    store = context.result_store.model_copy(update={"result_storage": storage})
    with (
        context.model_copy(update={"result_store": store}),
        DecisionLog().recording() as decisions,
    ):
        yield decisions


def model_statement(model_version: str, artifacts_dir: Location, **_: object) -> list[StorePath]:
    """Return the statement of a model, as `files` of a `VerifiedResult`."""
    return [Artifacts.open(artifacts_dir).models / model_version / STATEMENT_FILE]


def difference_reason(path: StorePath, expected: bytes) -> str | None:
    """Return how a file differs from its expected bytes; `None` if it does not."""
    found = path.read(METADATA_LIMIT)
    if found == expected:
        return None
    return f"{path} does not exist" if found is None else f"{path} was changed"


def is_transient(
    task: Task[..., Any],  # noqa: ARG001  # Prefect's signature
    task_run: TaskRun,  # noqa: ARG001
    state: State[Any],
) -> bool:
    """Return whether a failed step may succeed on another try; see `is_transient_error`."""
    return is_transient_error(state.data)


def is_transient_error(error: object) -> TypeGuard[OSError]:
    """Return whether a step that failed with an error may succeed on another try.

    I/O errors and lock timeouts are transient, and so is the failure of a trainer that had reported
    a step: it continues from its checkpoints. A missing file, a missing permission, a file in place
    of a folder, invalid input, and a trainer that fails from the start are permanent.
    """
    return isinstance(error, OSError) and not isinstance(error, _PERMANENT)


STEP_OPTIONS: dict[str, Any] = {
    "persist_result": True,
    "result_serializer": PlainSerializer(),
    "retries": 3,
    "retry_delay_seconds": [1, 2, 4],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
}
"""Options of every step: persisted results, and up to three retries of a transient error."""
