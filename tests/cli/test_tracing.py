# ruff: noqa: E501  # the output of commands, as printed
"""Tests of the commands `compare` and `trace`."""

import json
from pathlib import Path

import pytest

from src.datasets.adding import add_dataset
from src.lineage.compare import compare
from src.lineage.files import trace_file
from src.lineage.trace import models_of_commit, models_trained_on, trace_model
from tests.cli.conftest import COMMIT
from tests.examples import DATA, DATA_SHA256

COMPARE = """\
                             model_v1    model_v2
config   base_model          mistral-7b  org/llama-3.1-8b
config   epochs              3           4
metrics  cost_per_1k_tokens  0.015       0.017
metrics  latency_ms          92          82
metrics  quality_score       0.9031      0.9
"""
TRACE = """\
input             uri                                digest                                                                   annotations
config            one.yaml                           sha256 ed5f089a6451f133298115856472db8ca2baacf74038e7dcd61d79185fb46eeb  -
dataset           datasets/dataset_v1/data.jsonl     sha256 0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143  num_samples 3
dataset metadata  datasets/dataset_v1/metadata.json  sha256 602445c3e11bcab7e4bfd182cd86a336e868aa81c640006c24bbdecb06a3e20b  -
code              -                                  gitCommit c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef                       dirty false
core              -                                  sha256 c0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0de  -
python            -                                  -                                                                        implementation cpython version 3.11.7
packages          -                                  -                                                                        2; --json lists them
"""
TRACED_MODELS = """\
{}: 2 models
model_version  dataset_version  data_sha256                                                       commit                                    started_on
model_v1       dataset_v1       0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143  c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef  2026-11-23T10:00:01.000Z
model_v2       dataset_v1       0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143  c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef  2026-11-23T10:00:02.000Z
"""
TRACED_FILE = f"""\
artifacts/datasets/dataset_v1/data.jsonl, sha256 {DATA_SHA256}: 2 models
model_version  role     file
model_v1       dataset  datasets/dataset_v1/data.jsonl
model_v2       dataset  datasets/dataset_v1/data.jsonl
"""


# --- compare -------------------------------------------------------------------------------------


def test_compare_prints_the_differences(models, llm_train):
    assert llm_train("compare", "model_v1", "model_v2").stdout == COMPARE


def test_compare_with_markdown_prints_markdown(models, llm_train):
    comparison = compare("model_v1", "model_v2")
    done = llm_train("compare", "model_v1", "model_v2", "--markdown")
    assert done.stdout == comparison.to_markdown()
    done = llm_train("compare", "model_v1", "model_v2", "--markdown", "--all")
    assert done.stdout == comparison.to_markdown(everything=True)


def test_compare_with_json_prints_the_comparison(models, as_json):
    comparison = compare("model_v1", "model_v2")
    assert as_json("compare", "model_v1", "model_v2") == comparison.to_dict()
    everything = comparison.to_dict(everything=True)
    assert as_json("compare", "model_v1", "model_v2", "--all") == everything


def test_compare_of_equal_models_prints_that_there_is_no_difference(models, llm_train):
    done = llm_train("compare", "model_v1", "model_v1")
    assert (done.exit_code, done.stdout) == (0, "No difference between model_v1, model_v1.\n")


# --- trace ---------------------------------------------------------------------------------------


def test_trace_prints_the_inputs_of_a_model(models, llm_train):
    assert llm_train("trace", "model_v1").stdout == TRACE


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (["--dataset", "dataset_v1"], "dataset_v1"),
        (["--dataset", "0c1f9c9f"], DATA_SHA256),
        (["--commit", "c0ffeec"], COMMIT),
        (["--commit", "C0FFEEC0F"], COMMIT),
        (["--commit", COMMIT[:-1]], COMMIT),
        (["--commit", COMMIT], COMMIT),
    ],
)
def test_trace_prints_the_models_made_from_an_input(models, llm_train, source, named):
    assert llm_train("trace", *source).stdout == TRACED_MODELS.format(named)


def test_trace_names_the_models_whose_inputs_are_not_recorded(models, llm_train):
    Path("artifacts/models/model_v1/provenance.json").unlink()
    Path("artifacts/models/model_v2/provenance.json").unlink()
    assert llm_train("trace", "--commit", "c0ffeec0").stdout == (
        "c0ffeec0: 0 models\nNot recorded for: model_v1, model_v2\n"
    )


def test_trace_with_json_prints_the_record_or_the_trace(models, as_json):
    assert as_json("trace", "model_v1") == trace_model("model_v1").to_dict()
    assert as_json("trace", "--dataset", "dataset_v1") == models_trained_on("dataset_v1").to_dict()
    assert as_json("trace", "--commit", COMMIT) == models_of_commit(COMMIT).to_dict()


def test_trace_of_a_model_without_provenance_is_an_error(models, llm_train):
    Path("artifacts/models/model_v1/provenance.json").unlink()
    done = llm_train("trace", "model_v1")
    assert (done.exit_code, done.stdout, done.stderr) == (
        2,
        "",
        "error: model_v1: no provenance.json, so its inputs are not recorded. "
        "The next run of the version writes it.\n",
    )


def test_trace_of_a_file_prints_its_digest_and_the_models_that_name_it(models, llm_train):
    done = llm_train("trace", "--file", "artifacts/datasets/dataset_v1/data.jsonl")
    assert (done.exit_code, done.stdout) == (0, TRACED_FILE)


def test_trace_of_a_file_of_no_model_prints_its_digest_and_exits_with_1(models, llm_train):
    Path("other").write_bytes(b"other")
    Path("artifacts/models/model_v2/provenance.json").unlink()
    done = llm_train("trace", "--file", "other")
    assert (done.exit_code, done.stdout, done.stderr) == (
        1,
        "other, sha256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa: 0 models\n"
        "Not recorded for: model_v2\n",
        "",
    )
    assert llm_train("trace", "--file", "other", "--json").exit_code == 1


def test_trace_of_a_file_with_json_prints_the_trace(models, as_json):
    path = "artifacts/models/model_v1/metadata.json"
    assert as_json("trace", "--file", path) == trace_file(path).to_dict()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing", "error: [Errno 2] No such file or directory: 'missing'\n"),
        ("artifacts", "Error: Invalid value for '--file': File 'artifacts' is a directory.\n"),
    ],
)
def test_trace_of_a_file_that_does_not_exist_is_wrong_usage(models, llm_train, path, error):
    done = llm_train("trace", "--file", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(error)


# --- trace --line --------------------------------------------------------------------------------

LINE = DATA.splitlines()[1].decode()


def test_trace_of_a_line_prints_the_datasets_that_hold_it_and_their_models(models, llm_train):
    done = llm_train("trace", "--line", LINE)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "1 record: 1 in the data of 1 dataset\n"
        "record  dataset_version  lines  match      models\n"
        "     1  dataset_v1       2      same text       2\n"
        "Models trained on dataset_v1: model_v1, model_v2\n"
    )


def test_trace_of_a_file_of_lines_finds_equal_values(models, llm_train, as_json):
    Path("lines").write_text(f'{{"none": 1}}\n\n  {LINE}\n')
    add_dataset([f'{LINE[:-1]}, "b": 1, "a": 2}}\n'.encode() * 9], "more")
    Path("values").write_text(json.dumps({"a": 2, "b": 1} | json.loads(LINE)))
    done = llm_train("trace", "--line", "values")
    assert "     1  more             1, 2, 3, 4, 5, ...  same value       0\n" in done.stdout
    assert "Models trained on more: none\n" in done.stdout
    done = llm_train("trace", "--line", "lines")
    assert "2 records: 1 in the data of 2 datasets\n" in done.stdout
    assert as_json("trace", "--line", "lines")["hits"][0]["record"] == 2


def test_trace_of_a_line_names_models_of_other_data(models, llm_train):
    folder = Path("artifacts/datasets/dataset_v1")
    (folder / "metadata.json").unlink()
    (folder / "data.jsonl").write_bytes(b'{"a": 1}\n')
    done = llm_train("trace", "--line", '{"a": 1}')
    assert "Models trained on dataset_v1: none\n" in done.stdout
    assert "With other or unrecorded data of this name: model_v1, model_v2\n" in done.stdout


def test_trace_of_a_line_that_no_dataset_holds_exits_with_1(models, llm_train):
    done = llm_train("trace", "--line", '{"none": 1}')
    assert (done.exit_code, done.stderr) == (1, "")
    assert done.stdout == "1 record: 0 in the data of 1 dataset\n"


def test_trace_of_a_line_names_a_dataset_that_was_not_searched(models, llm_train):
    Path("artifacts/datasets/empty").mkdir()
    done = llm_train("trace", "--line", LINE)
    assert done.exit_code == 1
    assert "Models trained on dataset_v1: model_v1, model_v2\n" in done.stdout
    assert done.stderr.startswith("error: dataset empty was not searched: ")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "--line:1: not a JSON object."),
        ("none", "none: no such file, and not a JSON object."),
        ("empty", "empty: empty. Expected JSON objects, one per line."),
        ("{}\n[]", "--line:2: not a JSON object."),
    ],
)
def test_text_that_is_no_record_is_one_error(models, llm_train, line, error):
    Path("empty").touch()
    done = llm_train("trace", "--line", line)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {error}\n")


def test_trace_of_a_line_as_csv_has_the_models_in_full(models, llm_train):
    assert llm_train("trace", "--line", LINE, "--csv").stdout == (
        "record,dataset_version,lines,match,models\n"
        '1,dataset_v1,1,same text,"[""model_v1"", ""model_v2""]"\n'
    )
