"""Tests of the command `verify`."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from src.lineage.verify import verify
from src.training.pipeline import run_training_pipeline
from src.training.trainer import train_model
from tests.lineage.verify.test_retraining import TRAINER
from tests.trainers import write_config, write_module

MADE = "  code: Made by commit c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef. "
SINCE = "The code changed since; the results agree.\n"
MATCH = f"MATCH     model_v1\n{MADE}{SINCE}MATCH     model_v2\n{MADE}{SINCE}"
EVALUATION = Path("artifacts/evaluations/model_v1/evaluation.json")
EVALUATION_SHA256 = "a809825432d24bc91db6339de1f87432a0588af97636da123c3ea835d5d5c0b2"
ALTERED_SHA256 = "6c9ffb65f6c33d140371d7c10aa251ec5e9f40f89df85d3eec62958c65130396"
MISMATCH = f"""\
MISMATCH  model_v1
{MADE}{SINCE}\
  evaluation.json
    expected  sha256 {EVALUATION_SHA256}
    found     sha256 {ALTERED_SHA256}
    note      metrics.quality_score: expected 0.9031, found 0.9999.
"""
UNREADABLE = f"""\
UNREADABLE  model_v1
{MADE}{SINCE}\
  evaluation.json
    expected  sha256 {EVALUATION_SHA256}
    found     {EVALUATION}: cannot be read (Input/output error)
MATCH     model_v2
{MADE}{SINCE}"""


@pytest.fixture
def unreadable(models, fail_to_read) -> Path:
    """The project of `models`, where reading the evaluation of `model_v1` is an I/O error."""
    fail_to_read(EVALUATION)
    return models


def alter(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_undamaged_models_match(models, llm_train):
    done = llm_train("verify", "--all")
    assert (done.exit_code, done.stdout, done.stderr) == (
        0,
        f"{MATCH}2 models: 2 MATCH, 0 MISMATCH\n",
        "",
    )


def test_a_mismatch_is_printed_with_its_details_and_exits_with_1(models, llm_train):
    alter(EVALUATION, "0.9031", "0.9999")
    done = llm_train("verify", "model_v1")
    assert (done.exit_code, done.stdout) == (1, MISMATCH)


def test_the_cause_of_a_mismatch_is_printed(models, llm_train):
    alter(Path("artifacts/models/model_v1/provenance.json"), '"epochs": 3', '"epochs": 5')
    done = llm_train("verify", "--all")
    assert done.exit_code == 1
    assert "    diverged  provenance.json\n" in done.stdout
    assert done.stdout.endswith("\n2 models: 1 MATCH, 1 MISMATCH\n")


def test_an_unreadable_file_exits_with_1_and_the_other_models_are_verified(unreadable, llm_train):
    done = llm_train("verify", "--all")
    assert (done.exit_code, done.stdout, done.stderr) == (
        1,
        f"{UNREADABLE}2 models: 1 MATCH, 0 MISMATCH, 1 UNREADABLE\n",
        "",
    )


def test_a_summary_counts_every_verdict(unreadable, llm_train):
    alter(
        Path("artifacts/evaluations/model_v2/evaluation.json"),
        '"latency_ms": 82',
        '"latency_ms": 81',
    )
    done = llm_train("verify", "model_v1", "model_v2")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "2 models: 0 MATCH, 1 MISMATCH, 1 UNREADABLE"


def test_one_unreadable_model_has_no_summary_and_exits_with_1(unreadable, llm_train):
    done = llm_train("verify", "model_v1")
    assert (done.exit_code, done.stdout) == (1, UNREADABLE.partition("MATCH     model_v2")[0])


UNFINISHED = """\
UNFINISHED  model_v3
  missing: registry entry, evaluation.json, evaluation's provenance
  The run failed or was stopped before it wrote this, or it was deleted. Run it again.
"""


def test_an_unfinished_model_is_reported_with_what_to_do_and_exits_with_1(models, llm_train):
    train_model("one.yaml", "model_v3")
    done = llm_train("verify", "model_v3")
    assert (done.exit_code, done.stdout.partition("  code: ")[0]) == (1, UNFINISHED)
    done = llm_train("verify", "--all")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "3 models: 2 MATCH, 0 MISMATCH, 1 UNFINISHED"


def test_verify_with_json_prints_the_verdict_unfinished_and_exits_with_1(models, llm_train):
    train_model("one.yaml", "model_v3")
    done = llm_train("verify", "model_v3", "--json")
    [model] = json.loads(done.stdout)
    assert (done.exit_code, model["verdict"]) == (1, "UNFINISHED")
    assert {check["what"]: check["verdict"] for check in model["checks"]} == {
        "registry entry": "UNFINISHED",
        "metadata.json": "MATCH",
        "provenance.json": "MATCH",
        "config": "MATCH",
        "dataset bytes": "MATCH",
        "dataset metadata": "MATCH",
        "code": "MATCH",
        "evaluation.json": "UNFINISHED",
        "evaluation's provenance": "UNFINISHED",
    }


def test_verify_with_json_prints_every_check(models, llm_train):
    EVALUATION.unlink()
    done = llm_train("verify", "--all", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == [
        {
            "model_version": version,
            "verdict": verdict,
            "checks": [asdict(check) | {"details": []} for check in verify(version)],
        }
        for version, verdict in [("model_v1", "MISMATCH"), ("model_v2", "MATCH")]
    ]


def test_verify_with_json_prints_the_verdict_unreadable_and_exits_with_1(unreadable, llm_train):
    done = llm_train("verify", "--all", "--json")
    assert done.exit_code == 1
    assert [(model["model_version"], model["verdict"]) for model in json.loads(done.stdout)] == [
        ("model_v1", "UNREADABLE"),
        ("model_v2", "MATCH"),
    ]


def test_verify_of_a_damaged_registry_without_models_names_the_registry(project, llm_train):
    (project / "artifacts/models").mkdir()
    (project / "artifacts/models/registry.json").write_text("{")
    done = llm_train("verify", "--all")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: artifacts/models/registry.json: line 1, column 2: not")


def test_verify_without_models_is_an_error(project, llm_train):
    done = llm_train("verify", "--all")
    assert (done.exit_code, done.stdout, done.stderr) == (
        2,
        "",
        "error: artifacts: no models. Train one first.\n",
    )


def test_retrain_prints_that_the_result_is_the_same(project, llm_train):
    model = retrainable()
    done = llm_train("verify", "model_v1", "--retrain")
    assert done.exit_code == 0
    assert done.stdout.startswith("MATCH     model_v1\n")
    size = sum(path.stat().st_size for path in model.iterdir())
    line = f"  training: Trained again, with the same result: 2 files, {size} bytes.\n"
    assert line in done.stdout


def test_retrain_prints_what_differs_line_by_line(project, llm_train, monkeypatch):
    retrainable()
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    done = llm_train("verify", "model_v1", "--retrain")
    assert done.exit_code == 1
    _, _, text = done.stdout.partition("  training\n")
    expected, found, diverged, step, environment = text.splitlines()
    assert expected.startswith("    expected  2 files, ")
    assert found == (
        "    found     model.safetensors: 1 of 2 tensors differ, by at most 1.5. "
        "The first: a: 1 of 1 values differ, by at most 1.5"
    )
    assert diverged == "    diverged  environment"
    assert step.startswith("    note      The first step that differs is step 1: loss ")
    assert environment == (
        "    note      The environment is not as recorded: variables.MKL_CBWR: none recorded, "
        "COMPATIBLE now."
    )


def test_a_config_without_reevaluate_and_retrain_is_a_usage_error(models, llm_train):
    done = llm_train("verify", "model_v1", "--config", "config.yaml")
    assert done.exit_code == 2
    assert "--config needs --reevaluate or --retrain." in done.stderr


def retrainable():
    """Train `model_v1` with a trainer in Python; return the folder of its weights."""
    write_module(TRAINER)
    run_training_pipeline(write_config({"use": "mine:train", "seed": 7}), "model_v1")
    return Path("artifacts/models/model_v1/weights")
