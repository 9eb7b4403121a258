"""`llm-train` for models with a trainer and an evaluator: run, evaluate, verify."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from src.training.pipeline import run_training_pipeline
from tests.trainers import CONFIG_PATH, calls, trained, write_module

SIMULATED = "configs/training/mistral_finetune.yaml"


@pytest.fixture
def llm_train():
    """Run `llm-train` with these arguments; return the result."""
    return lambda *arguments: CliRunner().invoke(main, arguments)


def run():
    return run_training_pipeline(trained(), "model_v1")


def test_a_local_run_trains_and_evaluates(project, llm_train):
    trained()
    done = llm_train("run", "--local", CONFIG_PATH, "--model-version", "model_v1")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["metrics"].keys() == {"loss", "seconds"}
    again = llm_train("run", "--local", CONFIG_PATH, "--model-version", "model_v1")
    for stderr in (done.stderr, again.stderr):
        assert stderr.splitlines()[-1] == "Weights: artifacts/models/model_v1/weights"
    simulated = llm_train("run", "--local", "config.yaml", "--model-version", "model_v2")
    assert "Weights:" not in simulated.stderr


def test_a_dry_run_names_the_trainer_that_would_run_and_runs_none(project, llm_train, tree):
    trained()
    before = tree(project / "artifacts")
    done = llm_train("run", "--local", "--dry-run", CONFIG_PATH, "--model-version", "model_v1")
    assert done.exit_code == 0, done.stderr
    assert (
        "Then the trainer mine:train would run. What follows depends on its result." in done.stdout
    )
    assert tree(project / "artifacts") == before
    assert calls() == []


def test_a_dry_run_of_a_model_that_is_there_changes_nothing(project, llm_train):
    run()
    done = llm_train("run", "--local", "--dry-run", CONFIG_PATH, "--model-version", "model_v1")
    assert "No file would change." in done.stdout
    assert calls() == ["train", "evaluate"]


def test_verify_reports_as_recorded_and_exits_with_0(project, llm_train):
    run()
    done = llm_train("verify", "model_v1")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "AS RECORDED  model_v1"
    assert "Measured by evaluator 'mine:evaluate', and not measured again." in done.stdout


def test_verify_measures_with_the_config_that_it_is_given_and_only_to_reevaluate(
    project, llm_train
):
    run()
    write_module("def measure(run):\n    return {'loss': 0.5}\n", "other.py")
    path = Path("configs/training/other.yaml")
    path.write_text(Path(CONFIG_PATH).read_text().replace("mine:evaluate", "other:measure"))
    other = ("--config", str(path))
    assert llm_train("evaluate", "model_v1", "--replace", *other).exit_code == 0
    done = llm_train("verify", "model_v1", "--reevaluate")
    assert done.exit_code == 1
    assert "evaluator.use: expected 'mine:evaluate', found 'other:measure'" in done.stdout
    assert "If it was made with another config, pass that config as --config." in done.stdout
    done = llm_train("verify", "model_v1", "--reevaluate", *other)
    assert done.stdout.splitlines()[0] == "MATCH     model_v1"
    done = llm_train("verify", "model_v1", *other)
    assert (done.exit_code, "--config needs --reevaluate or --retrain." in done.stderr) == (2, True)


def test_verify_counts_as_recorded_apart_from_match(project, llm_train):
    run()
    run_training_pipeline(SIMULATED, "simulated")
    done = llm_train("verify", "--all")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "2 models: 1 MATCH, 0 MISMATCH, 1 AS RECORDED"


def test_verify_reevaluate_measures_again(project, llm_train):
    run()
    done = llm_train("verify", "model_v1", "--reevaluate")
    assert done.exit_code == 0
    assert done.stdout.startswith("MATCH")
    assert calls() == ["train", "evaluate", "evaluate"]


def test_evaluate_measures_a_model_that_has_no_evaluation(project, llm_train):
    first = run()
    Path("artifacts/evaluations/model_v1/evaluation.json").unlink()
    done = llm_train("evaluate", "model_v1")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["loss"] == first["metrics"]["loss"]


def test_evaluate_refuses_another_evaluator_unless_it_replaces(project, llm_train):
    run()
    write_module("def measure(run):\n    return {'loss': 0.5}\n", "other.py")
    other = Path("configs/training/other.yaml")
    other.write_text(Path(CONFIG_PATH).read_text().replace("mine:evaluate", "other:measure"))
    refused = llm_train("evaluate", "model_v1", "--config", str(other))
    assert refused.exit_code == 2
    assert "measured by evaluator 'mine:evaluate', and now by 'other:measure'" in refused.stderr
    done = llm_train("evaluate", "model_v1", "--config", str(other), "--replace")
    assert json.loads(done.stdout)["metrics"] == {"loss": 0.5}
    assert len(list(Path("artifacts/evaluations/model_v1/earlier").iterdir())) == 1


def test_evaluate_does_not_run_code_of_a_config_that_was_edited(project, llm_train):
    run()
    with Path(CONFIG_PATH).open("a") as config:
        config.write("# edited\n")
    done = llm_train("evaluate", "model_v1", "--replace")
    assert done.exit_code == 2
    assert "as the model was trained with, found" in done.stderr
    assert calls() == ["train", "evaluate"]


def test_a_model_that_does_not_exist_is_named_with_the_nearest(project, llm_train):
    run()
    done = llm_train("evaluate", "model_v2")
    assert done.exit_code == 2
    assert "no model 'model_v2'. Nearest: model_v1." in done.stderr


def test_show_and_compare_have_the_trainer(project, llm_train):
    run()
    run_training_pipeline(trained(steps=1), "model_v2")
    shown = llm_train("show", "model_v1", "--json")
    assert json.loads(shown.stdout)["metadata"]["model_version"] == "model_v1"
    compared = llm_train("compare", "model_v1", "model_v2").stdout
    assert "options.steps" in compared
    [losses] = [line for line in compared.splitlines() if line.split()[:2] == ["training", "loss"]]
    assert losses.split()[:3] == ["training", "loss", "0.125"]
