"""Tests of `run` without an engine, and the help of `run` and `sweep`; see also tests/flows."""

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from src.training.pipeline import run_training_pipeline
from tests.cli.terminal import lines, on_terminal
from tests.examples import CONFIG, without_runs, written

SWEEP_HELP = """\
Usage: llm-train sweep [OPTIONS] [CONFIGS]...

  Train, register and evaluate one model per config, and rank the models.

  CONFIGS are files, or quoted patterns. --grid adds every combination of the
  values in FILE. What is done already is found in the record, so a sweep that
  was stopped continues. --distribute needs a Prefect server with workers (`make
  up`) that have the same artifacts root. The best models are printed; all of
  them are written to a file below sweeps/ in the artifacts root. Exits with 1
  if a config failed; the others are done.

Options:
  --grid FILE          A YAML file with lists of values to try.
  --concurrency N      Number of configs with their own trainer or evaluator
                       that run at the same time.  [default: 4; x>=1]
  --distribute         Run each config as a flow run on the workers.
  --in-flight N        With --distribute, the number of flow runs that wait or
                       run at the same time.  [default: 100; x>=1]
  --rank-by METRIC     The metric that ranks the models; by default
                       quality_score, or else the first declared.
  --artifacts-dir DIR  The artifacts root: a folder, or an address such as
                       s3://bucket/prefix.  [env var: LLM_TRAIN_ARTIFACTS;
                       default: artifacts]
  --csv                Print CSV, e.g. for a spreadsheet.
  --json               Print JSON.
  --help               Show this message and exit.
"""


def test_the_help_of_sweep_describes_arguments_results_and_options(llm_train):
    done = llm_train("sweep", "--help")
    assert (done.exit_code, done.stdout) == (0, SWEEP_HELP)


NO_ENGINE = """
import sys
for name in ("prefect", "pydantic", "rich", "flows", "tasks", "ops"):
    sys.modules[name] = None  # an import of it fails
from cli.main import main
main(["run", "config.yaml", *sys.argv[1:]])
"""


@pytest.fixture
def config(project) -> Path:
    """A valid training config, in the working directory."""
    path = Path("config.yaml")
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize(
    ("config", "settings", "error"),
    [
        ("none.yaml", [], "none.yaml: no such training config."),
        ("none.yaml", ["--set", "epochs=4"], "none.yaml: no such training config."),
        (
            "bad.yaml",
            [],
            "bad.yaml:5: epochs: expected an integer >= 1, found 'many'. Write e.g. `epochs: 3`.",
        ),
        (
            "config.yaml",
            ["--set", "epoch=4"],
            "setting 'epoch=4': unknown key 'epoch', did you mean 'epochs'?",
        ),
    ],
)
def test_a_mistake_in_the_config_is_reported_before_a_server_is_started(
    project, llm_train, monkeypatch, config, settings, error
):
    monkeypatch.setattr("cli.runs.console_run", None)
    Path("config.yaml").write_text(CONFIG)
    Path("bad.yaml").write_text(CONFIG.replace("epochs: 3", "epochs: many"))
    done = llm_train("run", config, *settings)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {error}\n")


# --- run --local ---------------------------------------------------------------------------------


def test_a_local_run_imports_no_engine_and_prints_the_evaluation(config, start):
    printed = start(NO_ENGINE, "--local", "--model-version", "model_v1").end()
    file = Path("artifacts/evaluations/model_v1/evaluation.json")
    assert json.loads(printed) == json.loads(file.read_text())


@pytest.mark.parametrize("version", [[], ["--model-version", ""], ["--model-version", "model_v1"]])
def test_a_local_run_writes_the_bytes_of_the_function(config, llm_train, tmp_path, version):
    assert llm_train("run", "config.yaml", "--local", *version).exit_code == 0
    files = written(Path("artifacts"))
    Path("artifacts/datasets").rename(tmp_path / "datasets")
    Path("artifacts").rename(tmp_path / "first")
    Path("artifacts").mkdir()
    (tmp_path / "datasets").rename("artifacts/datasets")
    run_training_pipeline("config.yaml", version[-1] or None if version else None)
    assert without_runs(files) == without_runs(written(Path("artifacts")))


def test_a_local_run_logs_the_core_on_stderr(config, llm_train):
    done = llm_train("run", "config.yaml", "--local")
    lines = [re.sub(r"^[0-9:.]{12} ", "", line) for line in done.stderr.splitlines()]
    assert lines[0] == (
        "| INFO    | src.training.dataset - artifacts/datasets/dataset_v1/data.jsonl: 3 samples, "
        "sha256 0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143."
    )
    assert llm_train("run", "none.yaml", "--local").stderr == (
        "error: none.yaml: no such training config.\n"
    )


def test_an_error_of_a_local_run_has_the_exit_code_of_a_run(config, llm_train):
    arguments = ("run", "config.yaml", "--local", "--model-version", "model_v1")
    assert llm_train(*arguments).exit_code == 0
    config.write_text(CONFIG.replace("epochs: 3", "epochs: 4"))
    done = llm_train(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error: artifacts/models/model_v1/" in done.stderr
    assert "    training_config.epochs: recorded 3, now 4\n" in done.stderr
    Path("artifacts/models/registry.json").write_text("{")
    assert llm_train(*arguments).exit_code == 1


# --- run --set -----------------------------------------------------------------------------------


def test_a_run_with_settings_trains_another_config_that_can_be_run_again(config, llm_train):
    arguments = ("run", "config.yaml", "--local", "--set", "epochs=4", "--set", "batch_size=8")
    done = llm_train(*arguments)
    assert done.exit_code == 0
    [file] = Path("artifacts/sweeps").iterdir()
    assert file.read_text() == (
        'base_model: "mistral-7b"\ndataset_version: "dataset_v1"\nlearning_rate: 2e-05\n'
        "epochs: 4\nbatch_size: 8\n"
    )
    assert config.read_text() == CONFIG
    assert llm_train("run", str(file), "--local").stdout == done.stdout


def test_a_setting_that_is_not_valid_is_refused(config, llm_train):
    done = llm_train("run", "config.yaml", "--local", "--set", "epoch=4")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "error: setting 'epoch=4': unknown key 'epoch', did you mean 'epochs'?\n"
    )
    assert not Path("artifacts/sweeps").exists()


# --- run --dry-run -------------------------------------------------------------------------------

DRY_RUN = """\
Model version: model_v1

Differences from the model of this version
                        recorded                                                          now
training_config.epochs  3                                                                 4
sha256.config           ed5f089a6451f133298115856472db8ca2baacf74038e7dcd61d79185fb46eeb  {}

file                                       change
artifacts/sweeps/config-{}.yaml  added
"""
STEPS = ["load_config", "resolve_dataset", "write_metadata", "register", "evaluate"]
ENGINE = "import sys; from cli.main import main; main(['run', 'config.yaml', *sys.argv[1:]])"


def test_a_dry_run_prints_what_differs_and_changes_and_fails_as_the_run_would(
    config, llm_train, tree
):
    arguments = ("run", "config.yaml", "--local", "--model-version", "model_v1")
    llm_train(*arguments)
    before = tree(Path())
    done = llm_train(*arguments, "--set", "epochs=4", "--dry-run")
    assert tree(Path()) == before
    run = llm_train(*arguments, "--set", "epochs=4")
    [file] = Path("artifacts/sweeps").iterdir()
    digest = sha256(file.read_bytes()).hexdigest()
    assert done.stdout == DRY_RUN.format(digest, file.stem.removeprefix("config-"))
    assert done.stderr.startswith("Dry run: nothing was written.\nerror: artifacts/models/model_v1")
    assert done.exit_code == run.exit_code == 2
    assert run.stderr.endswith(done.stderr.partition("\n")[2])


def test_a_dry_run_of_a_finished_run_changes_no_file(config, llm_train):
    llm_train("run", "config.yaml", "--local", "--model-version", "model_v1")
    done = llm_train("run", "config.yaml", "--local", "--model-version", "model_v1", "--dry-run")
    assert (done.exit_code, done.stdout) == (
        0,
        "Model version: model_v1\n\nNo difference from the model of this version\n\n"
        "No file would change.\n",
    )


def test_a_dry_run_imports_no_engine_if_it_is_local(config, start):
    printed = json.loads(start(NO_ENGINE, "--local", "--dry-run", "--json").end())
    assert (printed["steps"], printed["error"], len(printed["files"])) == (None, None, 5)
    assert not Path("artifacts/models").exists()


def test_a_dry_run_prints_the_decision_of_each_step_and_starts_no_server(
    config, start, tmp_path, monkeypatch, tree
):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    before = tree(tmp_path)
    printed = json.loads(start(ENGINE, "--dry-run", "--json").end())
    assert tree(tmp_path) == before
    assert list(printed["steps"]) == sorted(STEPS)
    assert printed["steps"]["evaluate"] == {
        "is_cached": False,
        "reason": "no valid cached result for these inputs and this code",
    }
    lines = start(ENGINE, "--dry-run").end().splitlines()
    assert [line.split()[:2] for line in lines[3:8]] == [[step, "runs"] for step in STEPS]


def test_a_dry_run_on_a_terminal_writes_nothing(config, tmp_path, monkeypatch, tree):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    for name in ("CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    before = tree(tmp_path)
    printed = lines(on_terminal(ENGINE, "--dry-run"))
    assert printed[0] == "Loading Prefect ..."
    assert printed[1].startswith("Model version: mistral-7b-dataset_v1-")
    assert tree(tmp_path) == before


def test_a_dry_run_within_the_artifacts_root_is_refused(config, llm_train, monkeypatch):
    monkeypatch.chdir("artifacts")
    done = llm_train("run", "../config.yaml", "--dry-run", "--artifacts-dir", ".")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the working directory is inside the artifacts root" in done.stderr


@pytest.mark.parametrize("command", [["run"], ["run", "--local"], ["sweep"]])
def test_a_grid_in_place_of_a_config_is_named_before_a_server_is_started(
    project, llm_train, command
):
    config = "configs/training/mistral_finetune.yaml"
    Path("grid.yaml").write_text(f"base_config: {config}\nepochs: [1, 2]\n")
    done = llm_train(*command, "grid.yaml")
    assert done.exit_code == 2
    assert done.stderr.endswith(
        "Error: grid.yaml is a grid. Pass it as an option: `sweep --grid grid.yaml`.\n"
    )
