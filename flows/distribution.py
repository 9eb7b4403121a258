"""Sweeps on many machines: each config is a flow run of the deployment `training-pipeline/train`.

The runs are executed by the workers that serve the deployment's work pool. A sweep that is stopped
leaves them running, and finds them when it is run again.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows.steps import recorded_steps
from flows.trials import OnDone, Trial
from src.artifacts import Artifacts, read_metadata, read_statement
from src.components.component import COMMAND
from src.evaluation.evaluator import load_evaluation
from src.evaluation.measuring import recorded_evaluator
from src.records.canonical import canonical_json, is_same_json, sha256
from src.records.statement import Statement
from src.rendering.text import one_line
from src.storage import StorePath
from src.training.config import ConfigFile, read_config_file
from src.training.leaderboard import SweptModel

__all__ = ["run_distributed"]

DEPLOYMENT = "training-pipeline/train"
TAG = "sweep"
POLL_SECONDS = 2.0
PAGE = 200  # flow runs that the API returns at most
# The automations of `ops.recovery` schedule a run again, the first time that it crashes, after 30 s
# in another crashed state.
CRASHED_SECONDS = 90.0
AWAY_SECONDS = 600.0  # for which the server may not answer

T = TypeVar("T")


def run_distributed(
    trials: Sequence[Trial], artifacts: Artifacts, in_flight: int, on_done: OnDone
) -> None:
    """Run every config in a separate flow run; afterwards each has its model or its error.

    A config that is done already, by the record, is not run. A flow run of an earlier sweep that
    has not ended is waited for.

    Args:
        trials: The configs.
        artifacts: The artifacts root, which all workers reach by the same absolute path or address.
        in_flight: The largest number of flow runs that have not ended.
        on_done: Called after each config.

    Raises:
        ValueError: The server has no deployment `training-pipeline/train`.
        OSError: The server did not answer for ten minutes. The flow runs continue.
    """
    waiting, active = deque(trials), dict[UUID, Trial]()
    with get_client(sync_client=True) as client:
        runs = _Runs(client, artifacts)
        try:
            while waiting or active:
                while waiting and len(active) < in_flight:
                    trial = waiting.popleft()
                    if _is_done(trial, artifacts):
                        on_done([trial])
                    else:
                        active[runs.start(trial)] = trial
                for ended in runs.ended(list(active)):
                    trial = active.pop(ended.id)
                    _finish(trial, ended, artifacts)
                    on_done([trial])
                if active:
                    time.sleep(POLL_SECONDS)
        finally:
            if active:
                get_run_logger().warning(
                    "%d flow runs were started and continue. Run the sweep again to wait for them.",
                    len(active),
                )


class _Runs:
    """The flow runs of configs on the server."""

    def __init__(self, client: SyncPrefectClient, artifacts: Artifacts) -> None:
        self._client = client
        self._root = _absolute(artifacts.root)
        try:
            self._deployment = _patiently(partial(client.read_deployment_by_name, DEPLOYMENT))
        except ObjectNotFound as error:
            raise ValueError(
                f"sweep: the Prefect server has no deployment {DEPLOYMENT}. Run `make up`, or "
                "`prefect deploy --all` and start workers."
            ) from error

    def start(self, trial: Trial) -> UUID:
        """Return the flow run of a config that has not ended; create one if there is none.

        The run is created under a key that names the last run of the config that has ended, so two
        sweeps that do so at the same time get one run.
        """
        # A config that the sweep wrote lies below the artifacts root; all others belong to the
        # project, of which a worker may have another copy.
        path = trial.config if trial.sha256 is None else str(Path(trial.config).resolve())
        identity = [self._root, path, trial.sha256]
        tag = f"{TAG}-{sha256(canonical_json(identity))[:32]}"
        last = next(iter(_patiently(partial(self._with_tag, tag))), None)
        if last is not None and not _is_over(last):
            return last.id
        create = partial(
            self._client.create_flow_run_from_deployment,
            self._deployment.id,
            name=one_line(f"train {Path(path).stem}"),
            parameters={"training_config_path": path, "artifacts_dir": self._root},
            tags=[TAG, tag],
            idempotency_key=f"{tag}-{last.id if last else 'first'}",
        )
        return _patiently(create).id

    def ended(self, ids: Sequence[UUID]) -> list[FlowRun]:
        """Return those of the flow runs that have ended; raises if one does not exist."""
        found: list[FlowRun] = []
        for start in range(0, len(ids), PAGE):
            some = FlowRunFilter(id=FlowRunFilterId(any_=list(ids[start : start + PAGE])))
            found += _patiently(partial(self._client.read_flow_runs, flow_run_filter=some))
        for missing in set(ids) - {run.id for run in found}:
            found.append(FlowRun(id=missing, flow_id=self._deployment.flow_id))
        return [run for run in found if _is_over(run)]

    def _with_tag(self, tag: str) -> list[FlowRun]:
        return self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=1,
        )


def _absolute(path: StorePath) -> str:
    text = str(path)
    return text if "://" in text else str(Path(text).resolve())


def _patiently(call: Callable[[], T]) -> T:
    """Call the server; wait while it does not answer.

    Raises:
        OSError: It did not answer for `AWAY_SECONDS`.
    """
    deadline, has_warned = time.monotonic() + AWAY_SECONDS, False
    while True:
        try:
            return call()
        except httpx.HTTPError as error:
            is_away = not isinstance(error, httpx.HTTPStatusError) or error.response.is_server_error
            if not is_away or time.monotonic() > deadline:
                raise OSError(
                    f"sweep: Prefect's server: {type(error).__name__}: {error}. Run the sweep "
                    "again when it answers; what was done is kept."
                ) from error
            if not has_warned:
                has_warned = True
                get_run_logger().warning("Prefect's server does not answer. Waiting for it.")
            time.sleep(POLL_SECONDS)


def _is_over(run: FlowRun) -> bool:
    """Return whether a flow run has ended, and will not be tried again after a crash."""
    state = run.state
    if state is None:
        return True  # it was deleted
    if not state.is_crashed():
        return state.is_final()
    age = datetime.now(UTC) - state.timestamp
    return age > timedelta(seconds=CRASHED_SECONDS)


def _is_done(trial: Trial, artifacts: Artifacts) -> bool:
    """Return whether a config is done, by the record, or cannot be read; set its outcome."""
    try:
        read_config_file(trial.config, trial.sha256)
    except (OSError, ValueError) as error:
        trial.error = error
        return True
    values = recorded_steps(trial.config, trial.sha256, artifacts)
    if values is not None:
        trial.finish(values, is_cached=True)
    return values is not None


def _finish(trial: Trial, run: FlowRun, artifacts: Artifacts) -> None:
    """Set the outcome of a config by its flow run, which has ended."""
    state = run.state
    if state is None:
        trial.error = ValueError("its flow run was deleted. Run the sweep again.")
    elif not state.is_completed():
        trial.error = ValueError(f"flow run {run.name}: {state.name}: {state.message or ''}")
    else:
        try:
            trial.model = _model(trial, run.name.removeprefix("train "), artifacts)
        except (OSError, ValueError) as error:
            trial.error = error


def _model(trial: Trial, version: str, artifacts: Artifacts) -> SweptModel:
    """Return the model that a flow run has left, by its version, which is the name of the run.

    Raises:
        FileNotFoundError: There is no such model: the worker has another artifacts root.
        ValueError: It is not a model of this config.
    """
    config_file = read_config_file(trial.config, trial.sha256)
    metadata = read_metadata(version, artifacts.models)
    statement = read_statement(artifacts.models / version)
    is_same = metadata["training_config"] == asdict(config_file.config)
    if not is_same or (statement is not None and not _has_trainer(config_file, statement)):
        raise ValueError(
            f"{config_file.path}: the model {version} of its flow run was trained with another "
            "config. Do the workers have the same files?"
        )
    better = _better(read_statement(artifacts.evaluations / version))
    return SweptModel.from_run(
        config_file,
        metadata,
        load_evaluation(version, artifacts.evaluations),
        None if config_file.evaluator is None else better,
        is_cached=False,
    )


def _has_trainer(config_file: ConfigFile, model: Statement) -> bool:
    """Return whether a model has the trainer of a config, and its seed and options.

    The options of a function are compared only if its config is recorded: it can change them.
    """
    expected = None if config_file.trainer is None else config_file.trainer.to_dict()
    found = model.parameters.get("trainer")
    if expected is None or not isinstance(found, dict):
        return expected is found
    if model.digest("config") == config_file.sha256 and (
        model.digest("base config") != config_file.base_sha256
    ):
        return False
    names = ["use", "seed", "argv", *(["options"] if expected["use"] == COMMAND else [])]
    return all(is_same_json(expected.get(name), found.get(name)) for name in names)


def _better(evaluation: Statement | None) -> dict[str, str]:
    """Return what the evaluator of an evaluation declares; another process may have altered it."""
    evaluator = None if evaluation is None else recorded_evaluator(evaluation)
    better = evaluator.get("better") if isinstance(evaluator, dict) else None
    return better if isinstance(better, dict) else {}
