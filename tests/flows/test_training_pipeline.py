import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from cli.main import main
from flows.training_pipeline import training_pipeline
from src.lineage.verify import verify
from src.provenance import read_provenance
from src.training import dataset, registry, trainer
from src.training.pipeline import run_training_pipeline
from tests.examples import without_runs
from tests.flows.conftest import artifact, failure, task_runs

ROOT = Path(__file__).parents[2]
COMMAND = "from cli.main import main; main()"
STEPS = ["load_config", "resolve_dataset", "write_metadata", "register", "evaluate"]
CACHED = dict.fromkeys(STEPS, "Cached")
RAN = dict.fromkeys(STEPS, "Completed")
METADATA = Path("artifacts/models/model_v1/metadata.json")
PROVENANCE = METADATA.with_name("provenance.json")
REGISTRY = Path("artifacts/models/registry.json")
EVALUATION = Path("artifacts/evaluations/model_v1/evaluation.json")


def record(root: Path = Path("artifacts")) -> dict[str, bytes]:
    """Give every file below the artifacts root, less the cache."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }


def test_the_flow_and_the_function_leave_the_same_bytes(project):
    shutil.copytree("artifacts", "others")
    by_flow = training_pipeline("config.yaml", "model_v1")
    by_function = run_training_pipeline("config.yaml", "model_v1", artifacts_dir="others")
    assert by_flow == by_function
    assert without_runs(record()) == without_runs(record(Path("others")))


def test_the_provenance_names_the_flow_run_and_its_page(project, server):
    state = training_pipeline("config.yaml", "model_v1", return_state=True)
    flow_run = str(state.state_details.flow_run_id)
    page = f"{server['PREFECT_API_URL'].removesuffix('/api')}/runs/flow-run/{flow_run}"
    for folder in ("models", "evaluations"):
        made = read_provenance(Path(f"artifacts/{folder}/model_v1/provenance.json"))
        assert made.builder == "urn:llm-training-pipeline:builder:prefect"
        assert (made.invocation_id, made.url) == (flow_run, page)
        assert made.started_on <= made.finished_on
    assert [check.what for check in verify("model_v1") if check.verdict != "MATCH"] == []


def test_a_second_run_serves_all_five_steps_from_the_cache_and_adds_nothing(steps):
    assert steps() == RAN
    before = record()
    assert steps() == CACHED
    assert record() == before


def test_data_that_was_not_touched_is_read_by_the_first_run_alone(steps, reads):
    steps()
    assert steps() == CACHED
    assert len(reads) == 1


def test_the_flow_returns_the_same_result_from_the_cache(project):
    assert training_pipeline("config.yaml") == training_pipeline("config.yaml")


@pytest.mark.parametrize(
    ("path", "step"),
    [(METADATA, "write_metadata"), (REGISTRY, "register"), (EVALUATION, "evaluate")],
)
def test_a_deleted_file_comes_back_to_the_byte_by_its_own_step_alone(steps, path, step):
    steps("model_v1")
    before = record()
    path.unlink()
    assert steps("model_v1") == CACHED | {step: "Completed"}
    assert record() == before


def test_an_edited_evaluation_is_restored_to_the_byte_and_the_log_says_so(steps, caplog):
    steps("model_v1")
    before = record()
    EVALUATION.write_text(EVALUATION.read_text().replace("0.", "0.9"))
    found = hashlib.sha256(EVALUATION.read_bytes()).hexdigest()
    assert steps("model_v1") == CACHED | {"evaluate": "Completed"}
    assert record() == before
    expected = hashlib.sha256(EVALUATION.read_bytes()).hexdigest()
    assert f"{EVALUATION}: expected sha256 {expected}, found {found}: restored." in caplog.messages


def test_an_edited_metadata_stops_the_run_and_is_left_as_found(project):
    training_pipeline("config.yaml", "model_v1")
    METADATA.write_text(METADATA.read_text().replace("mistral-7b", "mistral-8b"))
    before = record()
    message = failure(training_pipeline, "config.yaml", "model_v1")
    assert "base_model: recorded 'mistral-8b', now 'mistral-7b'" in message
    assert record() == before


def test_an_edited_registry_entry_stops_the_run_and_is_left_as_found(project):
    training_pipeline("config.yaml", "model_v1")
    REGISTRY.write_text(REGISTRY.read_text().replace('"epochs": 3', '"epochs": 4'))
    before = record()
    message = failure(training_pipeline, "config.yaml", "model_v1")
    assert "training_config.epochs: recorded 4, now 3" in message
    assert record() == before


@pytest.mark.parametrize("size", [0, 40])
@pytest.mark.parametrize("path", [METADATA, REGISTRY])
def test_a_truncated_record_stops_the_run_and_is_left_as_found(project, path, size):
    training_pipeline("config.yaml", "model_v1")
    path.write_bytes(path.read_bytes()[:size])
    before = record()
    assert failure(training_pipeline, "config.yaml", "model_v1").startswith(f"{path}: line ")
    assert record() == before


@pytest.mark.parametrize("size", [0, 40])
def test_a_truncated_evaluation_is_restored_to_the_byte(steps, size):
    steps("model_v1")
    before = record()
    EVALUATION.write_bytes(EVALUATION.read_bytes()[:size])
    assert steps("model_v1") == CACHED | {"evaluate": "Completed"}
    assert record() == before


def test_a_changed_comment_leaves_everything_behind_the_config_cached(steps):
    steps()
    config = Path("config.yaml")
    config.write_text("# a remark\n" + config.read_text().replace("2e-5", "0.00002"))
    assert steps() == CACHED | {"load_config": "Completed"}


def test_a_changed_value_runs_all_but_the_dataset_again(steps):
    steps()
    config = Path("config.yaml")
    config.write_text(config.read_text().replace("2e-5", "3e-5"))
    assert steps() == RAN | {"resolve_dataset": "Cached"}
    assert len(registry.list_models()) == 2


def test_one_changed_byte_of_data_runs_all_but_the_config_again(steps):
    steps()
    folder = Path("artifacts/datasets/dataset_v1")
    data = (folder / "data.jsonl").read_bytes().replace(b"a", b"b", 1)
    (folder / "data.jsonl").write_bytes(data)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["dataset_hash"] = hashlib.sha256(data).hexdigest()
    (folder / "metadata.json").write_text(json.dumps(metadata))
    assert steps() == RAN | {"load_config": "Cached"}
    assert len(registry.list_models()) == 2


def test_a_changed_line_of_the_core_runs_all_steps_again_and_finds_their_work_done(project, server):
    for package in ("src", "tasks", "flows"):
        shutil.copytree(ROOT / package, project / package)
    code = (
        "import json; from flows.training_pipeline import training_pipeline as flow;"
        "print(flow('config.yaml', return_state=True).state_details.flow_run_id)"
    )

    def states() -> dict[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", code], env=server, check=True, capture_output=True, text=True
        )
        runs = task_runs(done.stdout.split()[-1])
        return {step: run.state.name for step, run in runs.items()}

    assert states() == RAN
    before = record()
    assert states() == CACHED
    with (project / "src" / "versions.py").open("a") as file:
        file.write("# another line\n")
    assert states() == RAN
    assert record() == before


def test_a_damaged_or_deleted_result_store_costs_a_run_and_changes_nothing(steps):
    steps()
    before = record()
    for path in Path("artifacts/.cache").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert steps() == RAN
    for path in Path("artifacts/.cache").iterdir():
        path.write_text(path.read_text().replace("20", "21").replace("dataset_v1", "dataset_v2"))
    assert steps() == RAN
    shutil.rmtree("artifacts/.cache")
    assert steps() == RAN
    assert record() == before


def test_a_transient_error_is_retried_and_leaves_one_entry(project, monkeypatch):
    calls = []
    register_model = registry.register_model

    def failing_twice(*arguments):
        calls.append(arguments)
        if len(calls) < 3:
            raise OSError(5, "Input/output error", "registry.json")
        return register_model(*arguments)

    monkeypatch.setattr(registry, "register_model", failing_twice)
    training_pipeline("config.yaml", "model_v1")
    assert len(calls) == 3
    assert [model["model_version"] for model in registry.list_models()] == ["model_v1"]


@pytest.mark.parametrize("error", [ValueError("bad data"), FileNotFoundError("no data")])
def test_what_will_fail_again_is_not_retried(project, monkeypatch, error):
    calls = []

    def failing(*arguments, **options):
        calls.append(arguments)
        raise error

    monkeypatch.setattr(dataset, "resolve_dataset", failing)
    with pytest.raises(type(error), match=str(error)):
        training_pipeline("config.yaml", "model_v1")
    assert len(calls) == 1


def test_a_name_that_is_none_fails_before_any_file_is_touched(project):
    before = record()
    message = failure(training_pipeline, "config.yaml", "../model_v1")
    assert message.startswith("model_version: expected a name")
    assert record() == before


def test_a_run_can_be_found_by_its_model_version_and_its_steps_by_their_subject(project):
    state = training_pipeline("config.yaml", return_state=True)
    version = state.result()["model_version"]
    runs = task_runs(state.state_details.flow_run_id)
    assert {run.name for run in runs.values()} == {
        "load_config config.yaml",
        "resolve_dataset dataset_v1",
        f"write_metadata {version}",
        f"register {version}",
        f"evaluate {version}",
    }
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).name == f"train {version}"


def test_the_api_shows_each_cache_key_as_the_step_and_digests_of_inputs_and_code(project):
    state = training_pipeline("config.yaml", return_state=True)
    for step, run in task_runs(state.state_details.flow_run_id).items():
        folder, key = run.state.data.storage_key.rsplit("/", 1)
        assert Path(folder) == Path("artifacts/.cache").resolve()
        assert re.fullmatch(f"{step}-[0-9a-f]{{64}}-[0-9a-f]{{64}}", key)


def test_a_run_leaves_a_report_to_paste_into_a_review(project):
    training_pipeline("config.yaml", "model_v1")
    digest = hashlib.sha256(Path("artifacts/datasets/dataset_v1/data.jsonl").read_bytes())
    quality = json.loads(EVALUATION.read_text())["metrics"]["quality_score"]
    report = artifact("training-model-v1")
    for fact in [
        "# model_v1\n\n`mistral-7b` trained on `dataset_v1`. [All models](/artifacts/artifact/",
        f"| quality_score | {quality} |",
        "| learning_rate | `2e-05` |",
        f"20 samples, sha256 `{digest.hexdigest()}`",
        "| register | **ran** | this was not done before with these inputs |",
        "-p training_config_path=config.yaml -p model_version=model_v1\n",
        "`artifacts/models/model_v1/metadata.json`",
    ]:
        assert fact in report


def test_the_report_tells_what_was_cached_what_ran_and_why(project):
    training_pipeline("config.yaml", "model_v1")
    EVALUATION.unlink()
    training_pipeline("config.yaml", "model_v1")
    report = artifact("training-model-v1")
    for step in STEPS[:4]:
        assert f"| {step} | cached | inputs, code and files are as they were |" in report
    assert f"| evaluate | **ran** | {EVALUATION} is not there |" in report


def test_a_table_lists_all_models_the_newest_first_each_with_its_report(project):
    training_pipeline("config.yaml", "model_v1")
    training_pipeline("config.yaml", "Model_V2")
    rows = json.loads(artifact("models"))
    assert [row["model"] for row in rows] == [
        "[Model_V2](/artifacts/key/training-model-v2)",
        "[model_v1](/artifacts/key/training-model-v1)",
    ]
    metrics = json.loads(EVALUATION.read_text())["metrics"]
    assert rows[1] == {
        "model": "[model_v1](/artifacts/key/training-model-v1)",
        "base model": "mistral-7b",
        "dataset": "dataset_v1",
        "samples": 20,
        "learning_rate": 2e-05,
        "epochs": 3,
        "batch_size": 16,
        **metrics,
    }


@pytest.mark.parametrize(
    ("damage", "step", "why"),
    [
        (METADATA.unlink, "write_metadata", f"{METADATA} is not there"),
        (PROVENANCE.unlink, "write_metadata", f"{PROVENANCE} is not there"),
        (REGISTRY.unlink, "register", f"{REGISTRY} does not list it"),
        (lambda: EVALUATION.write_text("{}"), "evaluate", f"{EVALUATION} is not as it was written"),
        (
            lambda: next(Path("artifacts/.cache").glob("load_config-*")).write_text("{"),
            "load_config",
            "what the cache holds of it is not what was put there",
        ),
    ],
)
def test_a_step_that_runs_again_logs_why(project, caplog, damage, step, why):
    training_pipeline("config.yaml", "model_v1")
    damage()
    caplog.clear()
    training_pipeline("config.yaml", "model_v1")
    logged = [record.message for record in caplog.records if record.module == "caching"]
    assert len(logged) == 5
    cached = "Served from the cache: inputs, code and files are as they were."
    assert {message for message in logged if message != cached} == {f"Runs: {why}."}
    assert logged[STEPS.index(step)] == f"Runs: {why}."


def test_a_failed_run_shows_the_text_of_its_error_and_no_more(project):
    Path("bad.yaml").write_text(Path("config.yaml").read_text().replace("3", "true"))
    state = training_pipeline("bad.yaml", return_state=True)
    with get_client(sync_client=True) as client:
        shown = client.read_flow_run(state.state_details.flow_run_id).state
    assert (shown.name, shown.message) == (
        "Failed",
        "bad.yaml:5: epochs: expected a whole number >= 1, found true. Write e.g. `epochs: 3`.",
    )


def test_a_run_that_hangs_is_ended_and_leaves_what_it_had_done(project, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(registry, "register_model", lambda *_: time.sleep(60))
        hanging = training_pipeline.with_options(timeout_seconds=2)
        assert hanging("config.yaml", "model_v1", return_state=True).name == "TimedOut"
    assert METADATA.exists()
    assert training_pipeline("config.yaml", "model_v1", return_state=True).is_completed()


def test_an_empty_model_version_is_one_to_derive(project):
    assert training_pipeline("config.yaml", "") == training_pipeline("config.yaml")


def test_the_command_prints_the_evaluation_alone_on_stdout(project, capfd):
    main(["run", "config.yaml", "--model-version", "model_v1"], standalone_mode=False)
    assert json.loads(capfd.readouterr().out) == json.loads(EVALUATION.read_text())


def command(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "run", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )


def test_bad_input_gives_one_readable_error_and_exit_code_2(project, server):
    Path("bad.yaml").write_text("epoch: 3\nlearning_rate: fast\n")
    done = command("bad.yaml", env=server)
    assert done.returncode == 2
    assert "unknown" not in done.stdout
    path = project / "bad.yaml"
    done = command(str(path), "--artifacts-dir", str(project / "artifacts"), env=server)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert f"error: {path}:1: unknown key 'epoch', did you mean 'epochs'?\n" in done.stderr
    assert (
        f"{path}:2: learning_rate: expected a finite number above 0, found 'fast'. "
        "Write e.g. `learning_rate: 2e-5`.\n" in done.stderr
    )
    assert not (project / "artifacts/models").exists()


def test_a_fault_of_the_code_leaves_nothing_beside_the_artifacts(project, monkeypatch):
    def faulty(*_, **__):
        raise KeyError("a bug")

    before = set(project.iterdir())
    monkeypatch.setattr(trainer, "model_metadata", faulty)
    assert "a bug" in failure(training_pipeline, "config.yaml")
    assert set(project.iterdir()) == before


def test_without_a_server_the_command_runs_on_an_embedded_one(project, server):
    env = {key: value for key, value in server.items() if key != "PREFECT_API_URL"}
    env["PREFECT_HOME"] = str(project / "home")
    config, artifacts = str(project / "config.yaml"), str(project / "artifacts")
    done = command(config, "--artifacts-dir", artifacts, "--model-version", "model_v1", env=env)
    assert (done.returncode, json.loads(done.stdout)) == (0, json.loads(EVALUATION.read_text()))
    assert read_provenance(PROVENANCE).url is None  # its page went with that server
