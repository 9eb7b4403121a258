# ruff: noqa: E501  # the output of commands, as printed
"""Tests of the commands `models` and `show`."""

import json
from pathlib import Path

import pytest

from src.lineage.trace import trace_model
from src.training.registry import list_models

EVALUATION = Path("artifacts/evaluations/model_v1/evaluation.json")
COLUMNS = [
    "model_version",
    "base_model",
    "dataset_version",
    "num_training_samples",
    "batch_size",
    "epochs",
    "learning_rate",
    "cost_per_1k_tokens",
    "latency_ms",
    "quality_score",
]
MODELS = """\
model_version  base_model        dataset_version  num_training_samples  batch_size  epochs  learning_rate  cost_per_1k_tokens  latency_ms  quality_score
model_v2       org/llama-3.1-8b  dataset_v1                          3          16       4          2e-05               0.017          82            0.9
model_v1       mistral-7b        dataset_v1                          3          16       3          2e-05               0.015          92         0.9031
"""
SHOW = """\
                                   model_v1
config       base_model            mistral-7b
config       batch_size            16
config       dataset_version       dataset_v1
config       epochs                3
config       learning_rate         2e-05
data         num_training_samples  3
data         sha256                0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143
code         core sha256           c0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0de
code         commit                c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef
code         dirty                 false
metrics      cost_per_1k_tokens    0.015
metrics      latency_ms            92
metrics      quality_score         0.9031
environment  python                3.11.7
environment  packages              2; --json lists them
run          builder               urn:llm-training-pipeline:builder:python
run          id                    run-1
run          url                   http://server/runs/1
run          started_on            2026-11-23T10:00:01.000Z
run          finished_on           2026-11-23T11:00:00.000Z
files        registry.json         artifacts/models/registry.json
files        metadata.json         artifacts/models/model_v1/metadata.json
files        provenance.json       artifacts/models/model_v1/provenance.json
files        evaluation.json       artifacts/evaluations/model_v1/evaluation.json
files        provenance.json       artifacts/evaluations/model_v1/provenance.json
"""


def names(rows: list[dict]) -> list[str]:
    return [row["model_version"] for row in rows]


# --- models --------------------------------------------------------------------------------------


def test_models_lists_the_newest_model_first(models, llm_train):
    assert llm_train("models").stdout == MODELS


def test_models_with_json_prints_registry_entries_and_metrics(models, as_json):
    metrics = json.loads(EVALUATION.read_text())["metrics"]
    [_, first] = as_json("models")
    assert first == list_models()[0] | {"metrics": metrics}


def test_table_sort_and_json_use_the_same_column_names(models, llm_train, as_json):
    assert llm_train("models").stdout.splitlines()[0].split() == COLUMNS
    assert [llm_train("models", "--sort", name).exit_code for name in COLUMNS] == [0] * 10
    row = as_json("models")[0]
    config, metrics = row.pop("training_config"), row.pop("metrics")
    assert [list(row), list(metrics)] == [sorted(COLUMNS[:4]), COLUMNS[7:]]
    assert set(config) - set(row) == set(COLUMNS[4:7])


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--reverse"], ["model_v1", "model_v2"]),
        (["--limit", "1"], ["model_v2"]),
        (["--base-model", "mistral-7b"], ["model_v1"]),
        (["--dataset", "dataset_v1", "--limit", "5"], ["model_v2", "model_v1"]),
        (["--dataset", "dataset_v2"], []),
        (["--sort", "model_version"], ["model_v1", "model_v2"]),
        (["--sort", "epochs"], ["model_v1", "model_v2"]),
        (["--sort", "epochs", "--reverse"], ["model_v2", "model_v1"]),
        (["--sort", "quality_score"], ["model_v2", "model_v1"]),
    ],
)
def test_models_are_filtered_sorted_and_limited(models, as_json, options, found):
    assert names(as_json("models", *options)) == found


@pytest.mark.parametrize("options", [[], ["--reverse"]])
def test_models_without_the_sorted_metric_come_last(models, as_json, options):
    EVALUATION.unlink()
    rows = as_json("models", "--sort", "quality_score", *options)
    assert names(rows) == ["model_v2", "model_v1"]
    assert rows[1]["metrics"] is None


@pytest.mark.parametrize("column", ["quality", "version", "samples", "model version"])
def test_sorting_by_an_unknown_column_is_an_error_that_lists_the_columns(models, llm_train, column):
    done = llm_train("models", "--sort", column)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(
        f"Error: --sort: no column {column!r}. Columns: model_version, base_model, "
        "dataset_version, num_training_samples, batch_size, epochs, learning_rate, "
        "cost_per_1k_tokens, latency_ms, quality_score.\n"
    )


def test_a_damaged_evaluation_is_an_error_and_all_models_are_listed(models, llm_train):
    EVALUATION.write_text("{")
    done = llm_train("models")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {EVALUATION}: line 1, column 2: not valid JSON ")
    assert [(line.split()[0], line.split()[-1]) for line in done.stdout.splitlines()] == [
        ("model_version", "quality_score"),
        ("model_v2", "0.9"),
        ("model_v1", "-"),
    ]


def test_without_models_the_list_is_empty(project, llm_train, as_json):
    Path("artifacts/models").mkdir()
    Path("artifacts/models/registry.json").write_text('{\n  "models": []\n}\n')
    assert as_json("models") == []
    done = llm_train("models")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "No models.\n")


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_a_folder_without_a_registry_is_named_with_what_to_do(project, llm_train, json_option):
    done = llm_train("models", "--artifacts-dir", "configs", *json_option)
    assert (done.exit_code, done.stdout, done.stderr) == (
        2,
        "",
        "error: configs: no registry (models/registry.json), so no models. Train one first, or "
        "name the root that has the models: --artifacts-dir or LLM_TRAIN_ARTIFACTS.\n",
    )


# --- show ----------------------------------------------------------------------------------------


def test_show_prints_everything_that_is_recorded(models, llm_train):
    assert llm_train("show", "model_v1").stdout == SHOW


def test_show_with_json_prints_the_record(models, as_json):
    assert as_json("show", "model_v1") == trace_model("model_v1").to_dict()


def test_show_without_provenance_leaves_out_what_it_records(models, llm_train):
    Path("artifacts/models/model_v1/provenance.json").unlink()
    done = llm_train("show", "model_v1")
    sections = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert (done.exit_code, list(dict.fromkeys(sections))) == (
        0,
        ["config", "data", "metrics", "files"],
    )
    assert sections.count("files") == 4


def test_an_evaluation_that_cannot_be_read_is_named_and_the_other_models_are_listed(
    models, llm_train, fail_to_read
):
    path = Path("artifacts/evaluations/model_v1/evaluation.json")
    fail_to_read(path)
    done = llm_train("models")
    assert done.exit_code == 1
    assert done.stderr == f"error: [Errno 5] Input/output error: '{path}'\n"
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "model_version",
        "model_v2",
        "model_v1",
    ]
