"""Sweeps on many machines: each config is a flow run of the deployment `training-pipeline/train`.

The workers of the deployment's work pool execute these flow runs. If a sweep is stopped, they
continue, and the sweep finds them when it is run again.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
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
from src.components.description import ComponentError, shared_descriptions
from src.evaluation.evaluator import load_evaluation
from src.evaluation.measuring import recorded_evaluator
from src.records.canonical import canonical_json, is_same_json, sha256
from src.records.statement import Statement
from src.rendering.text import one_line
from src.storage import is_url
from src.training.config import ConfigFile, read_config_file
from src.training.dataset import resolve_dataset
from src.training.hashing import count_and_hash_once
from src.training.leaderboard import SweptModel
from src.training.trainer import derive_model_version, describe_trainer

__all__ = ["run_distributed"]

DEPLOYMENT = "training-pipeline/train"
TAG = "sweep"
POLL_SECONDS = 2.0
PAGE_SIZE = 200  # flow runs that one request returns at most
# After the first crash of a run, the automations of `ops.recovery` set another crashed state, and
# schedule the run again 30 s later. A run that is still crashed after this time has ended.
CRASHED_SECONDS = 90.0
SERVER_TIMEOUT_SECONDS = 600.0  # from the first request without an answer

T = TypeVar("T")


def run_distributed(
    trials: Sequence[Trial], artifacts: Artifacts, in_flight: int, on_done: OnDone
) -> None:
    """Run every config in a separate flow run; afterwards each has its model or its error.

    A config that is done according to the record is not run. If a config has a flow run of an
    earlier sweep that has not ended, that run is used.

    Args:
        trials: The configs.
        artifacts: The artifacts root, which all workers reach by the same absolute path or address.
        in_flight: Largest number of flow runs that wait or run at the same time.
        on_done: Called after each config.

    Raises:
        ValueError: The server has no deployment `training-pipeline/train`.
        OSError: The server refused a request, or did not answer for ten minutes. The flow runs
            continue.
    """
    waiting, active = deque(trials), dict[UUID, Trial]()
    with shared_descriptions(), get_client(sync_client=True) as client:
        runs = _Runs(client, artifacts)
        try:
            while waiting or active:
                while waiting and len(active) < in_flight:
                    trial = waiting.popleft()
                    if _finish_recorded(trial, artifacts):
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
    """The flow runs of configs on the server.

    Raises:
        ValueError: The server has no deployment `training-pipeline/train`.
    """

    def __init__(self, client: SyncPrefectClient, artifacts: Artifacts) -> None:
        self._client = client
        self._root = _absolute(str(artifacts.root))
        try:
            self._deployment = _call_server(partial(client.read_deployment_by_name, DEPLOYMENT))
        except ObjectNotFound as error:
            raise ValueError(
                f"sweep: the Prefect server has no deployment {DEPLOYMENT}. Run `make up`, or "
                "`prefect deploy --all` and start workers."
            ) from error

    def start(self, trial: Trial) -> UUID:
        """Return the flow run of a config that has not ended; create one if there is none.

        The idempotency key of a new run names the last run of the config, which has ended. So two
        sweeps that create a run at the same time get the same one.
        """
        # A config that the sweep wrote is below the artifacts root, at the same path for every
        # worker. Any other belongs to the project, which a worker may have in another folder.
        path = trial.config if trial.sha256 is None else _absolute(trial.config)
        identity = [self._root, path, trial.sha256]
        tag = f"{TAG}-{sha256(canonical_json(identity))[:32]}"
        last = next(iter(_call_server(partial(self._with_tag, tag))), None)
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
        return _call_server(create).id

    def ended(self, ids: Sequence[UUID]) -> list[FlowRun]:
        """Return those of the flow runs that have ended; one that was deleted has no state."""
        found: list[FlowRun] = []
        for start in range(0, len(ids), PAGE_SIZE):
            some = FlowRunFilter(id=FlowRunFilterId(any_=list(ids[start : start + PAGE_SIZE])))
            found += _call_server(partial(self._client.read_flow_runs, flow_run_filter=some))
        for missing in set(ids) - {run.id for run in found}:
            found.append(FlowRun(id=missing, flow_id=self._deployment.flow_id, state=None))
        return [run for run in found if _is_over(run)]

    def _with_tag(self, tag: str) -> list[FlowRun]:
        """Return the newest flow run with a tag, if there is one."""
        return self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=1,
        )


def _absolute(path: str) -> str:
    """Return the absolute path of a file or a folder; an address unchanged."""
    return path if is_url(path) else str(Path(path).resolve())


def _call_server(call: Callable[[], T]) -> T:
    """Send a request to the server; repeat it while the server does not answer.

    Raises:
        OSError: The server refused the request, or did not answer for `SERVER_TIMEOUT_SECONDS`.
    """
    deadline, has_warned = time.monotonic() + SERVER_TIMEOUT_SECONDS, False
    while True:
        try:
            return call()
        except httpx.HTTPError as error:
            is_refused = (
                isinstance(error, httpx.HTTPStatusError) and not error.response.is_server_error
            )
            if is_refused or time.monotonic() > deadline:
                found = f"{type(error).__name__}: {error}"
                raise OSError(
                    f"sweep: a request to the Prefect server failed: {found}. Run the sweep again "
                    "when the server answers; what was done is kept."
                ) from error
            if not has_warned:
                has_warned = True
                get_run_logger().warning("The Prefect server does not answer. Waiting for it.")
            time.sleep(POLL_SECONDS)


def _is_over(run: FlowRun) -> bool:
    """Return whether a flow run has ended and will not be scheduled again after a crash."""
    state = run.state
    if state is None:
        return True  # it was deleted
    if not state.is_crashed():
        return state.is_final()
    age = datetime.now(UTC) - state.timestamp
    return age > timedelta(seconds=CRASHED_SECONDS)


def _finish_recorded(trial: Trial, artifacts: Artifacts) -> bool:
    """Set the outcome of a config that needs no flow run; return whether there is an outcome.

    That is a config that is done according to the record, or that cannot be read.
    """
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
    """Set the outcome of a config from its flow run, which has ended."""
    state = run.state
    if state is None:
        trial.error = ValueError("its flow run was deleted. Run the sweep again.")
    elif not state.is_completed():
        trial.error = ValueError(f"flow run {run.name}: {state.name}: {state.message or ''}")
    else:
        try:
            trial.model = _read_model(trial, run.name.removeprefix("train "), artifacts)
        except (OSError, ValueError) as error:
            trial.error = error


def _read_model(trial: Trial, version: str, artifacts: Artifacts) -> SweptModel:
    """Read the model of a flow run from the record.

    Args:
        trial: The config.
        version: The version, which `training-pipeline` has set in the name of the flow run.
        artifacts: The artifacts root.

    Raises:
        FileNotFoundError: There is no such model: the worker has another artifacts root.
        ValueError: It is the model of another config, or a file of the record is not valid.
    """
    config_file = read_config_file(trial.config, trial.sha256)
    metadata = read_metadata(version, artifacts.models)
    _check_config(config_file, metadata["training_config"], version, artifacts)
    better = _better(read_statement(artifacts.evaluations / version))
    return SweptModel.from_run(
        config_file,
        version,
        load_evaluation(version, artifacts.evaluations),
        None if config_file.evaluator is None else better,
        is_cached=False,
    )


def _check_config(
    config_file: ConfigFile, recorded: object, version: str, artifacts: Artifacts
) -> None:
    """Check that a model is that of a config, as far as its trainer can be described here."""
    statement, expected = read_statement(artifacts.models / version), version
    with suppress(ComponentError):  # its environment is on the workers alone
        trainer = describe_trainer(config_file)
        dataset = resolve_dataset(
            config_file.config.dataset_version, artifacts.datasets, hash_dataset=count_and_hash_once
        )
        expected = derive_model_version(config_file.config, dataset, trainer)
    is_same = recorded == asdict(config_file.config) and version == expected
    if not is_same or (statement is not None and not _has_trainer(config_file, statement)):
        raise ValueError(
            f"{config_file.path}: its flow run has left the model {version}, which is that of "
            "another config, trainer or dataset. Do the workers have the same files?"
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
