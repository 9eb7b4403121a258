"""Tests of what all commands share: errors, exit codes, imports."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.conftest import READING
from tests.conftest import REPOSITORY

REGISTRY = Path("artifacts/models/registry.json")
NO_MODEL = "artifacts/models: no model 'model_v9'. Nearest: model_v2, model_v1."


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["show", "model_v9"], NO_MODEL),
        (["compare", "model_v1", "model_v9"], NO_MODEL),
        (["verify", "model_v9"], NO_MODEL),
        (["trace", "model_v9"], NO_MODEL),
        (
            ["trace", "--commit", "c0ffee"],
            "commit: expected 7 or more hexadecimal digits, found 'c0ffee'.",
        ),
        (
            ["trace", "--dataset", "dataset_v9"],
            "artifacts/datasets: no dataset version 'dataset_v9', and not 7 or more digits of a "
            "SHA-256. Nearest: dataset_v1.",
        ),
        (["compare", "model_v1"], "expected two or more model versions, found 1."),
    ],
)
def test_a_name_that_does_not_exist_is_one_error_and_exit_code_2(
    models, llm_train, arguments, error
):
    done = llm_train(*arguments)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {error}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "model_v1", "--all"],
        ["trace"],
        ["trace", "model_v1", "--dataset", "dataset_v1"],
        ["trace", "model_v1", "--file", "one.yaml"],
        ["trace", "--file", "one.yaml", "--line", "{}"],
        ["dataset", "add", "one.jsonl"],
        ["dataset", "diff", "dataset_v1"],
        ["dataset", "nothing"],
        ["export", "model_v1"],
        ["compare", "model_v1", "model_v2", "--json", "--markdown"],
        ["show"],
        ["models", "--limit", "0"],
        ["sweep", "--concurrency", "0"],
        ["nothing"],
    ],
)
def test_wrong_usage_exits_with_2(models, llm_train, arguments):
    done = llm_train(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: llm-train")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["verify"], "Pass the versions to verify, or --all."),
        (["trace"], "Pass exactly one of VERSION, --dataset, --commit, --file and --line."),
        (
            ["compare", "model_v1", "model_v2", "--json", "--markdown"],
            "--markdown and --json exclude each other. Choose one of them.",
        ),
    ],
)
def test_an_error_of_usage_describes_the_expected_arguments(models, llm_train, arguments, error):
    assert llm_train(*arguments).stderr.endswith(f"\nError: {error}\n")


def test_the_version_is_that_of_the_installed_package(llm_train):
    done = llm_train("--version")
    assert (done.exit_code, done.stdout) == (0, f"llm-train {version('llm-training-pipeline')}\n")


@pytest.mark.parametrize("arguments", READING)
def test_a_damaged_registry_is_one_error_and_exit_code_1(models, llm_train, arguments):
    REGISTRY.write_bytes(REGISTRY.read_bytes()[:40])
    done = llm_train(*arguments)
    assert done.exit_code == 1
    if arguments[0] == "verify":  # reports damage as a mismatch
        assert done.stdout.count("MISMATCH  model_v") == 2
        assert done.stderr == ""
    else:
        assert done.stdout == ""
        assert re.fullmatch(f"error: {REGISTRY}: line .*\n", done.stderr)


@pytest.mark.parametrize("arguments", READING)
def test_an_unreadable_registry_is_one_error_and_exit_code_1(
    models, llm_train, arguments, fail_to_read
):
    fail_to_read(REGISTRY)
    done = llm_train(*arguments)
    assert done.exit_code == 1
    if arguments[0] == "verify":
        assert done.stdout.endswith("2 models: 0 MATCH, 0 MISMATCH, 2 UNREADABLE\n")
        assert done.stderr == ""
    else:
        assert done.stdout == ""
        assert done.stderr == f"error: [Errno 5] Input/output error: '{REGISTRY}'\n"


NO_ENGINE = """
import json, sys
for name in ("prefect", "pydantic", "rich"):
    sys.modules[name] = None  # an import of it fails
from cli.main import main
for arguments in json.loads(sys.argv[1]):
    main(arguments, standalone_mode=False)
"""


def test_reading_commands_import_no_engine_and_in_a_pipe_no_rich(models, start):
    datasets = [["list"], ["show", "dataset_v1"], ["diff", "dataset_v1", "dataset_v1"]]
    commands = READING + [["dataset", *each] for each in datasets]
    forms = ([], ["--json"], ["--csv"])
    arguments = [[*command, *form] for command in commands for form in forms]
    assert "MATCH     model_v1" in start(NO_ENGINE, json.dumps(arguments)).end()


def test_a_closed_pipe_prints_no_error(models):
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "models"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_ctrl_c_ends_a_command_with_exit_code_130(models, llm_train, monkeypatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.models.check_registry", interrupted)
    done = llm_train("models")
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "\nAborted!\n")


@pytest.mark.parametrize("arguments", [["models"], ["run", "config.yaml"], ["show", "model_v1"]])
def test_a_deleted_working_directory_is_one_error(tmp_path, llm_train, monkeypatch, arguments):
    (tmp_path / "deleted").mkdir()
    monkeypatch.chdir(tmp_path / "deleted")
    (tmp_path / "deleted").rmdir()
    done = llm_train(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "error: The working directory was deleted. Change to the project's folder.\n"
    )
