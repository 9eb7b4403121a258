"""The flow `verify-models`, with real trainings of a small trainer."""

import json

import pytest

from flows.verify_models import verify_models
from src.training.pipeline import run_training_pipeline
from tests.flows.runs import artifact, failure, flow_run, newest_artifact
from tests.lineage.verify.test_retraining import TRAINER
from tests.trainers import calls, trained, write_config, write_module


@pytest.fixture
def model(project):
    write_module(TRAINER)
    run_training_pipeline(write_config({"use": "mine:train", "seed": 7}), "model_v1")


def details():
    [row] = json.loads(artifact("verification"))
    return row["verdict"], row["details"].replace("<br>", " ")


def test_a_model_that_is_trained_again_with_the_same_result_matches(model):
    state = verify_models(["model_v1"], return_state=True)
    assert state.result() == {"model_v1": "MATCH"}
    assert flow_run(state.state_details.flow_run_id).name == "retrain model_v1"
    assert calls() == ["train", "train"]
    verdict, text = details()
    assert verdict == "MATCH"
    assert "Trained again, with the same result: 2 files, " in text


def test_the_progress_of_a_training_is_shown(model):
    verify_models(["model_v1"])
    assert artifact("training-progress-model-v1--d64be24a37a18742") == 100


def test_another_result_fails_the_run_and_the_table_names_what_differs(model, monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert failure(verify_models, ["model_v1"]) == (
        "0 of 1 models match their record. These do not: model_v1 (training)."
    )
    verdict, text = details()
    assert verdict == "MISMATCH"
    assert "1 of 2 tensors differ" in text
    assert "variables.MKL" in text


def test_the_summary_says_what_holds_of_a_model_whose_evaluator_was_not_run_again(project):
    run_training_pipeline(trained(), "model_v1")
    assert verify_models(["model_v1"]) == {"model_v1": "AS RECORDED"}
    assert newest_artifact("verification").description == (
        "0 of 1 models match their record. 1 is AS RECORDED: all digests agree, and the evaluator "
        "was not run again."
    )


def test_nothing_is_trained_if_it_is_not_asked_for(model):
    state = verify_models(["model_v1"], retrain=False, return_state=True)
    assert state.result() == {"model_v1": "MATCH"}
    assert flow_run(state.state_details.flow_run_id).name == "verify model_v1"
    assert calls() == ["train"]


def test_a_model_that_does_not_exist_fails_the_run(model):
    message = failure(verify_models, ["model_v2"])
    assert message == "artifacts/models: no model 'model_v2'. Nearest: model_v1."


def test_a_run_without_a_version_fails(project):
    message = failure(verify_models, [])
    assert message == "model_versions: expected one or more model versions, found none."
