import base64
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import pytest

import flows.training_sweep
import flows.trials
from cli.main import main
from flows.report import report_key
from flows.training_sweep import SweepError, training_sweep
from src.evaluation import evaluator
from src.training import batches, grids
from src.training.grids import read_grid
from src.training.pipeline import run_training_pipeline
from src.training.registry import list_models
from tests.cli.terminal import lines, on_terminal
from tests.examples import without_runs
from tests.flows.runs import (
    COMMAND,
    ROOT,
    STEPS,
    artifact,
    failure,
    finished_task_runs,
    flow_run,
    logged,
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
from src.training import batches
def slow(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep({seconds})
batches.put_evaluation = slow
sweep.training_sweep(grid="grid.yaml")
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


def models(root=Path("artifacts")):
    """Return every file of the record but those of the sweeps."""
    return {name: data for name, data in record(root).items() if not name.startswith("sweeps/")}


def fails(*arguments):
    """Run a sweep in which some configs fail; return its error."""
    with pytest.raises(SweepError) as caught:
        training_sweep(*arguments)
    return caught.value


# --- Results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [50, 4])
def test_a_sweep_writes_the_same_bytes_as_its_configs_one_by_one(project, monkeypatch, batch):
    shutil.copytree("artifacts", "others")
    monkeypatch.setattr(flows.trials, "BATCH_SIZE", batch)
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


def test_a_temporary_server_has_recorded_every_step_when_the_command_ends(project, homes):
    Path("many.yaml").write_text(f"base_config: config.yaml\nepochs: {list(range(1, 61))}\n")
    home = homes.create(project / "prefect")
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
    assert ended == [("COMPLETED", 5)]


def test_a_task_run_is_a_step_for_a_batch_of_configs(project, monkeypatch):
    monkeypatch.setattr(flows.trials, "BATCH_SIZE", 4)
    state = training_sweep(grid="grid.yaml", return_state=True)
    runs = finished_task_runs(state.state_details.flow_run_id, 10)
    assert sorted(run.name for run in runs) == sorted(
        f"{step} {place} of 6" for step in STEPS for place in ("1-4", "5-6")
    )


def test_a_sweep_finds_what_another_sweep_or_a_single_run_has_done(project):
    [best, *_] = training_sweep(grid="grid.yaml")["leaderboard"]
    run_training_pipeline("config.yaml")
    before = models()
    rows = training_sweep([best["config"], "config.yaml"])["leaderboard"]
    assert [row["cached"] for row in rows] == [True, True]
    assert models() == before
    assert not Path("artifacts/.cache").exists()


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
    monkeypatch.setattr(batches, "SIMULATED_EVALUATOR", simulated)
    Path("epochs.yaml").write_text("base_config: config.yaml\nepochs: [2, 3, 4, 5]\n")
    board = training_sweep(grid="epochs.yaml")["leaderboard"]
    assert [row["epochs"] for row in board] == [5, 4, 3, 2]
    by_latency = training_sweep(grid="epochs.yaml", rank_by="latency_ms")["leaderboard"]
    assert [row["epochs"] for row in by_latency] == [2, 4, 3, 5]
    assert list(board[0])[:3] == ["model_version", "epochs", "quality_score"]  # what differs first
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
        "cached": False,
    }


@pytest.mark.parametrize("metrics", [{"quality_score": "best", "latency_ms": 10**400}, "none"])
def test_a_model_whose_metrics_are_no_numbers_is_ranked_last(project, monkeypatch, metrics):
    load_evaluation = evaluator.load_evaluation

    def altered(version, *arguments):
        evaluation = load_evaluation(version, *arguments)
        is_altered = version == models_by_epochs()[3]
        return evaluation | {"metrics": metrics} if is_altered else evaluation

    monkeypatch.setattr(batches, "load_evaluation", altered)
    board = training_sweep(grid="epochs.yaml")["leaderboard"]
    assert [row["epochs"] for row in board].index(3) == 2
    found = metrics if isinstance(metrics, dict) else {}
    for name in ("quality_score", "cost_per_1k_tokens", "latency_ms"):
        assert board[2][name] == found.get(name)


# --- Finished steps ------------------------------------------------------------------------------


def test_a_second_sweep_finds_everything_in_the_record_and_changes_no_byte_of_it(project, tree):
    first = training_sweep(grid="grid.yaml")
    before = tree(Path("artifacts"))
    second = training_sweep(grid="grid.yaml")
    assert second == {
        "leaderboard": [row | {"cached": True} for row in first["leaderboard"]],
        "failed": [],
        "file": first["file"],
        "configs": 6,
        "cached": 6,
    }
    [board] = Path("artifacts/sweeps").glob("*.json")
    changed = str(board.relative_to("artifacts"))
    after = tree(Path("artifacts"))
    assert {name for name in after if after[name] != before.get(name)} == {changed}


def test_the_leaderboard_is_a_file_and_that_of_the_same_sweep_replaces_it(project):
    first = training_sweep(grid="grid.yaml")
    [path] = Path("artifacts/sweeps").glob("grid-*.json")
    assert json.loads(path.read_text()) == {"leaderboard": first["leaderboard"], "failed": []}
    second = training_sweep(grid="grid.yaml")
    training_sweep(["config.yaml"])
    assert json.loads(path.read_text())["leaderboard"] == second["leaderboard"]
    assert sorted(each.stem.split("-")[0] for each in path.parent.glob("*.json")) == [
        "configs",
        "grid",
    ]


def test_a_sweep_with_a_metric_that_cannot_rank_says_so_and_has_its_leaderboard(project):
    message = failure(training_sweep, [], "epochs.yaml", 4, "artifacts", "quality")
    assert message.startswith("rank_by: expected one of quality_score, cost_per_1k_tokens, ")
    [path] = Path("artifacts/sweeps").glob("epochs-*.json")
    assert len(json.loads(path.read_text())["leaderboard"]) == 3


def test_two_configs_of_the_same_content_are_one_row(project):
    Path("copy.yaml").write_text(Path("config.yaml").read_text() + "# copied\n")
    summary = training_sweep(["config.yaml", "copy.yaml"])
    assert [row["config"] for row in summary["leaderboard"]] == ["config.yaml"]
    assert summary["failed"] == []


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
import flows.training_sweep as sweep, flows.trials
from src.training import batches
calls, put_evaluation = count(1), batches.put_evaluation
def dying(*arguments, **options):
    if next(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return put_evaluation(*arguments, **options)
batches.put_evaluation = dying
flows.trials.BATCH_SIZE = 2
sweep.training_sweep(grid="grid.yaml")
"""


def test_a_killed_sweep_continues_and_writes_the_same_bytes(project, server):
    shutil.copytree("artifacts", "others")
    killed = python(KILLED, server)
    output, _ = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, output
    assert len(list_models()) == 4
    assert len(list(Path("artifacts/evaluations").iterdir())) == 2
    shutil.rmtree("artifacts/.cache", ignore_errors=True)
    summary = training_sweep(grid="grid.yaml")
    assert (len(summary["leaderboard"]), summary["cached"]) == (6, 2)
    training_sweep(grid="grid.yaml", artifacts_dir="others")
    assert without_runs(models()) == without_runs(models(Path("others")))


def test_a_bug_in_the_code_ends_the_sweep_and_keeps_finished_steps(project, monkeypatch):
    calls, put_evaluation = count(1), batches.put_evaluation

    def faulty(*arguments, **options):
        if next(calls) == 3:
            raise KeyError("a bug")
        return put_evaluation(*arguments, **options)

    monkeypatch.setattr(flows.trials, "BATCH_SIZE", 2)
    with monkeypatch.context() as patch:
        patch.setattr(batches, "put_evaluation", faulty)
        with pytest.raises(KeyError, match="a bug"):
            training_sweep(grid="grid.yaml")
    assert training_sweep(grid="grid.yaml")["cached"] == 2
    before = models()
    assert training_sweep(grid="grid.yaml")["cached"] == 6
    assert models() == before


def test_a_step_that_hangs_does_not_keep_an_interrupted_sweep_from_exiting(project, server):
    process = python(INTERRUPTED.format(seconds=HANG_SECONDS), server)
    try:
        output, _ = process.communicate(timeout=HANG_SECONDS / 2)
    finally:
        process.kill()
    assert (process.returncode != 0, len(list_models())) == (True, 6), output
    assert not Path("artifacts/evaluations").exists()
    assert "after shutdown" not in output


def test_the_dataset_is_read_once_for_all_configs(project, reads):
    training_sweep(grid="grid.yaml")
    training_sweep(["config.yaml"], "epochs.yaml")
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
    assert "\n4 done (0 of them found in the record), 2 failed; " in report
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
    again = fails(["none.yaml", "config.yaml"]).summary
    assert (again["failed"], again["cached"]) == (summary["failed"], 1)


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
    before = models()
    [fault] = fails((), "epochs.yaml").summary["failed"]
    assert "base_model: recorded 'mistral-8b', now 'mistral-7b'" in fault["error"]
    assert models() == before


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
    before = models()
    error = fails((), "epochs.yaml")  # two of its three models exist
    assert [fault["error"].partition(" but ")[0] for fault in error.summary["failed"]] == [
        f"{REGISTRY}: no entries,"
    ] * 3
    assert models() == before


def test_a_corrupt_registry_fails_every_config_and_is_left_as_found(project):
    REGISTRY.parent.mkdir()
    REGISTRY.write_text('{"models": [')
    error = fails((), "epochs.yaml")
    assert [fault["error"].partition(": line ")[0] for fault in error.summary["failed"]] == [
        str(REGISTRY)
    ] * 3
    assert REGISTRY.read_text() == '{"models": ['
    assert not Path("artifacts/evaluations").exists()


def test_a_step_of_a_batch_is_tried_again_after_a_transient_error(project, monkeypatch):
    calls, register_models = count(1), batches.register_models

    def failing(*arguments):
        if next(calls) == 1:
            raise OSError(5, "Input/output error", "registry.json")
        return register_models(*arguments)

    monkeypatch.setattr(batches, "register_models", failing)
    state = training_sweep(grid="epochs.yaml", return_state=True)
    assert state.result()["failed"] == []
    assert sorted(models_by_epochs()) == [2, 3, 4]
    runs = finished_task_runs(state.state_details.flow_run_id, 5)
    assert {run.name: run.run_count for run in runs}["register 1-3 of 3"] == 2


def test_an_error_that_stays_fails_its_configs_and_no_others(project, monkeypatch):
    put_metadata = batches.put_metadata

    def failing(metadata, models, **options):
        if metadata["training_config"]["epochs"] == 3:
            raise OSError(5, "Input/output error", "metadata.json")
        return put_metadata(metadata, models, **options)

    monkeypatch.setattr(batches, "put_metadata", failing)
    [fault] = fails((), "epochs.yaml").summary["failed"]
    assert fault["error"] == "[Errno 5] Input/output error: 'metadata.json'"
    assert sorted(models_by_epochs()) == [2, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([["config.yaml"], "", 0], "concurrency: expected 1 or more, found 0."),
        (
            [["config.yaml"], "", 4, "artifacts", "", True, 0],
            "in_flight: expected 1 or more, found 0.",
        ),
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
    assert report.startswith(
        "# Sweep of 6 configs\n\n6 done (0 of them found in the record), 0 failed; "
    )
    assert "| model | learning_rate | epochs | quality | cost_per_1k | latency_ms |" in report
    [row] = [line for line in report.splitlines() if report_key(best["model_version"]) in line]
    assert f" | {best['learning_rate']} | {best['epochs']} | {best['quality_score']} | " in row
    assert "The same in every row: base_model mistral-7b, dataset_version dataset_v1, " in report
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


def test_the_log_has_the_progress_what_each_step_did_and_each_failed_config(project):
    Path("bad.yaml").write_text("")
    with logged("prefect.flow_runs") as of_flow, logged("prefect.task_runs") as decisions:
        training_sweep(["bad.yaml"], "epochs.yaml", return_state=True)
    [progress] = [
        record.getMessage() for record in of_flow if "4 of 4 configs" in record.getMessage()
    ]
    assert progress.startswith("4 of 4 configs, 1 failed, ")
    assert progress.endswith("/s, 0 s left.")
    messages = [record.getMessage() for record in decisions]
    assert [message for message in messages if message.startswith("Configs: ")] == [
        "Configs: 1 failed, 3 loaded.",
        "Configs: 3 resolved.",
        "Configs: 3 written.",
        "Configs: 3 written.",
        "Configs: 3 written.",
    ]
    [fault] = [record.getMessage() for record in decisions if record.levelname == "ERROR"]
    assert fault.startswith("expected one mapping of ")
    assert fault.endswith(" (bad.yaml)")


# --- The command ---------------------------------------------------------------------------------


def test_the_command_prints_only_the_summary_on_stdout(project, capfd):
    main(["sweep", "--grid", "epochs.yaml", "--json"], standalone_mode=False)
    printed = json.loads(capfd.readouterr().out)
    again = training_sweep(grid="epochs.yaml")["leaderboard"]
    assert printed["leaderboard"] == [row | {"cached": False} for row in again]
    assert (printed["failed"], printed["cached"]) == ([], 0)


def test_the_command_prints_the_best_models_and_their_total(project, capfd, monkeypatch):
    monkeypatch.setattr("cli.runs.BEST_ROWS", 2)
    main(["sweep", "--grid", "epochs.yaml", "--concurrency", "2"], standalone_mode=False)
    printed = capfd.readouterr()
    head, *rows = printed.out.splitlines()
    assert head.split() == [
        "model_version",
        "epochs",
        "quality_score",
        "cost_per_1k_tokens",
        "latency_ms",
        "config",
    ]
    assert [row.split()[0] for row in rows] == [
        row["model_version"] for row in training_sweep(grid="epochs.yaml")["leaderboard"][:2]
    ]
    assert printed.err.endswith(
        "The same in every row: base_model mistral-7b, dataset_version dataset_v1, learning_rate "
        "2e-05, batch_size 16.\nThe best 2 of 3; --json prints all.\n"
        "3 of 3 configs done, 0 of them found in the record. All models: "
        f"{next(Path('artifacts/sweeps').glob('*.json'))}\n"
    )


def test_a_terminal_shows_a_bar_in_place_of_the_log(project, server, monkeypatch):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    output = on_terminal(COMMAND, "sweep", "none.yaml", "--grid", "epochs.yaml", columns=200)
    bars = [line for line in lines(output.replace("\r", "\n")) if "Configs" in line]
    assert re.search(r"Configs .* 4/4 1 failed, [\d.]+/s, 0:00:00 left", bars[-1])
    assert "Finished in state" not in output
    assert "error: 1 of 4 configs failed, the others are done:" in output


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
