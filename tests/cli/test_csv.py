"""Tests of --csv, of every command that prints a table."""

import csv
import json
from io import StringIO
from pathlib import Path

import pytest

from cli import models as module
from cli.runs import _print_csv
from cli.tables import print_table
from src.lineage.verify import verify_all
from src.training.pipeline import run_training_pipeline
from tests.cli.conftest import COMMIT, READING
from tests.examples import CONFIG, DATA_SHA256

MODELS = """\
model_version,base_model,dataset_version,num_training_samples,batch_size,epochs,learning_rate,cost_per_1k_tokens,latency_ms,quality_score
model_v2,org/llama-3.1-8b,dataset_v1,3,16,4,2e-05,0.017,82,0.9
model_v1,mistral-7b,dataset_v1,3,16,3,2e-05,0.015,92,0.9031
"""
COMPARE = """\
section,name,model_v1,model_v2
config,base_model,mistral-7b,org/llama-3.1-8b
config,epochs,3,4
metrics,cost_per_1k_tokens,0.015,0.017
metrics,latency_ms,92,82
metrics,quality_score,0.9031,0.9
"""
TRACED = f"""\
model_version,dataset_version,data_sha256,commit,started_on
model_v1,dataset_v1,{DATA_SHA256},{COMMIT},2026-11-23T10:00:01.000Z
model_v2,dataset_v1,{DATA_SHA256},{COMMIT},2026-11-23T10:00:02.000Z
"""


@pytest.fixture
def as_csv(llm_train):
    """Run `llm-train` with some arguments and `--csv`; return the rows."""

    def as_csv(*arguments):
        done = llm_train(*arguments, "--csv")
        rows = list(csv.reader(StringIO(done.stdout), strict=True))
        assert len({len(row) for row in rows}) == 1
        assert done.stdout.endswith("\n")
        assert "\r" not in done.stdout
        return rows

    return as_csv


@pytest.mark.parametrize("arguments", READING)
def test_every_command_that_reads_prints_csv_alone_on_stdout(models, as_csv, arguments):
    head, *rows = as_csv(*arguments)
    assert all(head)
    assert rows


@pytest.mark.parametrize("arguments", READING)
def test_csv_and_json_exclude_each_other(models, llm_train, arguments):
    done = llm_train(*arguments, "--json", "--csv")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "\nError: --csv and --json exclude each other. Choose one of them.\n"
    )


def test_all_three_forms_of_a_comparison_exclude_each_other(models, llm_train):
    done = llm_train("compare", "model_v1", "model_v2", "--json", "--csv", "--markdown")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "\nError: --markdown, --csv and --json exclude each other. Choose one of them.\n"
    )


def test_models_are_rows_and_their_values_have_all_digits(models, llm_train):
    done = llm_train("models", "--csv")
    assert (done.exit_code, done.stdout, done.stderr) == (0, MODELS, "")


def test_a_formula_in_a_config_is_no_formula_in_csv(project, as_csv):
    Path("config.yaml").write_text(CONFIG.replace("mistral-7b", "'=HYPERLINK(A1)'"))
    run_training_pipeline("config.yaml", "model_v1")
    assert as_csv("models")[1][:2] == ["model_v1", "'=HYPERLINK(A1)"]


def test_without_models_there_is_a_head_and_the_message_is_on_stderr(project, llm_train):
    Path("artifacts/models").mkdir()
    Path("artifacts/models/registry.json").write_text('{\n  "models": []\n}\n')
    done = llm_train("models", "--csv")
    assert (done.exit_code, done.stderr) == (0, "No models.\n")
    assert done.stdout == "model_version,base_model,dataset_version,num_training_samples\n"


def test_a_model_that_is_not_evaluated_has_empty_cells(models, as_csv):
    Path("artifacts/evaluations/model_v1/evaluation.json").unlink()
    assert as_csv("models")[2][-3:] == ["", "", ""]


def test_show_lists_every_file_and_every_package(models, as_csv, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILES", 1)
    head, *rows = as_csv("show", "model_v1")
    assert head == ["section", "name", "model_v1"]
    assert [row[1] for row in rows if row[0] == "files"] == [
        "registry.json",
        "metadata.json",
        "provenance.json",
        "evaluation.json",
        "provenance.json",
    ]
    [packages] = [row[2] for row in rows if row[1] == "packages"]
    assert json.loads(packages) == {"filelock": "4.2.11", "pyyaml": "6.0.3"}


def test_a_comparison_names_its_first_columns(models, llm_train):
    assert llm_train("compare", "model_v1", "model_v2", "--csv").stdout == COMPARE


def test_a_comparison_of_equal_models_is_the_head_alone(models, llm_train):
    done = llm_train("compare", "model_v1", "model_v1", "--csv")
    assert (done.exit_code, done.stdout) == (0, "section,name,model_v1,model_v1\n")


def test_every_check_of_a_model_is_a_row_and_the_exit_code_is_the_same(models, llm_train, as_csv):
    Path("artifacts/datasets/dataset_v1/data.jsonl").write_bytes(b"{}\n")
    assert llm_train("verify", "--all", "--csv").exit_code == 1
    head, *rows = as_csv("verify", "--all")
    assert head == [
        *("model_version", "model_verdict", "what", "verdict", "expected", "found"),
        *("diverged", "note", "details"),
    ]
    checks = [(version, check) for version, checks in verify_all() for check in checks]
    assert [row[:6] for row in rows] == [
        [version, "MISMATCH", check.what, check.verdict, check.expected, check.found]
        for version, check in checks
    ]
    assert {row[-1] for row in rows} == {"[]"}


def test_the_inputs_of_a_model_have_their_digests_and_annotations_as_json(models, as_csv):
    head, *rows = as_csv("trace", "model_v1")
    assert head == ["input", "uri", "digest", "annotations"]
    assert rows[3] == ["code", "", json.dumps({"gitCommit": COMMIT}), '{"dirty": false}']
    assert json.loads(rows[-1][3]) == {"filelock": "4.2.11", "pyyaml": "6.0.3"}


def test_the_models_of_an_input_are_on_stdout_and_the_summary_is_on_stderr(models, llm_train):
    done = llm_train("trace", "--dataset", "dataset_v1", "--csv")
    assert (done.stdout, done.stderr) == (TRACED, "dataset_v1: 2 models\n")


def test_a_file_of_no_model_is_the_head_alone_and_exits_with_1(models, llm_train):
    Path("other").write_bytes(b"other")
    Path("artifacts/models/model_v2/provenance.json").unlink()
    done = llm_train("trace", "--file", "other", "--csv")
    assert (done.exit_code, done.stdout) == (1, "model_version,role,file\n")
    assert done.stderr.endswith(": 0 models\nNot recorded for: model_v2\n")


def test_a_leaderboard_has_every_model_and_every_column(capsys):
    _print_csv([{"model_version": f"v{number}", "loss": 0.1, "same": 1} for number in range(50)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["model_version,loss,same", "v0,0.1,1"]
    assert len(lines) == 51


def test_a_leaderboard_without_models_is_the_head_alone(capsys):
    _print_csv([])
    assert capsys.readouterr().out == "model_version\n"


def test_a_table_as_csv_is_not_fitted_to_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    print_table(["a", "b"], [["x" * 50, "y" * 50]], least=["b"], as_csv=True)
    assert capsys.readouterr() == (f"a,b\n{'x' * 50},{'y' * 50}\n", "")
