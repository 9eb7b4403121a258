import base64
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event
from xml.etree import ElementTree

import pytest
from prefect.events.worker import EventsWorker

import flows.training_sweep
from cli.main import main
from flows.report import report_key
from flows.training_sweep import SweepError, training_sweep
from src.evaluation import evaluator
from src.training import grids
from src.training.grids import read_grid
from src.training.pipeline import run_training_pipeline
from src.training.registry import list_models
from tests.examples import without_runs, written
from tests.flows.runs import (
    COMMAND,
    ROOT,
    STEPS,
    artifact,
    failure,
    finished_task_runs,
    flow_run,
    python,
    record,
)
from tests.network import STARTUP_SECONDS

GRID = """\
base_config: config.yaml
learning_rate: [1e-5, 2e-5, 3e-5]
epochs: [2, 3]
"""
EPOCHS = "base_config: config.yaml\nepochs: [2, 3, 4]\n"
REGISTRY = Path("artifacts/models/registry.json")

HANG_SECONDS = 600  # longer than anything takes on a busy machine
INTERRUPTED = """
import os, signal, time
import flows.training_sweep as sweep
from src.evaluation import evaluator
evaluate_model = evaluator.evaluate_model
def slow(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep({seconds})
    return evaluate_model(*arguments, **options)
evaluator.evaluate_model = slow
sweep.GRACE_SECONDS = {grace}
sweep.training_sweep(grid="grid.yaml", concurrency=1)
"""


@pytest.fixture
def project(project):
    """The project with a grid of six configs, `grid.yaml`, and one of three, `epochs.yaml`."""
    Path("grid.yaml").write_text(GRID)
    Path("epochs.yaml").write_text(EPOCHS)
    return project


def models_by_epochs():
    """Return the registered model versions by their number of epochs, in order."""
    return {model["training_config"]["epochs"]: model["model_version"] for model in list_models()}


def fails(*arguments):
    """Run a sweep in which some configs fail; return its error."""
    with pytest.raises(SweepError) as caught:
        training_sweep(*arguments)
    return caught.value


# --- Results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [50, 4])
def test_a_sweep_writes_the_same_bytes_as_its_configs_one_by_one(project, monkeypatch, batch):
    shutil.copytree("artifacts", "others")
    monkeypatch.setattr(flows.training_sweep, "BATCH_SIZE", batch)
    summary = training_sweep(grid="grid.yaml")
    assert (len(summary["leaderboard"]), summary["failed"], summary["cached"]) == (6, [], 0)
    shutil.copytree("artifacts/sweeps", "others/sweeps")
    for row in json.loads(REGISTRY.read_text())["models"]:
        [path] = [
            each["config"]
            for each in summary["leaderboard"]
            if each["model_version"] == row["model_version"]
        ]
        run_training_pipeline(path, artifacts_dir="others")
    assert without_runs(record()) == without_runs(record(Path("others")))


def test_models_are_registered_in_the_order_of_their_configs(project):
    training_sweep(["config.yaml"], "grid.yaml")
    assert [
        (model["training_config"]["learning_rate"], model["training_config"]["epochs"])
        for model in list_models()
    ] == [(2e-5, 3), (1e-5, 2), (1e-5, 3), (2e-5, 2), (3e-5, 2), (3e-5, 3)]


def test_a_temporary_server_has_recorded_every_step_when_the_command_ends(project):
    Path("many.yaml").write_text(f"base_config: config.yaml\nepochs: {list(range(1, 61))}\n")
    home = project / "prefect"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_SECONDS),
    }
    subprocess.run(
        [sys.executable, "-c", COMMAND, "sweep", "--grid", "many.yaml"],
        env=env | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        ended = database.execute("select state_type, count(*) from task_run group by 1").fetchall()
    assert ended == [("COMPLETED", 300)]


def test_a_long_sweep_waits_until_task_runs_are_sent_but_not_forever(project, monkeypatch):
    waits = []
    monkeypatch.setattr(
        EventsWorker, "wait_until_empty", lambda worker: waits.append(worker) or Event().wait()
    )
    for name, value in {"BATCH_SIZE": 1, "MAX_UNSENT": 2, "SENDING_SECONDS": 0.1}.items():
        monkeypatch.setattr(flows.training_sweep, name, value)
    assert len(training_sweep(grid="grid.yaml")["leaderboard"]) == 6
    assert len(waits) == 2  # before the third and the fifth


def test_every_step_of_every_config_is_a_task_run(project):
    state = training_sweep(grid="epochs.yaml", return_state=True)
    versions = models_by_epochs().values()
    configs = [row["config"] for row in state.result()["leaderboard"]]
    runs = finished_task_runs(state.state_details.flow_run_id, 15)
    assert sorted(run.name for run in runs) == sorted(
        [f"load_config {config}" for config in configs]
        + ["resolve_dataset dataset_v1"] * 3
        + [f"{step} {version}" for step in STEPS[2:] for version in versions]
    )


def test_a_sweep_of_one_config_is_served_from_the_cache_of_another_sweep(project):
    [best, *_] = training_sweep(grid="grid.yaml")["leaderboard"]
    before = record()
    assert training_sweep([best["config"]])["cached"] == 1
    assert record() == before


def test_models_are_ranked_by_quality_then_cost_then_latency(project, monkeypatch):
    metrics = {
        2: {"quality_score": 0.5, "cost_per_1k_tokens": 0.02, "latency_ms": 10},
        3: {"quality_score": 0.5, "cost_per_1k_tokens": 0.01, "latency_ms": 90},
        4: {"quality_score": 0.5, "cost_per_1k_tokens": 0.01, "latency_ms": 80},
        5: {"quality_score": 0.6, "cost_per_1k_tokens": 0.09, "latency_ms": 99},
    }
    simulated = replace(
        evaluator.SIMULATED_EVALUATOR,
        measure=lambda metadata, _: metrics[metadata["training_config"]["epochs"]],
    )
    monkeypatch.setattr(evaluator, "SIMULATED_EVALUATOR", simulated)
    Path("epochs.yaml").write_text("base_config: config.yaml\nepochs: [2, 3, 4, 5]\n")
    board = training_sweep(grid="epochs.yaml")["leaderboard"]
    assert [row["epochs"] for row in board] == [5, 4, 3, 2]
    assert board[0] == {
        "model_version": models_by_epochs()[5],
        "quality_score": 0.6,
        "cost_per_1k_tokens": 0.09,
        "latency_ms": 99,
        "base_model": "mistral-7b",
        "dataset_version": "dataset_v1",
        "learning_rate": 2e-05,
        "epochs": 5,
        "batch_size": 16,
        "config": "artifacts/sweeps/epochs-25491686648f.yaml",
    }


@pytest.mark.parametrize("metrics", [{"quality_score": "best", "latency_ms": 10**400}, "none"])
def test_a_model_whose_metrics_are_no_numbers_is_ranked_last(project, monkeypatch, metrics):
    load_evaluation = evaluator.load_evaluation

    def altered(version, *arguments):
        evaluation = load_evaluation(version, *arguments)
        is_altered = version == models_by_epochs()[3]
        return evaluation | {"metrics": metrics} if is_altered else evaluation

    monkeypatch.setattr(evaluator, "load_evaluation", altered)
    board = training_sweep(grid="epochs.yaml")["leaderboard"]
    assert [row["epochs"] for row in board].index(3) == 2
    found = metrics if isinstance(metrics, dict) else {}
    for name in ("quality_score", "cost_per_1k_tokens", "latency_ms"):
        assert board[2][name] == found.get(name)


# --- Finished steps ------------------------------------------------------------------------------


def test_a_second_sweep_is_served_from_the_cache_and_changes_no_byte(project, tree):
    first = training_sweep(grid="grid.yaml")
    before = tree(Path("artifacts"))
    state = training_sweep(grid="grid.yaml", return_state=True)
    assert state.result() == first | {"cached": 6}
    assert tree(Path("artifacts")) == before
    runs = finished_task_runs(state.state_details.flow_run_id, 30)
    assert {run.state.name for run in runs} == {"Cached"}


def test_a_config_that_is_replaced_after_the_sweep_wrote_it_fails_alone_and_is_not_shown(
    project, tmp_path, monkeypatch
):
    secret = tmp_path / "secret.yaml"
    secret.write_text("password: hunter2\n")

    def write_grid(path, artifacts):
        files = grids.write_grid(path, artifacts)
        first, second = map(Path, list(files)[:2])
        first.unlink()
        first.symlink_to(secret)
        second.write_text(second.read_text().replace("mistral", "other"))
        return files

    monkeypatch.setattr(flows.training_sweep, "write_grid", write_grid)
    Path("grid.yaml").write_text(GRID)
    with pytest.raises(SweepError) as caught:
        training_sweep(grid="grid.yaml")
    failed = [each["error"] for each in caught.value.summary["failed"]]
    assert [error.partition(": ")[2] for error in failed] == [
        "changed after the sweep wrote it. Left as found; delete the file to have it written again."
    ] * 2
    assert "password" not in str(caught.value)
    assert len(caught.value.summary["leaderboard"]) == len(read_grid("grid.yaml")) - 2


def test_a_larger_grid_runs_only_its_new_configs(project):
    training_sweep(grid="epochs.yaml")
    Path("epochs.yaml").write_text(EPOCHS.replace("4", "4, 5"))
    assert training_sweep(grid="epochs.yaml")["cached"] == 3
    assert list(models_by_epochs()) == [2, 3, 4, 5]


KILLED = """
import os, signal
from itertools import count
import flows.training_sweep as sweep
from src.evaluation import evaluator
calls, evaluate_model = count(1), evaluator.evaluate_model
def dying(*arguments, **options):
    if next(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate_model(*arguments, **options)
evaluator.evaluate_model = dying
sweep.BATCH_SIZE = 2
sweep.training_sweep(grid="grid.yaml", concurrency=1)
"""


def test_a_killed_sweep_continues_and_writes_the_same_bytes(project, server):
    shutil.copytree("artifacts", "others")
    killed = python(KILLED, server)
    output, _ = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, output
    assert len(list_models()) == 4
    assert len(list(Path("artifacts/evaluations").iterdir())) == 3
    summary = training_sweep(grid="grid.yaml")
    assert (len(summary["leaderboard"]), summary["cached"]) == (6, 3)
    training_sweep(grid="grid.yaml", artifacts_dir="others")
    assert without_runs(record()) == without_runs(record(Path("others")))


def test_a_bug_in_the_code_ends_the_sweep_and_keeps_finished_steps(project, monkeypatch):
    calls, evaluate_model = count(1), evaluator.evaluate_model

    def faulty(*arguments, **options):
        if next(calls) == 3:
            raise KeyError("a bug")
        return evaluate_model(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "evaluate_model", faulty)
        with pytest.raises(KeyError, match="a bug"):
            training_sweep(grid="grid.yaml")
    assert training_sweep(grid="grid.yaml")["cached"] == 5
    before = record()
    assert training_sweep(grid="grid.yaml")["cached"] == 6
    assert record() == before


def test_an_interrupted_sweep_finishes_running_configs_and_starts_no_others(project, server):
    process = python(INTERRUPTED.format(seconds=1, grace=HANG_SECONDS), server)
    output, _ = process.communicate()
    assert (process.returncode != 0, len(list_models())) == (True, 6), output
    assert len(list(Path("artifacts/evaluations").iterdir())) == 1
    assert "after shutdown" not in output  # the error of a thread that outlives the run


def test_a_step_that_hangs_does_not_keep_an_interrupted_sweep_from_exiting(project, server):
    process = python(INTERRUPTED.format(seconds=HANG_SECONDS, grace=0.1), server)
    try:
        output, _ = process.communicate(timeout=HANG_SECONDS / 2)
    finally:
        process.kill()
    assert (process.returncode != 0, len(list_models())) == (True, 6), output
    assert not Path("artifacts/evaluations").exists()
    assert "after shutdown" not in output


def test_the_dataset_is_read_once_for_all_concurrent_configs(project, reads):
    training_sweep(grid="grid.yaml", concurrency=4)
    training_sweep(["config.yaml"], "epochs.yaml", concurrency=4)
    assert reads == ["datasets/dataset_v1/data.jsonl"]


# --- Failures ------------------------------------------------------------------------------------


def test_an_invalid_config_fails_alone_and_is_named(project):
    Path("bad.yaml").write_text("epoch: 3\nlearning_rate: fast\n")
    shutil.copy("config.yaml", "other.yaml")
    Path("other.yaml").write_text(Path("config.yaml").read_text().replace("t_v1", "t_v9"))
    message = failure(training_sweep, ["bad.yaml", "config.yaml", "other.yaml"], "epochs.yaml")
    lines = message.splitlines()
    assert lines[0] == "2 of 6 configs failed, the others are done:"
    assert lines[1] == "bad.yaml:1: unknown key 'epoch', did you mean 'epochs'?"
    assert lines[-1].startswith("other.yaml: artifacts/datasets/dataset_v9/data.jsonl: no dataset ")
    assert sorted(models_by_epochs()) == [2, 3, 4]
    report = artifact("sweep")
    assert "\n4 done (0 from the cache), 2 failed; " in report
    [row] = [line for line in report.splitlines() if line.startswith("| bad.yaml | ")]
    assert row.startswith(
        "| bad.yaml | bad.yaml:1: unknown key 'epoch', did you mean 'epochs'?<br>"
    )
    assert row.endswith("Write e.g. \\`batch_size: 16\\`. |")
    assert "| other.yaml | artifacts/datasets/dataset_v9/" in report


def test_the_error_of_a_sweep_has_its_summary(project):
    summary = fails(["none.yaml", "config.yaml"]).summary
    assert summary["failed"] == [
        {"config": "none.yaml", "error": "none.yaml: no such training config."}
    ]
    assert [row["config"] for row in summary["leaderboard"]] == ["config.yaml"]
    assert fails(["none.yaml", "config.yaml"]).summary == summary | {"cached": 1}


def test_the_message_names_at_most_ten_failed_configs(project):
    assert failure(training_sweep, [f"none{n:02}.yaml" for n in range(12)]) == "\n".join(
        [
            "12 of 12 configs failed, the others are done. The first 10:",
            *(f"none{n:02}.yaml: no such training config." for n in range(10)),
        ]
    )
    assert "| none11.yaml | none11.yaml: no such training config. |" in artifact("sweep")
    assert json.loads(artifact("sweep-leaderboard")) == []


def test_an_edited_metadata_fails_its_config_alone_and_is_left_as_found(project):
    training_sweep(grid="epochs.yaml")
    path = Path("artifacts/models", models_by_epochs()[3], "metadata.json")
    path.write_text(path.read_text().replace("mistral-7b", "mistral-8b"))
    before = record()
    [fault] = fails((), "epochs.yaml").summary["failed"]
    assert "base_model: recorded 'mistral-8b', now 'mistral-7b'" in fault["error"]
    assert record() == before


def test_a_conflict_in_the_registry_fails_its_config_alone(project):
    run_training_pipeline("config.yaml")
    REGISTRY.write_text(REGISTRY.read_text().replace('"epochs": 3', '"epochs": 9'))
    edited = list_models()
    [fault] = fails((), "epochs.yaml").summary["failed"]
    assert "training_config.epochs: recorded 9, now 3" in fault["error"]
    assert list_models()[:1] == edited
    assert sorted(models_by_epochs()) == [2, 4, 9]
    for epochs in (2, 4):
        assert Path("artifacts/evaluations", models_by_epochs()[epochs]).is_dir()


def test_a_sweep_fails_every_config_if_the_registry_was_deleted_and_adds_no_model(project):
    training_sweep(grid="grid.yaml")
    REGISTRY.unlink()
    before = written(Path("artifacts"))
    error = fails((), "epochs.yaml")  # two of its three models exist
    assert [fault["error"].partition(" but ")[0] for fault in error.summary["failed"]] == [
        f"{REGISTRY}: no entries,"
    ] * 3
    assert written(Path("artifacts")) == before


def test_a_corrupt_registry_fails_every_config_and_is_left_as_found(project):
    REGISTRY.parent.mkdir()
    REGISTRY.write_text('{"models": [')
    error = fails((), "epochs.yaml")
    assert [fault["error"].partition(": line ")[0] for fault in error.summary["failed"]] == [
        str(REGISTRY)
    ] * 3
    assert REGISTRY.read_text() == '{"models": ['
    assert not Path("artifacts/evaluations").exists()


def test_after_a_failed_batch_each_model_is_registered_alone(project, monkeypatch):
    def failing(*arguments):
        raise OSError(5, "Input/output error", "registry.json")

    monkeypatch.setattr(flows.training_sweep, "register_models", failing)
    assert training_sweep(grid="epochs.yaml")["failed"] == []
    assert sorted(models_by_epochs()) == [2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([["config.yaml"], "", 0], "concurrency: expected 1 or more, found 0."),
        ([[], ""], "sweep: found no config. Pass configs, a grid, or both."),
        ([["config.yaml"], "none.yaml"], "none.yaml: no such sweep."),
        ([["config.yaml", "x*.yaml"]], "x*.yaml: no training config matches this pattern."),
        (
            [["config.yaml"], "bad.yaml"],
            "bad.yaml:1: unknown key 'epoch', did you mean 'epochs'?\n"
            "bad.yaml: missing key 'base_config'. "
            "Write e.g. `base_config: configs/training/mistral_finetune.yaml`.",
        ),
    ],
)
def test_an_invalid_sweep_fails_before_any_file_is_written(project, tree, arguments, message):
    Path("bad.yaml").write_text("epoch: [3]\n")
    before = tree(project)
    assert failure(training_sweep, *arguments) == message
    assert tree(project) == before


# --- Pages and logs ------------------------------------------------------------------------------


def test_a_sweep_publishes_progress_leaderboard_report_and_table_of_models(project):
    summary = training_sweep(grid="grid.yaml")
    assert artifact("sweep-progress") == 100
    rows = json.loads(artifact("sweep-leaderboard"))
    assert [row["model"].partition("](")[2].split(" ")[0].rstrip(")") for row in rows] == [
        f"/artifacts/key/{report_key(row['model_version'])}" for row in summary["leaderboard"]
    ]
    assert [row["quality"] for row in rows] == [
        row["quality_score"] for row in summary["leaderboard"]
    ]
    assert [row["learning_rate"] for row in json.loads(artifact("models"))][::2] == [
        3e-05,
        2e-05,
        1e-05,
    ]
    report = artifact("sweep")
    best = summary["leaderboard"][0]
    assert report.startswith("# Sweep of 6 configs\n\n6 done (0 from the cache), 0 failed; ")
    assert "| model | learning_rate | epochs | quality | cost_per_1k | latency_ms |" in report
    [row] = [line for line in report.splitlines() if report_key(best["model_version"]) in line]
    assert f" | {best['learning_rate']} | {best['epochs']} | {best['quality_score']} | " in row
    assert "The same in every row: batch_size 16, base_model mistral-7b, dataset_version" in report
    assert "## Failed" not in report
    encoded = report.split("data:image/svg+xml;base64,")[1].split(")")[0]
    points = ElementTree.fromstring(base64.b64decode(encoded)).iter(
        "{http://www.w3.org/2000/svg}circle"
    )
    assert [point[0].text.split(":")[0] for point in points] == [
        row["model_version"] for row in summary["leaderboard"]
    ]


def test_the_run_is_named_after_its_configs_and_its_grid(project):
    state = training_sweep(["config.yaml"], "epochs.yaml", return_state=True)
    assert flow_run(state.state_details.flow_run_id).name == "sweep config.yaml epochs.yaml"


def test_the_log_has_the_progress_and_not_every_step(project, caplog):
    training_sweep(grid="grid.yaml")
    assert {record.name for record in caplog.records} == {"prefect.flow_runs"}
    [progress] = [message for message in caplog.messages if "6 of 6 configs" in message]
    assert progress.endswith("/s, 0 s left.")


@pytest.mark.parametrize("configs", [["config.yaml"], ["none.yaml"]])
def test_a_sweep_restores_the_log_levels(project, configs):
    loggers = [logging.getLogger(name) for name in ("prefect.task_runs", "src")]
    before = [logger.level for logger in loggers]
    training_sweep(configs, return_state=True)
    assert [logger.level for logger in loggers] == before


# --- The command ---------------------------------------------------------------------------------


def test_the_command_prints_only_the_summary_on_stdout(project, capfd):
    main(["sweep", "--grid", "epochs.yaml", "--json"], standalone_mode=False)
    printed = json.loads(capfd.readouterr().out)
    assert printed == training_sweep(grid="epochs.yaml") | {"cached": 0}


def test_the_command_prints_the_best_models_and_their_total(project, capfd, monkeypatch):
    monkeypatch.setattr("cli.runs.BEST_ROWS", 2)
    main(["sweep", "--grid", "epochs.yaml", "--concurrency", "2"], standalone_mode=False)
    printed = capfd.readouterr()
    head, *rows = printed.out.splitlines()
    assert head.split() == [
        "model_version",
        "quality_score",
        "cost_per_1k_tokens",
        "latency_ms",
        "base_model",
        "dataset_version",
        "learning_rate",
        "epochs",
        "batch_size",
        "config",
    ]
    assert [row.split()[0] for row in rows] == [
        row["model_version"] for row in training_sweep(grid="epochs.yaml")["leaderboard"][:2]
    ]
    assert printed.err.endswith("The best 2 of 3; --json prints all.\n")


def test_a_failed_config_gives_exit_code_1_and_the_other_models_are_printed(project, capfd):
    with pytest.raises(SystemExit) as caught:
        main(["sweep", "*.y*ml", "none.yaml", "--json"], standalone_mode=False)
    assert caught.value.code == 1
    printed = capfd.readouterr()
    summary = json.loads(printed.out)
    assert [row["config"] for row in summary["leaderboard"]] == ["config.yaml"]
    assert [fault["config"] for fault in summary["failed"]] == [
        "epochs.yaml",
        "grid.yaml",
        "none.yaml",
    ]
    assert "error: 3 of 4 configs failed, the others are done:\n  epochs.yaml:2: " in printed.err
    assert printed.err.endswith("\n  none.yaml: no such training config.\n")


def test_a_missing_grid_gives_exit_code_2(project, capfd):
    assert main(["sweep", "--grid", "none.yaml"], standalone_mode=False) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.endswith("error: none.yaml: no such sweep.\n")
