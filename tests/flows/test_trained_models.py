"""Models that a trainer of the user trains, through the engine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread, main_thread

import pytest

from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep
from src.lineage.verify import verdict, verify
from src.records.canonical import sha256
from src.training.pipeline import run_training_pipeline
from tests.conftest import REPOSITORY
from tests.flows.runs import flow_run, task_runs
from tests.trainers import CONFIG_PATH, calls, statement, trained, write_config, write_module

STEPS = ["load_config", "resolve_dataset", "train", "write_metadata", "register", "evaluate"]
MODEL = Path("artifacts/models/model_v1")


def run():
    return training_pipeline(CONFIG_PATH, "model_v1", return_state=True)


def states(state):
    runs = task_runs(state.state_details.flow_run_id, len(STEPS))
    return {step: run.state.name for step, run in runs.items()}


def test_a_config_with_a_trainer_has_a_sixth_step_and_is_served_from_the_cache(project):
    trained()
    assert states(run()) == dict.fromkeys(STEPS, "Completed")
    assert states(run()) == dict.fromkeys(STEPS, "Cached")
    assert calls() == ["train", "evaluate"]


def test_both_drivers_leave_the_same_weights(project, tree):
    trained()
    run()
    weights = tree(MODEL / "weights"), (MODEL / "training.jsonl").read_bytes()
    Path("artifacts/models").rename("models of the flow")
    Path("artifacts/evaluations").rename("evaluations of the flow")
    run_training_pipeline(CONFIG_PATH, "model_v1")
    assert (tree(MODEL / "weights"), (MODEL / "training.jsonl").read_bytes()) == weights


def test_an_altered_file_of_the_weights_is_not_served(project):
    trained()
    run()
    (MODEL / "weights/samples.txt").write_text("9")
    state = run()
    assert state.is_failed()
    assert state.message.startswith("expected sha256 ")
    assert "weights/samples.txt" in state.message
    assert calls() == ["train", "evaluate"]


def test_the_last_lines_of_a_failed_trainer_are_the_message_of_the_run(project):
    write_module("def train(run):\n    raise RuntimeError('out of memory')\n")
    write_config({"use": "mine:train"})
    state = run()
    message = flow_run(state.state_details.flow_run_id).state.message
    assert message.startswith("trainer mine:train: exited with code 1: RuntimeError: out of memory")


def test_a_trainer_that_fails_after_a_step_is_tried_again_from_its_checkpoints(project):
    write_module(
        "def train(run):\n"
        "    path = run.checkpoints / 'tries'\n"
        "    tries = len(path.read_text()) if path.exists() else 0\n"
        "    path.write_text('x' * (tries + 1))\n"
        "    run.log(tries)\n"
        "    if tries < 2:\n"
        "        raise OSError('flaky')\n"
        "    (run.output / 'w').write_text('1')\n"
    )
    write_config({"use": "mine:train"})
    assert run().is_completed()
    assert (MODEL / "training.jsonl").read_bytes() == (b'{"step": 0}\n{"step": 1}\n{"step": 2}\n')


def test_a_flow_run_that_is_killed_while_it_trains_leaves_no_process_and_is_continued(
    project, server
):
    trained(steps=400, seconds=0.05)
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from flows.training_pipeline import training_pipeline\n"
        f"training_pipeline({CONFIG_PATH!r}, 'model_v1')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=server)
    try:
        while not list(Path("artifacts/.work").glob("model_v1/*/checkpoints/state.json")):
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    while trainers(project):
        time.sleep(0.05)
    [checkpoint] = Path("artifacts/.work").glob("model_v1/*/checkpoints/state.json")
    checkpoint.write_text('{"step": 399, "weight": 1000}')  # one step is left
    assert run().is_completed()
    assert calls() == ["train", "train", "evaluate"]
    weights = json.loads((MODEL / "weights/adapter/weights.json").read_text())
    assert (weights["step"], int(weights["weight"])) == (400, 1000)


def trainers(project):
    """Return the processes whose working directory is the project, but this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").readlink() == project and folder.name != str(os.getpid()):
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_a_sweep_records_an_evaluator_that_was_edited_during_the_training_as_it_measures(project):
    write_module(
        "def train(run):\n"
        "    (run.output / 'w').write_text('1')\n"
        "    open(__file__, 'a').write('# changed')\n"
        "def count(run):\n"
        "    return {'count': 1.0}\n"
    )
    write_config({"use": "mine:train"}, {"use": "mine:count"})
    [row] = training_sweep([CONFIG_PATH])["leaderboard"]
    assert row["count"] == 1.0
    definition = statement(f"evaluations/{row['model_version']}")["predicate"]["buildDefinition"]
    [files] = [
        each["annotations"]["files"]
        for each in definition["resolvedDependencies"]
        if each["name"] == "evaluator"
    ]
    assert files == {"mine.py": sha256(Path("mine.py").read_bytes())}


def test_an_interrupted_sweep_ends_its_trainers_although_its_process_continues(
    project,
):
    write_module("import time\ndef train(run):\n    run.log(1)\n    time.sleep(600)\n")
    write_config({"use": "mine:train"})
    Path("grid.yaml").write_text(f"base_config: {CONFIG_PATH}\nepochs: [1, 2]\n")

    def interrupt():
        while len(list(Path("artifacts/.work").glob("*/*/history.jsonl"))) < 2:
            time.sleep(0.05)
        signal.pthread_kill(main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    try:
        Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            training_sweep(grid="grid.yaml")
    finally:
        signal.signal(signal.SIGINT, before)
    assert trainers(project) == []


def test_a_sweep_ranks_by_what_the_evaluators_call_better(project):
    trained(steps=1)
    Path("grid.yaml").write_text(f"base_config: {CONFIG_PATH}\nlearning_rate: [0.1, 0.3, 0.2]\n")
    rows = training_sweep(grid="grid.yaml")["leaderboard"]
    assert [row["learning_rate"] for row in rows] == [0.3, 0.2, 0.1]
    assert rows[0].keys() >= {"loss", "seconds"}
    assert "quality_score" not in rows[0]


def test_a_grid_varies_the_options_of_a_trainer(project):
    trained(steps=1)
    Path("grid.yaml").write_text(f"base_config: {CONFIG_PATH}\ntrainer.steps: [2, 3]\n")
    rows = training_sweep(grid="grid.yaml", concurrency=2)["leaderboard"]
    assert [list(row.items())[1] for row in rows] == [("trainer.steps", 3), ("trainer.steps", 2)]
    for row in rows:
        build = statement(f"models/{row['model_version']}")["predicate"]["buildDefinition"]
        options = build["externalParameters"]["trainer"]["options"]
        assert options == {"steps": row["trainer.steps"]}
        assert verdict(verify(row["model_version"])) == "AS RECORDED"
    again = training_sweep(grid="grid.yaml")
    assert (again["cached"], len(calls())) == (2, 4)


def test_a_sweep_shows_the_seeds_that_a_grid_varies(project):
    trained(steps=1)
    Path("grid.yaml").write_text(f"base_config: {CONFIG_PATH}\ntrainer.seed: [1, 2]\n")
    rows = training_sweep(grid="grid.yaml")["leaderboard"]
    assert [list(row.items())[1] for row in rows] == [("trainer.seed", 2), ("trainer.seed", 1)]


def test_a_metric_that_no_evaluator_declares_ends_a_sweep_after_its_first_model(project):
    trained(steps=1)
    Path("grid.yaml").write_text(f"base_config: {CONFIG_PATH}\ntrainer.steps: [1, 2, 3, 4]\n")
    options = {"grid": "grid.yaml", "concurrency": 1, "rank_by": "losss"}
    with pytest.raises(ValueError, match=r"^rank_by: expected one of loss, found 'losss'"):
        training_sweep(**options)
    assert len(calls()) == 2


def test_configs_with_and_without_a_trainer_are_ranked_together(project):
    trained(steps=1)
    summary = training_sweep(["config.yaml", CONFIG_PATH])
    assert len({row["model_version"] for row in summary["leaderboard"]}) == 2
    assert summary["failed"] == []


def test_a_sweep_imports_a_trainer_once_to_describe_it_and_once_to_train_each_config(project):
    write_module(
        "open('imports', 'a').write('x')\ndef train(run):\n    (run.output / 'w').write_text('1')\n"
    )
    write_config({"use": "mine:train"})
    Path("grid.yaml").write_text(f"base_config: {CONFIG_PATH}\nepochs: [1, 2]\n")
    training_sweep(grid="grid.yaml")
    assert Path("imports").read_text() == "x" * 3


def test_a_sweep_of_metrics_that_no_chart_has_is_reported(project):
    write_module(
        "def measure(run):\n    return {'accuracy': run.metadata['num_training_samples']}\n"
    )
    config = write_config(None, {"use": "mine:measure"})
    [row] = training_sweep([config])["leaderboard"]
    assert row["accuracy"] == 20
