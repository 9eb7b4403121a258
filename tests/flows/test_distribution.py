"""Sweeps whose configs are flow runs of a deployment."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Completed, Crashed, Failed, Running

from flows import distribution
from flows.distribution import run_distributed
from flows.training_pipeline import training_pipeline
from flows.training_sweep import SweepError, training_sweep
from flows.trials import Trial
from src.artifacts import Artifacts
from src.records.canonical import canonical_json
from src.training.grids import write_grid
from src.training.pipeline import run_training_pipeline
from src.training.registry import list_models
from tests.flows.runs import failure, flow_run, python
from tests.trainers import MODULE, statement, trained, write_module

GRID = "base_config: config.yaml\nepochs: [2, 3, 4]\n"
SERVE = """
from flows.training_pipeline import training_pipeline
training_pipeline.serve(name="train", limit=2, print_starting_message=False)
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(distribution, "POLL_SECONDS", 0.1)


@pytest.fixture
def project(project):
    """The project with a grid of three configs, `grid.yaml`."""
    Path("grid.yaml").write_text(GRID)
    return project


@pytest.fixture
def deployment(project):
    """The deployment `training-pipeline/train`; its runs wait for a process that executes them."""
    identifier = training_pipeline.to_deployment(name="train").apply()
    yield identifier
    with get_client(sync_client=True) as client:
        for run in runs(identifier):
            client.delete_flow_run(run.id)
        client.delete_deployment(identifier)


@pytest.fixture
def worker(deployment, server):
    """A process that executes the runs of the deployment."""
    env = server | {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_RUNNER_SERVER_ENABLE": "false"}
    process = python(SERVE, env)
    yield process
    process.send_signal(signal.SIGINT)
    process.communicate()


def runs(deployment):
    """Return the flow runs of the deployment, the oldest first."""
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=["train"]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(deployment_filter=wanted)
    return sorted(
        (run for run in found if run.deployment_id == deployment), key=lambda run: run.created
    )


def set_state(run, state):
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state, force=True)


def started(trial, artifacts=None):
    """Return the flow run that a sweep waits for."""

    @flow(name="start")
    def start():
        with get_client(sync_client=True) as client:
            return distribution._Runs(client, artifacts or Artifacts.open()).start(trial)

    return start()


def distributed(*trials):
    """Run configs; return what became of each."""
    flow(lambda: run_distributed(trials, Artifacts.open(), 10, lambda _: None), name="run")()
    return [trial.model or str(trial.error) for trial in trials]


# --- Whole sweeps --------------------------------------------------------------------------------


def test_a_distributed_sweep_leaves_the_record_of_a_local_one_and_a_second_starts_no_run(
    project, deployment, worker
):
    state = training_sweep(grid="grid.yaml", distribute=True, in_flight=2, return_state=True)
    summary = state.result()
    assert [len(summary["leaderboard"]), summary["failed"], summary["cached"]] == [3, [], 0]
    assert len(runs(deployment)) == 3
    assert {run.state.name for run in runs(deployment)} == {"Completed"}
    names = {f"train {model['model_version']}" for model in list_models()}
    assert {run.name for run in runs(deployment)} == names
    again = training_sweep(grid="grid.yaml", distribute=True)
    assert again["leaderboard"] == [row | {"cached": True} for row in summary["leaderboard"]]
    assert training_sweep(grid="grid.yaml")["cached"] == 3
    assert len(runs(deployment)) == 3


def test_a_config_that_fails_in_its_run_is_named_and_the_others_are_done(
    project, deployment, worker
):
    Path("other.yaml").write_text(Path("config.yaml").read_text().replace("t_v1", "t_v9"))
    Path("bad.yaml").write_text("epochs: 0\n")
    with pytest.raises(SweepError) as caught:
        training_sweep(["config.yaml", "other.yaml", "bad.yaml"], distribute=True)
    bad, other = sorted(caught.value.summary["failed"], key=lambda fault: fault["config"])
    assert bad["error"].startswith("bad.yaml:1: epochs: expected an integer >= 1, found 0.")
    assert other["error"].startswith(
        "flow run train other: Failed: no dataset version 'dataset_v9'"
    )
    assert [row["config"] for row in caught.value.summary["leaderboard"]] == ["config.yaml"]
    assert len(runs(deployment)) == 2  # an invalid config needs no run


def test_at_most_in_flight_runs_wait_at_the_same_time(project, deployment, monkeypatch):
    waiting = []

    def ended(_, ids):
        waiting.append((len(ids), len(runs(deployment))))
        state = Failed(message="for a test")
        return [FlowRun(id=ids[0], flow_id=uuid4(), name="train grid", state=state)]

    monkeypatch.setattr(distribution._Runs, "ended", ended)
    artifacts = Artifacts.open()
    trials = [Trial(*file) for file in write_grid("grid.yaml", artifacts).items()]
    flow(lambda: run_distributed(trials, artifacts, 2, lambda _: None), name="run")()
    assert waiting == [(2, 2), (2, 3), (1, 3)]  # of all runs that were started


def wait_for(condition, seconds=300):
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_sweep_that_was_killed_finds_its_runs_and_starts_none_twice(
    project, deployment, server, request
):
    Path("grid.yaml").write_text(GRID.replace("[2, 3, 4]", "[2, 3]"))
    code = (
        "from flows.training_sweep import training_sweep\n"
        "training_sweep(grid='grid.yaml', distribute=True)"
    )
    sweep = python(code, server)
    wait_for(lambda: len(runs(deployment)) == 2)
    sweep.kill()
    sweep.communicate()
    before = {run.id for run in runs(deployment)}
    request.getfixturevalue("worker")
    assert len(training_sweep(grid="grid.yaml", distribute=True)["leaderboard"]) == 2
    assert {run.id for run in runs(deployment)} == before


def test_without_a_deployment_the_sweep_fails_before_it_starts_a_run(project):
    assert failure(training_sweep, ["config.yaml"], "", 4, "artifacts", "", True) == (
        "sweep: the Prefect server has no deployment training-pipeline/train. Run `make up`, or "
        "`prefect deploy --all` and start workers."
    )


# --- Flow runs -----------------------------------------------------------------------------------


def test_a_run_that_has_not_ended_is_found_and_one_that_has_ended_is_not(project, deployment):
    trial = Trial("config.yaml")
    first = started(trial)
    assert started(trial) == first
    set_state(first, Running())
    assert started(trial) == first
    set_state(first, Failed())
    second = started(trial)
    assert second != first
    assert started(trial) == second
    assert started(Trial("grid.yaml")) not in (first, second)


def test_the_parameters_of_a_run_mean_the_same_on_every_machine(project, deployment):
    parameters = flow_run(started(Trial("config.yaml"))).parameters
    assert parameters == {
        "training_config_path": "config.yaml",  # of the copy of the project that the worker has
        "artifacts_dir": str(project / "artifacts"),
    }
    written_config = flow_run(started(Trial("artifacts/sweeps/grid-1.yaml", "0" * 64))).parameters
    assert written_config["training_config_path"] == str(project / "artifacts/sweeps/grid-1.yaml")


def test_the_parameters_of_a_run_name_an_address_as_it_is(project, deployment, memory_url):
    trial = Trial(f"{memory_url}/sweeps/grid-1.yaml", "0" * 64)
    run = flow_run(started(trial, Artifacts.open(memory_url)))
    assert run.name == "train grid-1"
    assert run.parameters == {
        "training_config_path": "memory://bucket/artifacts/sweeps/grid-1.yaml",
        "artifacts_dir": "memory://bucket/artifacts",
    }


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (Failed(message="reason (config.yaml)"), "Failed: reason (config.yaml)"),
        (Cancelled(message="by a person"), "Cancelled: by a person"),
        (
            Crashed(message="killed", timestamp=datetime.now(UTC) - timedelta(hours=1)),
            "Crashed: killed",
        ),
    ],
)
def test_a_run_that_ends_without_success_is_the_error_of_its_config(
    project, deployment, state, message
):
    trial = Trial("config.yaml")
    run = started(trial)
    waiting = FlowRun(id=run, flow_id=uuid4(), name="train config", state=state)
    distribution._finish(trial, waiting, Artifacts.open())
    assert (distribution._is_over(waiting), str(trial.error)) == (
        True,
        f"flow run train config: {message}",
    )


def test_a_run_that_was_deleted_is_an_error_of_its_config(project, deployment, monkeypatch):
    trial, start = Trial("config.yaml"), distribution._Runs.start

    def deleted(*arguments):
        run = start(*arguments)
        with get_client(sync_client=True) as client:
            client.delete_flow_run(run)
        return run

    monkeypatch.setattr(distribution._Runs, "start", deleted)
    assert distributed(trial) == ["its flow run was deleted. Run the sweep again."]


@pytest.mark.parametrize("name", ["Crashed", "CrashedOnce"])
def test_a_run_that_crashed_just_now_may_be_tried_again_and_is_waited_for(name):
    def run(seconds):
        timestamp = datetime.now(UTC) - timedelta(seconds=seconds)
        state = State(type=StateType.CRASHED, name=name, timestamp=timestamp)
        return FlowRun(id=uuid4(), flow_id=uuid4(), state=state)

    assert not distribution._is_over(run(60))
    assert distribution._is_over(run(120))


def test_a_run_that_completed_below_another_root_is_an_error(project, deployment):
    trial, run = Trial("config.yaml"), FlowRun(flow_id=uuid4(), name="train m", state=Completed())
    distribution._finish(trial, run, Artifacts.open())
    assert str(trial.error).startswith("artifacts/models/m/metadata.json: no such file, so model ")


@pytest.mark.parametrize("name", ["train ../../x", "train .", "train"])
def test_a_run_whose_name_is_no_version_is_an_error(project, deployment, name):
    trial, run = Trial("config.yaml"), FlowRun(flow_id=uuid4(), name=name, state=Completed())
    distribution._finish(trial, run, Artifacts.open())
    assert isinstance(trial.error, ValueError | OSError)


def test_a_run_whose_model_is_that_of_another_config_is_an_error(project, deployment):
    version = run_training_pipeline("config.yaml")["model_version"]
    Path("other.yaml").write_text(Path("config.yaml").read_text().replace("16", "32"))
    trial = Trial("other.yaml")
    run = FlowRun(flow_id=uuid4(), name=f"train {version}", state=Completed())
    distribution._finish(trial, run, Artifacts.open())
    assert str(trial.error) == (
        f"other.yaml: its flow run has left the model {version}, which is that of another config, "
        "trainer or dataset. Do the workers have the same files?"
    )


def finished(config, version):
    """Return the config of a sweep whose flow run has completed with this version."""
    trial = Trial(config)
    run = FlowRun(flow_id=uuid4(), name=f"train {version}", state=Completed())
    distribution._finish(trial, run, Artifacts.open())
    return trial


@pytest.mark.parametrize(
    ("own", "other"),
    [("steps: 2", "steps: 3"), ("seed: 7", "seed: 8"), ("mine:train", "mine:other")],
)
def test_a_run_whose_worker_has_another_base_config_is_an_error(project, own, other):
    config = trained(steps=2)
    Path("grid.yaml").write_text(f"base_config: {config}\ntrainer.other: [1]\n")
    [path] = write_grid("grid.yaml", Artifacts.open())
    version = run_training_pipeline(path)["model_version"]
    assert finished(path, version).model.model_version == version
    Path(config).write_text(Path(config).read_text().replace(own, other))
    assert str(finished(path, version).error) == (
        f"{path}: its flow run has left the model {version}, which is that of another config, "
        "trainer or dataset. Do the workers have the same files?"
    )


def test_a_model_without_a_trainer_is_not_that_of_a_config_with_one(project):
    version = run_training_pipeline("config.yaml")["model_version"]
    assert "which is that of another config, " in str(finished(trained(), version).error)


def test_the_metrics_of_an_evaluator_that_declares_no_direction_are_those_of_the_model(project):
    config = trained()
    write_module(MODULE.replace('evaluate.better = {"loss": "lower"}', ""))
    evaluation = run_training_pipeline(config)
    model = finished(config, evaluation["model_version"]).model
    assert (model.metrics, model.better) == (evaluation["metrics"], {})


@pytest.mark.parametrize("forged", [[1], {"use": "mine:evaluate", "better": [1]}])
def test_an_evaluator_in_a_forged_statement_has_no_direction(project, forged):
    config = trained()
    version = run_training_pipeline(config)["model_version"]
    value = statement(f"evaluations/{version}")
    value["predicate"]["buildDefinition"]["externalParameters"]["evaluator"] = forged
    Path("artifacts/evaluations", version, "provenance.json").write_bytes(canonical_json(value))
    assert finished(config, version).model.better == {}


# --- A server that does not answer ---------------------------------------------------------------


def call_server(*answers):
    """Call a server that gives these answers, or raises them, one after the other."""
    left = list(answers)

    def call():
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return flow(lambda: distribution._call_server(call), name="call-server")()


def status(code):
    request = httpx.Request("GET", "http://127.0.0.1")
    response = httpx.Response(code, request=request)
    return httpx.HTTPStatusError(f"{code}", request=request, response=response)


def test_a_server_that_is_away_for_a_time_is_waited_for(project):
    assert call_server(httpx.ConnectError("refused"), status(503), "answer") == "answer"


def test_a_server_that_stays_away_or_refuses_is_an_error_that_says_so(project, monkeypatch):
    with pytest.raises(
        OSError, match=r"^sweep: a request to the Prefect server failed: HTTPStatusError: 422"
    ):
        call_server(status(422))
    monkeypatch.setattr(distribution, "SERVER_TIMEOUT_SECONDS", -1)
    with pytest.raises(
        OSError, match=r"Run the sweep again when the server answers; what was done is kept\.$"
    ):
        call_server(httpx.ConnectError("refused"))
