import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.main import main
from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep
from src.artifacts import Artifacts, read_statement
from src.errors import CorruptFileError
from src.lineage.rebuild import plan_rebuild, write_registry
from src.lineage.verify import failed_checks, verdict, verify, verify_all
from src.records.canonical import canonical_json
from src.training import dataset, registry, trainer
from src.training.pipeline import run_training_pipeline
from tests.examples import CONFIG, without_runs
from tests.flows.runs import (
    CACHED,
    COMMAND,
    RAN,
    ROOT,
    STEPS,
    artifact,
    failure,
    flow_run,
    record,
    task_runs,
)

OLD_ARTIFACTS = ROOT / "tests/fixtures/953db8b"
DATASET = Path("artifacts/datasets/dataset_v1")
METADATA = Path("artifacts/models/model_v1/metadata.json")
STATEMENT = METADATA.with_name("provenance.json")
REGISTRY = Path("artifacts/models/registry.json")
EVALUATION = Path("artifacts/evaluations/model_v1/evaluation.json")
EVALUATION_STATEMENT = EVALUATION.with_name("provenance.json")


# --- Results -------------------------------------------------------------------------------------


def test_the_flow_and_the_function_write_the_same_bytes_except_run_details(project):
    shutil.copytree("artifacts", "others")
    by_flow = training_pipeline("config.yaml", "model_v1")
    by_function = run_training_pipeline("config.yaml", "model_v1", artifacts_dir="others")
    assert by_flow == by_function
    assert without_runs(record()) == without_runs(record(Path("others")))


def test_the_statements_name_the_flow_run_and_its_page(project, server):
    state = training_pipeline("config.yaml", "model_v1", return_state=True)
    run_id = str(state.state_details.flow_run_id)
    page = f"{server['PREFECT_API_URL'].removesuffix('/api')}/runs/flow-run/{run_id}"
    artifacts = Artifacts.open()
    for folder in (artifacts.models, artifacts.evaluations):
        statement = read_statement(folder / "model_v1")
        assert statement.builder == "urn:llm-training-pipeline:builder:prefect"
        assert (statement.invocation_id, statement.url) == (run_id, page)
        assert statement.started_on <= statement.finished_on
    assert failed_checks(verify("model_v1")) == []


def test_a_second_run_serves_all_steps_from_the_cache_and_adds_nothing(steps):
    assert steps() == RAN
    before = record()
    assert steps() == CACHED
    assert record() == before


def test_only_the_first_run_reads_unchanged_data(steps, reads):
    steps()
    assert steps() == CACHED
    assert reads == ["datasets/dataset_v1/data.jsonl"]


def test_a_cached_run_returns_the_same_result(project):
    assert training_pipeline("config.yaml") == training_pipeline("config.yaml")


@pytest.fixture
def old_project(server, tmp_path, monkeypatch):
    """A project whose artifacts an older release wrote; the working directory."""
    folder = tmp_path / "old"
    shutil.copytree(OLD_ARTIFACTS, folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_run_changes_no_byte_of_artifacts_that_an_older_release_wrote(old_project):
    before = record(old_project)
    assert "artifacts/models/model_v1/metadata.json" in before
    for _ in range(2):
        evaluation = training_pipeline("configs/training/one.yaml", "model_v1")
        assert evaluation == json.loads(before["artifacts/evaluations/model_v1/evaluation.json"])
        assert record(old_project) == before


def test_a_sweep_changes_no_byte_of_artifacts_that_an_older_release_wrote(old_project):
    before = record(old_project)
    for _ in range(2):
        summary = training_sweep(grid="configs/sweeps/rates.yaml")
        assert {row["model_version"] for row in summary["leaderboard"]} == {
            "mistral-7b-dataset_v1-0815c9e3afd6",
            "mistral-7b-dataset_v1-35766bb0c4d6",
            "mistral-7b-dataset_v1-6438efc124f6",
            "mistral-7b-dataset_v1-7cd81f96ace9",
        }
        assert (summary["failed"], summary["cached"]) == ([], 4)
        [leaderboard] = Path("artifacts/sweeps").glob("*.json")
        leaderboard.unlink()
        assert record(old_project) == before


# --- Deleted and changed files -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "step"),
    [(METADATA, "write_metadata"), (EVALUATION, "evaluate")],
)
def test_only_the_step_of_a_deleted_file_runs_and_writes_the_same_bytes(steps, path, step):
    steps("model_v1")
    before = record()
    path.unlink()
    assert steps("model_v1") == CACHED | {step: "Completed"}
    assert record() == before


LOST = (
    f"{REGISTRY}: no entries, but 'model_v1' has an evaluation, so the file was deleted or "
    "emptied. Nothing was changed. Restore it from a backup, or run "
    "`llm-train rebuild-registry --artifacts-dir artifacts`."
)


@pytest.mark.parametrize("version", ["model_v1", "model_v2"])
@pytest.mark.parametrize("emptied", [None, b"", b'{\n  "models": []\n}\n'])
def test_a_run_stops_if_the_registry_was_deleted_or_emptied(project, version, emptied):
    training_pipeline("config.yaml", "model_v1")
    lost = REGISTRY.read_bytes()
    REGISTRY.unlink()
    if emptied is not None:
        REGISTRY.write_bytes(emptied)
    before = record()
    assert failure(training_pipeline, "config.yaml", version) == LOST
    assert record() == before
    write_registry(plan_rebuild())
    assert REGISTRY.read_bytes() == lost
    assert training_pipeline("config.yaml", version)["model_version"] == version


def test_an_edited_evaluation_is_restored_with_a_warning(steps, caplog):
    steps("model_v1")
    before = record()
    EVALUATION.write_text(EVALUATION.read_text().replace("0.", "0.9"))
    found = hashlib.sha256(EVALUATION.read_bytes()).hexdigest()
    assert steps("model_v1") == CACHED | {"evaluate": "Completed"}
    assert record() == before
    expected = hashlib.sha256(EVALUATION.read_bytes()).hexdigest()
    assert f"{EVALUATION}: expected sha256 {expected}, found {found}. Replaced." in caplog.messages


def test_an_edited_metadata_fails_the_run_and_is_left_as_found(project):
    training_pipeline("config.yaml", "model_v1")
    METADATA.write_text(METADATA.read_text().replace("mistral-7b", "mistral-8b"))
    before = record()
    assert failure(training_pipeline, "config.yaml", "model_v1") == (
        f"{METADATA}: model version 'model_v1' already exists with other content:\n"
        "  base_model: recorded 'mistral-8b', now 'mistral-7b'\n"
        "  training_config.base_model: recorded 'mistral-8b', now 'mistral-7b'\n"
        "Nothing was changed. The file was edited after it was written: restore it, or delete it "
        "to have it written again."
    )
    assert record() == before


def test_an_edited_registry_entry_fails_the_run_and_is_left_as_found(project):
    training_pipeline("config.yaml", "model_v1")
    REGISTRY.write_text(REGISTRY.read_text().replace('"epochs": 3', '"epochs": 4'))
    before = record()
    assert failure(training_pipeline, "config.yaml", "model_v1") == (
        f"{REGISTRY}: model version 'model_v1' already exists with other content:\n"
        "  training_config.epochs: recorded 4, now 3\n"
        "Nothing was changed. A version never changes: choose another model_version, or restore "
        "the entry if it was edited."
    )
    assert record() == before


@pytest.mark.parametrize("version", ["model_v1", "model_v2"], ids=["registered", "new"])
def test_a_registry_that_was_minified_fails_the_run_and_is_left_as_found(version, project):
    training_pipeline("config.yaml", "model_v1")
    REGISTRY.write_text(json.dumps(json.loads(REGISTRY.read_text())))
    before = REGISTRY.read_bytes()
    assert failure(training_pipeline, "config.yaml", version).startswith(
        f"{REGISTRY}: not in canonical form: edited after it was written. Left as found. Restore "
    )
    assert REGISTRY.read_bytes() == before


@pytest.mark.parametrize(("path", "size"), [(METADATA, 0), (METADATA, 40), (REGISTRY, 40)])
def test_a_truncated_file_fails_the_run_and_is_left_as_found(project, path, size):
    training_pipeline("config.yaml", "model_v1")
    path.write_bytes(path.read_bytes()[:size])
    before = record()
    assert failure(training_pipeline, "config.yaml", "model_v1").startswith(f"{path}: line ")
    assert record() == before


@pytest.mark.parametrize("size", [0, 40])
def test_a_truncated_evaluation_is_restored(steps, size):
    steps("model_v1")
    before = record()
    EVALUATION.write_bytes(EVALUATION.read_bytes()[:size])
    assert steps("model_v1") == CACHED | {"evaluate": "Completed"}
    assert record() == before


def test_a_changed_comment_or_notation_of_a_number_runs_only_load_config(steps):
    steps()
    config = Path("config.yaml")
    config.write_text("# a remark\n" + config.read_text().replace("2e-5", "0.00002"))
    assert steps() == CACHED | {"load_config": "Completed"}


def test_a_changed_value_runs_all_steps_but_resolve_dataset(steps):
    steps()
    config = Path("config.yaml")
    config.write_text(config.read_text().replace("2e-5", "3e-5"))
    assert steps() == RAN | {"resolve_dataset": "Cached"}
    assert len(registry.list_models()) == 2


def change_data():
    """Change one byte of the data, and record the new digest in the dataset's metadata.json."""
    data = (DATASET / "data.jsonl").read_bytes().replace(b"a", b"b", 1)
    (DATASET / "data.jsonl").write_bytes(data)
    metadata = json.loads((DATASET / "metadata.json").read_text())
    metadata["dataset_hash"] = hashlib.sha256(data).hexdigest()
    (DATASET / "metadata.json").write_text(json.dumps(metadata))


def test_one_changed_byte_of_data_runs_all_steps_but_load_config(steps):
    steps()
    change_data()
    assert steps() == RAN | {"load_config": "Cached"}
    assert len(registry.list_models()) == 2


def test_a_comment_added_to_the_core_runs_all_steps_and_changes_no_file(project, server):
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
    with (project / "src/names.py").open("a") as file:
        file.write("# another line\n")
    assert states() == RAN
    assert record() == before


def test_damaged_altered_and_deleted_cached_results_run_all_steps_and_change_no_file(steps):
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


# --- Errors --------------------------------------------------------------------------------------


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
def test_a_permanent_error_is_not_retried(project, monkeypatch, error):
    calls = []

    def failing(*arguments, **options):
        calls.append(arguments)
        raise error

    monkeypatch.setattr(dataset, "resolve_dataset", failing)
    with pytest.raises(type(error), match=str(error)):
        training_pipeline("config.yaml", "model_v1")
    assert len(calls) == 1


def test_an_invalid_model_version_fails_before_any_file_is_written(project):
    before = record()
    assert failure(training_pipeline, "config.yaml", "../model_v1") == (
        "model_version: expected a name of at most 128 letters, digits, '.', '_' and '-' that "
        "starts with a letter or digit and is not 'registry.json', found '../model_v1'."
    )
    assert record() == before
    assert not Path("artifacts/.cache").exists()


def test_a_failed_run_has_one_line_in_its_state_and_its_log_with_the_reason_first(project, caplog):
    faulty = CONFIG.replace("epochs: 3", "epochs: true").replace("batch_size: 16", "batch: 16")
    Path("bad.yaml").write_text(faulty)
    state = training_pipeline("bad.yaml", return_state=True)
    recorded = flow_run(state.state_details.flow_run_id).state
    line = (
        "epochs: expected an integer >= 1, found true. Write e.g. `epochs: 3` (line 5); "
        "unknown key 'batch', did you mean 'batch_size'? (line 6); missing key 'batch_size'. "
        "Write e.g. `batch_size: 16` (bad.yaml)"
    )
    assert (recorded.name, recorded.message) == ("Failed", line)
    logged = [(each.levelname, each.name, each.message) for each in caplog.records]
    assert logged[-3:] == [
        ("ERROR", "prefect.task_runs", "Finished in state Failed"),
        ("ERROR", "prefect.flow_runs", line),
        ("INFO", "prefect.flow_runs", "Finished in state Failed"),
    ]
    assert [each for each in caplog.messages if "epochs" in each] == [line]


def test_a_run_that_hangs_times_out_and_keeps_its_files(project, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(registry, "register_model", lambda *_: time.sleep(60))
        patch.setattr("flows.steps.TIMEOUT_SECONDS", 2)
        state = training_pipeline("config.yaml", "model_v1", return_state=True)
        assert (state.name, state.message) == (
            "TimedOut",
            "step register: not finished after 0.000555556 hours. What was written is whole; run "
            "again.",
        )
    assert METADATA.exists()
    assert training_pipeline("config.yaml", "model_v1", return_state=True).is_completed()


def test_a_run_with_an_unexpected_error_writes_no_file_next_to_the_artifacts(project, monkeypatch):
    def faulty(*_, **__):
        raise KeyError("a bug")

    before = set(project.iterdir())
    monkeypatch.setattr(trainer, "model_metadata", faulty)
    assert "a bug" in failure(training_pipeline, "config.yaml")
    assert set(project.iterdir()) == before


def test_an_empty_model_version_is_derived(project):
    assert training_pipeline("config.yaml", "") == training_pipeline("config.yaml")


# --- Names, reports and logs ---------------------------------------------------------------------


def test_a_run_is_named_after_its_model_and_each_step_after_its_subject(project):
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
    assert flow_run(state.state_details.flow_run_id).name == f"train {version}"


def test_a_cache_key_is_the_step_and_the_digests_of_inputs_and_code(project):
    state = training_pipeline("config.yaml", return_state=True)
    for step, run in task_runs(state.state_details.flow_run_id).items():
        folder, key = run.state.data.storage_key.rsplit("/", 1)
        assert Path(folder) == Path("artifacts/.cache").resolve()
        assert re.fullmatch(f"{step}-[0-9a-f]{{64}}-[0-9a-f]{{64}}", key)
        assert Path(folder, key).is_file()


def test_the_report_has_metrics_inputs_decisions_and_files(project):
    training_pipeline("config.yaml", "model_v1")
    digest = hashlib.sha256((DATASET / "data.jsonl").read_bytes()).hexdigest()
    quality = json.loads(EVALUATION.read_text())["metrics"]["quality_score"]
    report = artifact("training-model-v1--d64be24a37a18742")
    for fact in [
        "# model_v1\n\n`mistral-7b` trained on `dataset_v1`. [All models](/artifacts/artifact/",
        f"| quality_score | {quality} |",
        "| learning_rate | `2e-05` |",
        f"20 samples, sha256 `{digest}`",
        "| register | **ran** | no valid cached result for these inputs and this code |",
        "-p training_config_path=config.yaml -p model_version=model_v1\n",
        "`artifacts/models/model_v1/metadata.json`",
    ]:
        assert fact in report


def test_the_report_has_the_reason_of_each_cache_decision(project):
    training_pipeline("config.yaml", "model_v1")
    EVALUATION.unlink()
    training_pipeline("config.yaml", "model_v1")
    report = artifact("training-model-v1--d64be24a37a18742")
    for step in STEPS[:4]:
        assert f"| {step} | cached | inputs, code and files are unchanged |" in report
    assert f"| evaluate | **ran** | {EVALUATION} does not exist |" in report


def test_the_table_of_models_has_the_newest_first_and_links_their_reports(project):
    training_pipeline("config.yaml", "model_v1")
    training_pipeline("config.yaml", "Model_V2")
    rows = json.loads(artifact("models"))
    assert [row["model"] for row in rows] == [
        "[Model_V2](/artifacts/key/training-model-v2--2f54dc67cb4b1a87)",
        "[model_v1](/artifacts/key/training-model-v1--d64be24a37a18742)",
    ]
    metrics = json.loads(EVALUATION.read_text())["metrics"]
    assert rows[1] == {
        "model": "[model_v1](/artifacts/key/training-model-v1--d64be24a37a18742)",
        "quality": metrics["quality_score"],
        "cost_per_1k": metrics["cost_per_1k_tokens"],
        "latency_ms": metrics["latency_ms"],
    }


def decisions(caplog):
    """Return the logged cache decision of each step, in order, and clear the log."""
    logged = [entry.message for entry in caplog.records if entry.module == "caching"]
    caplog.clear()
    return logged


SERVED = "Served from the cache: inputs, code and files are unchanged."
NO_RESULT = "Runs: no valid cached result for these inputs and this code."


def test_each_run_logs_whether_its_steps_are_cached(project, caplog):
    training_pipeline("config.yaml", "model_v1")
    assert decisions(caplog) == [NO_RESULT] * 5
    training_pipeline("config.yaml", "model_v1")
    assert decisions(caplog) == [SERVED] * 5


@pytest.mark.parametrize(
    ("config", "root"),
    [
        ("config.yaml", "../{name}/artifacts"),
        ("config.yaml", "{folder}/artifacts"),
        ("{folder}/config.yaml", "artifacts/."),
        ("copy.yaml", "link"),
    ],
)
def test_the_same_files_under_other_paths_are_served_from_the_cache(config, root, project, caplog):
    shutil.copy("config.yaml", "copy.yaml")
    Path("link").symlink_to("artifacts")
    training_pipeline("config.yaml", "model_v1")
    caplog.clear()
    names = {"folder": project.resolve(), "name": project.resolve().name}
    training_pipeline(config.format(**names), "model_v1", root.format(**names))
    assert decisions(caplog) == [SERVED] * 5


def test_a_step_that_failed_says_so_in_the_next_run(project, caplog):
    data = DATASET / "data.jsonl"
    data.rename("moved")
    failure(training_pipeline, "config.yaml", "model_v1")
    Path("moved").rename(data)
    caplog.clear()
    training_pipeline("config.yaml", "model_v1")
    assert decisions(caplog) == [
        SERVED,
        "Runs: the last run of this step failed.",
        NO_RESULT,
        NO_RESULT,
        NO_RESULT,
    ]
    training_pipeline("config.yaml", "model_v1")
    assert decisions(caplog) == [SERVED] * 5


def alter_result(step, old, new):
    """Replace text in the cached result of a step."""
    [path] = Path("artifacts/.cache").glob(f"{step}-*")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "step", "reason"),
    [
        (METADATA.unlink, "write_metadata", f"{METADATA} does not exist"),
        (
            lambda: REGISTRY.write_text(REGISTRY.read_text().replace("model_v1", "model_v0")),
            "register",
            f"{REGISTRY} has no entry of the model",
        ),
        (EVALUATION.unlink, "evaluate", f"{EVALUATION} does not exist"),
        (lambda: EVALUATION.write_text("{}"), "evaluate", f"{EVALUATION} was changed"),
        (
            EVALUATION_STATEMENT.unlink,
            "evaluate",
            f"{EVALUATION_STATEMENT} does not exist",
        ),
        (
            lambda: alter_result("load_config", '"', ""),
            "load_config",
            "the cached result is unreadable or altered",
        ),
        (
            lambda: alter_result("load_config", "mistral-7b", "mistral-8b"),
            "load_config",
            "the cached result is unreadable or altered",
        ),
        (
            lambda: alter_result("resolve_dataset", '"num_samples": 20', '"num_samples": 21'),
            "resolve_dataset",
            "the cached result is unreadable or altered",
        ),
        (
            lambda: alter_result("resolve_dataset", '"num_samples"', '"num_lines"'),
            "resolve_dataset",
            "the cached result is unreadable or altered",
        ),
        (
            lambda: alter_result("register", "mistral-7b", "mistral-8b"),
            "register",
            "the cached result is unreadable or altered",
        ),
    ],
)
def test_a_step_that_runs_again_logs_the_reason(project, caplog, damage, step, reason):
    training_pipeline("config.yaml", "model_v1")
    damage()
    caplog.clear()
    training_pipeline("config.yaml", "model_v1")
    logged = decisions(caplog)
    assert len(logged) == 5
    assert {message for message in logged if message != SERVED} == {f"Runs: {reason}."}
    assert logged[STEPS.index(step)] == f"Runs: {reason}."


def test_a_deleted_statement_of_a_model_is_written_again_and_the_model_evaluated_again(
    project, caplog
):
    training_pipeline("config.yaml", "model_v1")
    STATEMENT.unlink()
    caplog.clear()
    training_pipeline("config.yaml", "model_v1")
    assert decisions(caplog) == [
        SERVED,
        SERVED,
        f"Runs: {STATEMENT} does not exist.",
        SERVED,
        f"Runs: {STATEMENT} was changed.",
    ]


def reformat(path):
    """Change the bytes of a JSON file, not its contents."""
    path.write_text(json.dumps(json.loads(path.read_text())))


def test_an_evaluations_statement_with_other_bytes_is_not_served_from_the_cache(steps):
    steps("model_v1")
    reformat(EVALUATION_STATEMENT)
    assert steps("model_v1") == CACHED | {"evaluate": "Completed"}


def test_a_models_statement_with_other_bytes_stops_every_run(project):
    training_pipeline("config.yaml", "model_v1")
    expected = hashlib.sha256(STATEMENT.read_bytes()).hexdigest()
    reformat(STATEMENT)
    found = hashlib.sha256(STATEMENT.read_bytes()).hexdigest()
    before = record()
    message = (
        f"{STATEMENT}: found sha256 {found}. Expected {expected}, as {EVALUATION_STATEMENT} "
        "records: it was edited or written again after the evaluation. The evaluation was not "
        "changed. Restore the file, or train the config under another model_version."
    )
    for _ in range(2):
        assert failure(training_pipeline, "config.yaml", "model_v1") == message
    with pytest.raises(CorruptFileError) as caught:
        run_training_pipeline("config.yaml", "model_v1")
    assert str(caught.value) == message
    assert record() == before


def test_a_forged_evaluation_is_not_served_from_the_cache_although_all_files_agree(project):
    expected = training_pipeline("config.yaml", "model_v1")
    forged = expected | {"metrics": expected["metrics"] | {"quality_score": 0.9999}}
    EVALUATION.write_bytes(canonical_json(forged))
    statement = json.loads(EVALUATION_STATEMENT.read_text())
    digest = hashlib.sha256(canonical_json(forged)).hexdigest()
    statement["subject"][0]["digest"]["sha256"] = digest
    EVALUATION_STATEMENT.write_bytes(canonical_json(statement))
    [result] = Path("artifacts/.cache").glob("evaluate-*")
    content = json.loads(result.read_text())
    content["result"] = forged
    content["files"][f"evaluations/model_v1/{EVALUATION_STATEMENT.name}"] = hashlib.sha256(
        EVALUATION_STATEMENT.read_bytes()
    ).hexdigest()
    result.write_text(json.dumps(content))
    assert training_pipeline("config.yaml", "model_v1") == expected


def test_a_replaced_statement_is_not_attested_by_a_new_statement_of_the_evaluation(project):
    training_pipeline("config.yaml", "model_v1")
    expected = hashlib.sha256(STATEMENT.read_bytes()).hexdigest()
    content = json.loads(STATEMENT.read_text())
    content["predicate"]["runDetails"]["metadata"]["startedOn"] = "2020-01-01T00:00:00.000Z"
    STATEMENT.write_bytes(canonical_json(content))
    EVALUATION_STATEMENT.unlink()
    before = record()
    found = hashlib.sha256(STATEMENT.read_bytes()).hexdigest()
    for _ in range(2):
        assert failure(training_pipeline, "config.yaml", "model_v1") == (
            f"{STATEMENT}: found sha256 {found}. Expected {expected}, as when the model was "
            f"evaluated. {EVALUATION_STATEMENT}, which names it too, does not exist. Nothing was "
            "written. Restore both files, or train the config under another model_version."
        )
        assert record() == before


def test_changed_data_and_changed_dataset_metadata_are_logged_as_such(project, caplog):
    training_pipeline("config.yaml")
    old = hashlib.sha256((DATASET / "data.jsonl").read_bytes()).hexdigest()
    change_data()
    new = hashlib.sha256((DATASET / "data.jsonl").read_bytes()).hexdigest()
    for change, reason in [
        (lambda: None, f"{DATASET}/data.jsonl was changed from sha256 {old} to {new}"),
        (
            lambda: (DATASET / "metadata.json").write_text("{}"),
            f"{DATASET}/metadata.json was changed",
        ),
        ((DATASET / "metadata.json").unlink, f"{DATASET}/metadata.json does not exist"),
    ]:
        change()
        caplog.clear()
        training_pipeline("config.yaml")
        assert decisions(caplog)[1] == f"Runs: {reason}."


def test_a_step_that_failed_is_served_from_the_cache_after_its_files_were_restored(project, caplog):
    training_pipeline("config.yaml", "model_v1")
    before = record()
    EVALUATION_STATEMENT.write_text("{")
    caplog.clear()
    message = failure(training_pipeline, "config.yaml", "model_v1")
    assert message.startswith(f"{EVALUATION_STATEMENT}: line 1, column 2: not valid JSON (")
    assert decisions(caplog) == [*[SERVED] * 4, f"Runs: {message}."]
    EVALUATION_STATEMENT.write_bytes(before["evaluations/model_v1/provenance.json"])
    training_pipeline("config.yaml", "model_v1")
    assert decisions(caplog) == [SERVED] * 5
    assert record() == before


# --- The command ---------------------------------------------------------------------------------


def test_the_command_prints_only_the_evaluation_on_stdout(project, capfd):
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


def test_a_missing_config_gives_one_error_and_exit_code_2(project, server):
    path = project / "none.yaml"
    done = command(str(path), "--artifacts-dir", str(project / "artifacts"), env=server)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {path}: no such training config.\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_invalid_config_gives_all_its_faults_and_exit_code_2(project, server):
    Path("bad.yaml").write_text("epoch: 3\nlearning_rate: fast\n")
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


def test_the_statements_name_the_host_and_the_worker_of_the_run(project, monkeypatch):
    monkeypatch.setenv("PREFECT__WORKER_NAME", "Worker 7")
    training_pipeline("config.yaml", "model_v1")
    monkeypatch.delenv("PREFECT__WORKER_NAME")
    training_pipeline("config.yaml", "model_v2")
    host = {"host": os.uname().nodename}
    for version, expected in (("model_v1", host | {"worker": "Worker 7"}), ("model_v2", host)):
        for folder in (Artifacts.open().models, Artifacts.open().evaluations):
            assert read_statement(folder / version).internal_parameters == expected
    assert {version: verdict(checks) for version, checks in verify_all()} == {
        "model_v1": "MATCH",
        "model_v2": "MATCH",
    }
