# ruff: noqa: E501  # output stands here as it is printed
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from src.lineage.compare import compare
from src.lineage.trace import models_of_commit, models_trained_on, trace_model
from src.lineage.verify import verify
from src.training.registry import list_models
from tests.conftest import REPOSITORY
from tests.examples import DATA_SHA256

REGISTRY = Path("artifacts/models/registry.json")
EVALUATION = Path("artifacts/evaluations/model_v1/evaluation.json")
COMMIT = "c0ffee" * 6 + "beef"
READING = [
    ["models"],
    ["show", "model_v1"],
    ["compare", "model_v1", "model_v2"],
    ["verify", "--all"],
    ["trace", "model_v1"],
    ["trace", "--dataset", "dataset_v1"],
    ["trace", "--commit", COMMIT],
]

MODELS = """\
version   base model        dataset     samples  batch size  epochs  learning rate  cost per 1k tokens  latency ms  quality score
model_v2  org/llama-3.1-8b  dataset_v1        3          16       4          2e-05               0.017          82            0.9
model_v1  mistral-7b        dataset_v1        3          16       3          2e-05               0.015          92         0.9031
"""
SHOW = """\
                                 model_v1
config       base_model          mistral-7b
config       batch_size          16
config       dataset_version     dataset_v1
config       epochs              3
config       learning_rate       2e-05
data         num_samples         3
data         sha256              0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143
code         core sha256         c0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0de
code         commit              c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef
code         dirty               false
metrics      cost_per_1k_tokens  0.015
metrics      latency_ms          92
metrics      quality_score       0.9031
environment  python              3.11.7
environment  packages            2; --json names them
run          builder             urn:llm-training-pipeline:builder:python
run          id                  run-1
run          url                 http://server/runs/1
run          started             2026-11-23T10:00:01.000Z
run          finished            2026-11-23T11:00:00.000Z
files        registry.json       artifacts/models/registry.json
files        metadata.json       artifacts/models/model_v1/metadata.json
files        provenance.json     artifacts/models/model_v1/provenance.json
files        evaluation.json     artifacts/evaluations/model_v1/evaluation.json
files        provenance.json     artifacts/evaluations/model_v1/provenance.json
"""
COMPARE = """\
                             model_v1    model_v2
config   base_model          mistral-7b  org/llama-3.1-8b
config   epochs              3           4
metrics  cost_per_1k_tokens  0.015       0.017
metrics  latency_ms          92          82
metrics  quality_score       0.9031      0.9
"""
VERIFY = """\
MATCH     model_v1
  code: Made by commit c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef. It changed since; the results agree.
MATCH     model_v2
  code: Made by commit c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef. It changed since; the results agree.
2 models: 2 MATCH, 0 MISMATCH
"""
MISMATCH = """\
MISMATCH  model_v1
  code: Made by commit c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef. It changed since; the results agree.
  evaluation.json
    expected  sha256 a809825432d24bc91db6339de1f87432a0588af97636da123c3ea835d5d5c0b2
    found     sha256 6c9ffb65f6c33d140371d7c10aa251ec5e9f40f89df85d3eec62958c65130396
    note      metrics.quality_score: recorded 0.9031, now 0.9999.
"""
TRACE = """\
made of           where                              digest                                                                   facts
config            one.yaml                           sha256 ed5f089a6451f133298115856472db8ca2baacf74038e7dcd61d79185fb46eeb  -
dataset           datasets/dataset_v1/data.jsonl     sha256 0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143  num_samples 3
dataset metadata  datasets/dataset_v1/metadata.json  sha256 602445c3e11bcab7e4bfd182cd86a336e868aa81c640006c24bbdecb06a3e20b  -
code              -                                  gitCommit c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef                       dirty false
core              -                                  sha256 c0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0dec0de  -
python            -                                  -                                                                        implementation cpython version 3.11.7
packages          -                                  -                                                                        2; --json names them
"""
BACK = """\
{}: 2 models
version   dataset     data sha256                                                       commit                                    started
model_v1  dataset_v1  0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143  c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef  2026-11-23T10:00:01.000Z
model_v2  dataset_v1  0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143  c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef  2026-11-23T10:00:02.000Z
"""
SWEEP_HELP = """\
Usage: llm-train sweep [OPTIONS] [CONFIGS]...

  Train, register and evaluate by many CONFIGS, and rank the models.

  CONFIGS are files, or patterns in quotes; --grid gives more, by lists of
  values for the settings of one config. What was done before is served from the
  cache, so a sweep that was stopped goes on. Exits with 1 if a config failed;
  the others are done.

Options:
  --grid FILE          Lists of values to try: a YAML file.
  --concurrency N      Configs in work at a time.  [default: 4; x>=1]
  --artifacts-dir DIR  The artifacts root.  [env var: LLM_TRAIN_ARTIFACTS;
                       default: artifacts]
  --json               Print JSON.
  --help               Show this message and exit.
"""


def names(rows: list[dict]) -> list[str]:
    return [row["model_version"] for row in rows]


def test_models_are_listed_the_newest_first(models, llm_train):
    assert llm_train("models").stdout == MODELS


def test_a_model_is_shown_with_all_that_is_on_record(models, llm_train):
    assert llm_train("show", "model_v1").stdout == SHOW


def test_models_are_compared_by_what_differs(models, llm_train):
    assert llm_train("compare", "model_v1", "model_v2").stdout == COMPARE


def test_a_comparison_can_be_pasted_into_a_review(models, llm_train):
    comparison = compare("model_v1", "model_v2")
    done = llm_train("compare", "model_v1", "model_v2", "--markdown")
    assert done.stdout == comparison.to_markdown()
    done = llm_train("compare", "model_v1", "model_v2", "--markdown", "--all")
    assert done.stdout == comparison.to_markdown(everything=True)


def test_models_that_do_not_differ_are_said_not_to(models, llm_train):
    done = llm_train("compare", "model_v1", "model_v1")
    assert (done.exit_code, done.stdout) == (0, "No difference between model_v1, model_v1.\n")


def test_models_that_hold_match(models, llm_train):
    done = llm_train("verify", "--all")
    assert (done.exit_code, done.stdout) == (0, VERIFY)


def test_a_mismatch_is_told_in_full_and_gives_exit_code_1(models, llm_train):
    EVALUATION.write_text(EVALUATION.read_text().replace("0.9031", "0.9999"))
    done = llm_train("verify", "model_v1")
    assert (done.exit_code, done.stdout) == (1, MISMATCH)


def test_what_a_mismatch_comes_from_is_told(models, llm_train):
    path = Path("artifacts/models/model_v1/provenance.json")
    path.write_text(path.read_text().replace('"epochs": 3', '"epochs": 5'))
    done = llm_train("verify", "--all")
    assert done.exit_code == 1
    assert "    diverged  provenance.json\n" in done.stdout
    assert done.stdout.endswith("\n2 models: 1 MATCH, 1 MISMATCH\n")


def test_a_model_is_traced_to_what_made_it(models, llm_train):
    assert llm_train("trace", "model_v1").stdout == TRACE


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (["--dataset", "dataset_v1"], "dataset_v1"),
        (["--dataset", "0c1f9c9f"], DATA_SHA256),
        (["--commit", "c0ffeec0"], COMMIT),
    ],
)
def test_data_and_commits_are_traced_to_their_models(models, llm_train, source, named):
    assert llm_train("trace", *source).stdout == BACK.format(named)


def test_a_trace_names_the_models_of_which_it_is_not_recorded(models, llm_train):
    Path("artifacts/models/model_v1/provenance.json").unlink()
    Path("artifacts/models/model_v2/provenance.json").unlink()
    assert llm_train("trace", "--commit", "c0ffeec0").stdout == (
        "c0ffeec0: 0 models\nNot recorded of: model_v1, model_v2\n"
    )


# --- JSON ----------------------------------------------------------------------------------------


def test_as_json_models_are_their_registry_entries_and_metrics(models, as_json):
    metrics = json.loads(EVALUATION.read_text())["metrics"]
    [_, first] = as_json("models")
    assert first == list_models()[0] | {"metrics": metrics}


def test_as_json_all_else_is_what_the_core_gives(models, as_json):
    assert as_json("show", "model_v1") == trace_model("model_v1").to_dict()
    assert as_json("trace", "model_v1") == trace_model("model_v1").to_dict()
    assert as_json("trace", "--dataset", "dataset_v1") == models_trained_on("dataset_v1").to_dict()
    assert as_json("trace", "--commit", COMMIT) == models_of_commit(COMMIT).to_dict()
    comparison = compare("model_v1", "model_v2")
    assert as_json("compare", "model_v1", "model_v2") == comparison.to_dict()
    everything = comparison.to_dict(everything=True)
    assert as_json("compare", "model_v1", "model_v2", "--all") == everything


def test_as_json_verify_gives_every_check(models, llm_train):
    EVALUATION.unlink()
    done = llm_train("verify", "--all", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == [
        {
            "model_version": version,
            "verdict": verdict,
            "checks": [asdict(check) for check in verify(version)],
        }
        for version, verdict in [("model_v1", "MISMATCH"), ("model_v2", "MATCH")]
    ]


# --- Filters and order ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--reverse"], ["model_v1", "model_v2"]),
        (["--limit", "1"], ["model_v2"]),
        (["--base-model", "mistral-7b"], ["model_v1"]),
        (["--dataset", "dataset_v1", "--limit", "5"], ["model_v2", "model_v1"]),
        (["--dataset", "dataset_v2"], []),
        (["--sort", "version"], ["model_v1", "model_v2"]),
        (["--sort", "epochs"], ["model_v1", "model_v2"]),
        (["--sort", "epochs", "--reverse"], ["model_v2", "model_v1"]),
        (["--sort", "quality_score"], ["model_v2", "model_v1"]),
    ],
)
def test_models_are_filtered_sorted_and_limited(models, as_json, options, found):
    assert names(as_json("models", *options)) == found


@pytest.mark.parametrize("options", [[], ["--reverse"]])
def test_models_without_the_metric_sorted_by_come_last(models, as_json, options):
    EVALUATION.unlink()
    rows = as_json("models", "--sort", "quality_score", *options)
    assert names(rows) == ["model_v2", "model_v1"]
    assert rows[1]["metrics"] is None


def test_a_column_that_is_none_is_refused_with_those_there_are(models, llm_train):
    done = llm_train("models", "--sort", "quality")
    assert done.exit_code == 2
    assert done.stderr.endswith(
        "Error: --sort: no column 'quality'. There are: version, base_model, dataset, samples, "
        "batch_size, epochs, learning_rate, cost_per_1k_tokens, latency_ms, quality_score.\n"
    )


# --- Help ---------------------------------------------------------------------------------------


def test_the_help_of_a_sweep_says_what_to_give_it_and_what_it_does(llm_train):
    done = llm_train("sweep", "--help")
    assert (done.exit_code, done.stdout) == (0, SWEEP_HELP)


# --- What is wrong, or not there -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["show", "model_v9"], "no model 'model_v9'. Nearest: model_v2, model_v1."),
        (["compare", "model_v1", "model_v9"], "no model 'model_v9'. Nearest: model_v2, model_v1."),
        (["verify", "model_v9"], "no model 'model_v9'. Nearest: model_v2, model_v1."),
        (["trace", "model_v9"], "no model 'model_v9'. Nearest: model_v2, model_v1."),
        (["trace", "--commit", "c0ffee"], "expected 8 or more hexadecimal digits, found 'c0ffee'."),
        (["trace", "--dataset", "dataset_v9"], "Nearest: dataset_v1."),
        (["compare", "model_v1"], "expected two or more model versions, found 1."),
    ],
)
def test_what_is_not_there_is_one_error_and_exit_code_2(models, llm_train, arguments, error):
    done = llm_train(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.fullmatch(f"error: .*{re.escape(error)}\n", done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "model_v1", "--all"],
        ["trace"],
        ["trace", "model_v1", "--dataset", "dataset_v1"],
        ["compare", "model_v1", "model_v2", "--json", "--markdown"],
        ["show"],
        ["models", "--limit", "0"],
        ["sweep", "--concurrency", "0"],
        ["nothing"],
    ],
)
def test_wrong_usage_gives_exit_code_2(models, llm_train, arguments):
    done = llm_train(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: llm-train")


@pytest.mark.parametrize("arguments", READING)
def test_a_damaged_registry_is_one_error_and_exit_code_1(models, llm_train, arguments):
    REGISTRY.write_bytes(REGISTRY.read_bytes()[:40])
    done = llm_train(*arguments)
    assert done.exit_code == 1
    if arguments[0] == "verify":  # whose business damage is
        assert done.stdout.count("MISMATCH  model_v") == 2
    else:
        assert done.stdout == ""
        assert re.fullmatch(f"error: {REGISTRY}: line .*\n", done.stderr)


def test_a_damaged_evaluation_is_told_and_the_other_models_are_listed(models, llm_train):
    EVALUATION.write_text("{")
    done = llm_train("models")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {EVALUATION}: line 1, column 2: not valid JSON ")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["score", "0.9", "-"]


def test_a_model_without_provenance_is_not_traced(models, llm_train):
    Path("artifacts/models/model_v1/provenance.json").unlink()
    done = llm_train("trace", "model_v1")
    assert (done.exit_code, done.stdout, done.stderr) == (
        2,
        "",
        "error: model_v1: no provenance.json: what it was made of is not recorded. "
        "The next run of the version writes one.\n",
    )
    assert llm_train("show", "model_v1").exit_code == 0


@pytest.mark.parametrize("arguments", [*READING, ["run", "one.yaml"], ["sweep", "one.yaml"]])
def test_without_an_artifacts_folder_the_command_says_so(tmp_path, llm_train, arguments):
    done = llm_train(*arguments, "--artifacts-dir", str(tmp_path / "none"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Directory '{tmp_path / 'none'}' does not exist." in done.stderr


def test_with_no_model_yet_the_list_is_empty_and_nothing_is_verified(project, llm_train, as_json):
    assert as_json("models") == []
    done = llm_train("models")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "No models.\n")
    done = llm_train("verify", "--all")
    assert (done.exit_code, done.stdout, done.stderr) == (
        2,
        "",
        "error: artifacts: no models in it, so there is nothing to verify.\n",
    )


def test_the_artifacts_folder_may_be_named_by_the_environment(models, llm_train, monkeypatch):
    monkeypatch.chdir("/")
    done = llm_train("show", "model_v1", LLM_TRAIN_ARTIFACTS=str(models / "artifacts"))
    assert done.exit_code == 0


# --- As a program --------------------------------------------------------------------------------

NO_ENGINE = """
import json, sys
for name in ("prefect", "pydantic", "rich"):
    sys.modules[name] = None  # importing it fails from here on
from cli.main import main
for arguments in json.loads(sys.argv[1]):
    main(arguments, standalone_mode=False)
"""


def test_reading_commands_import_no_engine_and_without_a_terminal_no_rich(models, start):
    arguments = READING + [[*command, "--json"] for command in READING]
    assert "MATCH     model_v1" in start(NO_ENGINE, json.dumps(arguments)).end()


def test_a_reader_that_stops_early_is_not_told_of(models):
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "models"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_given_a_completion_script(llm_train, shell):
    done = llm_train(_LLM_TRAIN_COMPLETE=f"{shell}_source")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"_LLM_TRAIN_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("llm-train ver", ["verify"]),
        ("llm-train show ", ["model_v1", "model_v2"]),
        ("llm-train compare model_v1 model_v2", ["model_v2"]),
        ("llm-train show --artifacts-dir configs ", []),
    ],
)
def test_the_shell_completes_commands_and_model_versions(models, llm_train, line, completed):
    done = llm_train(
        _LLM_TRAIN_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(line.count(" "))
    )
    assert done.stdout.split() == [f"plain,{each}" for each in completed]


def test_a_damaged_registry_completes_nothing_and_is_not_told_of(models, llm_train):
    REGISTRY.write_text("{")
    done = llm_train(
        _LLM_TRAIN_COMPLETE="bash_complete", COMP_WORDS="llm-train show ", COMP_CWORD="2"
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
