"""Tests of the deployments, with a server and a worker: by hand, by schedule, by event."""

import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import product

import httpx
import pytest
from filelock import FileLock

from tests.docs import blocks
from tests.e2e.conftest import FINAL, eventually, registered
from tests.examples import written

LLM_TRAIN = "from cli.main import main; main()"
TRAIN, NIGHTLY = "training-pipeline/train", "training-pipeline/nightly"
SWEEP, DERIVED = "training-sweep/sweep", "mistral-7b-dataset_v1-"
ON_DATASET, CONFIGS = "training-pipeline/on-dataset", "dataset-published/configs"
CACHED = dict.fromkeys(
    ["load_config", "resolve_dataset", "write_metadata", "register", "evaluate"], "Cached"
)


def test_a_run_by_hand_registers_its_model(platform):
    printed = platform.prefect("deployment", "run", TRAIN, "-p", "model_version=by_hand")
    run = platform.ended(printed.split("UUID: ")[1].split()[0])
    assert (run["name"], run["state_name"]) == ("train by_hand", "Completed")
    evaluation = platform.project / "artifacts/evaluations/by_hand/evaluation.json"
    assert json.loads(evaluation.read_text())["model_version"] == "by_hand"
    assert "by_hand" in registered(platform.project)


def test_a_run_with_invalid_parameters_fails_with_the_message_of_the_error(platform):
    before = registered(platform.project)
    run = platform.ended(platform.start_run(TRAIN, model_version="../x"))
    assert (run["state_name"], run["state"]["message"]) == (
        "Failed",
        "model_version: expected a name of at most 128 letters, digits, '.', '_' and '-' that "
        "starts with a letter or digit and is not 'registry.json', found '../x'.",
    )
    assert registered(platform.project) == before


def test_the_error_of_a_failed_run_is_its_message_and_logged_once_without_a_traceback(platform):
    run = platform.ended(platform.start_run(TRAIN, training_config_path="configs/none.yaml"))
    assert run["state"]["message"] == "no such training config (configs/none.yaml)"

    def logged_if_ended():
        logs = platform.post("logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}})
        messages = [log["message"] for log in logs]
        return messages if messages.count("Finished in state Failed") == 2 else None

    logged = eventually(logged_if_ended)
    assert [text for text in logged if "none.yaml" in text and "no such" in text] == [
        "no such training config (configs/none.yaml)"
    ]
    assert [text for text in logged if "Traceback" in text] == []


@pytest.mark.parametrize(
    ("deployment", "parameter", "reason"),
    [
        (TRAIN, "nonsense=1", "specified but not found on the deployment"),
        (SWEEP, "concurrency=abc", "'abc' is not of type 'integer'"),
        ("compare-models/compare", "everything=true", "'model_versions' is a required property"),
    ],
)
def test_prefect_refuses_parameters_that_the_flow_cannot_take(
    platform, deployment, parameter, reason
):
    before = len(platform.runs(deployment))
    with pytest.raises(AssertionError) as failed:
        platform.prefect("deployment", "run", deployment, "-p", parameter)
    assert reason in " ".join(str(failed.value).split())
    assert len(platform.runs(deployment)) == before


def test_the_api_needs_the_password_and_pages_of_other_origins_cannot_read_it(platform):
    url = f"{platform.url}/api/deployments/filter"
    for auth in (None, ("admin", ""), ("admin", "another")):
        assert httpx.post(url, json={}, auth=auth).status_code == 401
    preflight = {"Access-Control-Request-Method": "POST"}
    for origin, allowed in ((platform.url, platform.url), ("http://evil.example", None)):
        asked = platform.api.options("deployments/filter", headers=preflight | {"Origin": origin})
        answered = platform.api.post("deployments/filter", json={}, headers={"Origin": origin})
        for response in (asked, answered):
            assert response.headers.get("Access-Control-Allow-Origin") == allowed


def test_a_request_cannot_set_what_the_process_of_a_run_executes(platform, tmp_path):
    marker = tmp_path / "marker"
    for module in ("sitecustomize", "prefect"):  # of the environment, of the folder
        (tmp_path / f"{module}.py").write_text(f"open({str(marker)!r}, 'w')")
    values = {
        "command": f"touch {marker}",
        "env": {"PYTHONPATH": str(tmp_path)},
        "env.PYTHONPATH": str(tmp_path),
        "working_dir": str(tmp_path),
    }
    deployment = platform.deployment(TRAIN)
    parameters = deployment["parameters"] | {"model_version": "job_variables"}
    for name, value in values.items():
        body = {"job_variables": {name: value}, "parameters": parameters}
        refused = platform.api.post(f"deployments/{deployment['id']}/create_flow_run", json=body)
        assert (refused.status_code, name in refused.text) == (422, True)

    # The server does not check the job variables of this request.
    body = {"job_variables": values, "parameters": parameters}
    body |= {"deployment_id": deployment["id"], "flow_id": deployment["flow_id"]}
    body |= {"work_pool_name": "training", "state": {"type": "SCHEDULED"}}
    run = platform.post("flow_runs/", **body)
    assert run["job_variables"] == values
    assert platform.ended(run["id"])["state_name"] == "Completed"
    assert not marker.exists()


def test_a_sweep_trains_every_config_and_a_second_sweep_adds_nothing(platform):
    run = platform.ended(platform.start_run(SWEEP))
    name = "sweep configs/sweeps/mistral_finetune.yaml"
    assert (run["name"], run["state_name"]) == (name, "Completed")
    models = [version for version in registered(platform.project) if version.startswith(DERIVED)]
    settings = set()
    for version in models:
        evaluation = platform.project / "artifacts/evaluations" / version / "evaluation.json"
        assert json.loads(evaluation.read_text())["model_version"] == version
        metadata = platform.project / "artifacts/models" / version / "metadata.json"
        config = json.loads(metadata.read_text())["training_config"]
        settings.add((config["learning_rate"], config["epochs"], config["batch_size"]))
    assert settings == set(product([1e-5, 2e-5, 5e-5], [2, 3], [16, 32]))
    before = written(platform.project / "artifacts")
    assert platform.ended(platform.start_run(SWEEP))["state_name"] == "Completed"
    assert written(platform.project / "artifacts") == before


def test_a_second_deployment_changes_nothing(platform):
    def deployed():
        return [
            sorted(
                (each["name"], each["description"], str(each.get("parameters")))
                for each in platform.post(f"{kind}/filter")
            )
            for kind in ("deployments", "automations")
        ]

    before = deployed()
    platform.deploy()
    assert deployed() == before
    assert [len(each) for each in before] == [8, 2]
    assert len(platform.deployment(NIGHTLY)["schedules"]) == 1


def test_nightly_runs_are_scheduled_at_two_o_clock_utc(platform):
    deployment = platform.deployment(NIGHTLY)
    [schedule] = [each["schedule"] for each in deployment["schedules"]]
    assert (schedule["cron"], schedule["timezone"]) == ("0 2 * * *", "UTC")

    def scheduled():
        wanted = {"id": {"any_": [deployment["id"]]}}
        runs = platform.post("flow_runs/filter", deployments=wanted)
        return sorted(run["expected_start_time"] for run in runs if run["auto_scheduled"])

    nights = [datetime.fromisoformat(night) for night in eventually(scheduled)]
    first = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0)
    first += timedelta(days=nights[0].date() > first.date())
    assert nights[:3] == [first + timedelta(days=n) for n in range(3)]


def test_a_nightly_run_with_unchanged_inputs_is_fully_cached_and_adds_nothing(platform):
    run = platform.ended(platform.start_run(NIGHTLY))
    assert run["state_name"] == "Completed"
    before = written(platform.project / "artifacts")
    run = platform.ended(platform.start_run(NIGHTLY))
    assert run["state_name"] == "Completed"
    assert platform.steps(run["id"]) == CACHED
    assert written(platform.project / "artifacts") == before


def test_a_published_dataset_trains_every_config_that_uses_it_once(platform):
    [command] = [each.text for each in blocks("usage.md") if each.title == "With make up"]

    def publish():
        platform.prefect(*shlex.split(command.replace("\\\n", ""))[1:])

    def all_ended(count):
        runs = platform.runs(ON_DATASET)
        ended = len(runs) == count and all(run["state_type"] in FINAL for run in runs)
        return ended and [run["state_name"] for run in runs]

    publish()
    assert eventually(lambda: all_ended(3)) == ["Completed"] * 3
    models = registered(platform.project)
    assert {version.rpartition("-")[0] for version in models} >= {
        "mistral-7b-dataset_v1",
        "meta-llama-Llama-3.1-8B-Instruct-dataset_v1",
        "Qwen-Qwen2.5-0.5B-dataset_v1",
    }
    before = written(platform.project / "artifacts")
    data = "artifacts/datasets/dataset_v1/data.jsonl"
    added = subprocess.run(
        [sys.executable, "-c", LLM_TRAIN, "dataset", "add", data, "dataset_v1", "--publish"],
        cwd=platform.project,
        env=platform.env,
        capture_output=True,
        text=True,
    )
    assert added.returncode == 0, added.stderr
    assert "was there already, nothing to do" in added.stdout
    assert eventually(lambda: all_ended(6)) == ["Completed"] * 6
    assert written(platform.project / "artifacts") == before
    for run in platform.runs(ON_DATASET)[3:]:
        assert platform.steps(run["id"]) == CACHED


def test_an_event_with_a_config_trains_this_config(platform):
    (platform.project / "configs/training/new.yaml").write_text(
        "base_model: new\ndataset_version: dataset_v1\nlearning_rate: 1e-4\nepochs: 1\n"
        "batch_size: 8\n"
    )
    before = len(platform.runs(ON_DATASET))
    payload = json.dumps({"training_config_path": "configs/training/new.yaml"})
    platform.prefect(
        *("event", "emit", "dataset.published", "--resource-id", "training-config.new"),
        *("--payload", payload),
    )
    runs = eventually(lambda: platform.runs(ON_DATASET)[before:])
    assert platform.ended(runs[0]["id"])["state_name"] == "Completed"
    assert registered(platform.project)[-1].startswith("new-dataset_v1-")


def test_a_killed_worker_loses_no_model_and_only_one_late_nightly_run_starts(platform):
    lock = FileLock(
        platform.project / "artifacts/models/registry.json.lock", preserve_lock_file=True
    )
    cache = platform.project / "artifacts/.cache"
    before = len(list(cache.glob("write_metadata-*")))
    with lock:
        killed = platform.start_run(TRAIN, model_version="killed")
        metadata = platform.project / "artifacts/models/killed/metadata.json"
        eventually(lambda: len(list(cache.glob("write_metadata-*"))) > before)
        platform.workers[-1].kill()
    assert "killed" not in registered(platform.project)

    deployment = platform.deployment(NIGHTLY)["id"]
    late = []
    for days in (3, 2, 1):
        due = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
        run = platform.post(f"deployments/{deployment}/create_flow_run", state=state)
        late.append(run["id"])

    platform.start_worker()
    again = platform.ended(platform.start_run(TRAIN, model_version="killed"))
    assert again["state_name"] == "Completed"
    assert registered(platform.project).count("killed") == 1
    assert json.loads(metadata.read_text())["model_version"] == "killed"
    assert platform.steps(again["id"]) == CACHED | dict.fromkeys(
        ["register", "evaluate"], "Completed"
    )
    assert platform.get(f"flow_runs/{killed}")["state_name"] != "Completed"
    states = sorted(platform.ended(run)["state_name"] for run in late)
    assert states == ["Cancelled", "Cancelled", "Completed"]
