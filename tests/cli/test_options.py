"""Tests of the options that several commands share, and of completion in a shell."""

from pathlib import Path

import pytest

from tests.cli.conftest import READING


@pytest.mark.parametrize("arguments", [*READING, ["run", "one.yaml"], ["sweep", "one.yaml"]])
def test_a_missing_artifacts_folder_is_a_usage_error(tmp_path, llm_train, arguments):
    done = llm_train(*arguments, "--artifacts-dir", str(tmp_path / "none"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "Error: Invalid value for '--artifacts-dir' (env var: 'LLM_TRAIN_ARTIFACTS'): expected a "
        f"folder that holds datasets/ and models/, found nothing at '{tmp_path / 'none'}'.\n"
    )


def test_the_error_for_an_artifacts_folder_says_what_was_found(project, llm_train):
    value = "configs/training/mistral_finetune.yaml"
    done = llm_train("models", "--artifacts-dir", value)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "expected a folder that holds datasets/ and models/, found a file at "
        f"{str(Path(value).absolute())!r}.\n"
    )


def test_the_error_for_an_unknown_address_says_which_are_possible(project, llm_train):
    done = llm_train("models", "--artifacts-dir", "https://host/artifacts")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "https://host/artifacts: expected a folder, or an address such as s3://bucket/prefix, "
        "gs://bucket/prefix or az://container/prefix; found the scheme 'https'.\n"
    )


def test_the_error_for_an_address_that_has_lost_a_slash_says_so(project, llm_train):
    done = llm_train("dataset", "add", "a.jsonl", "a", "--artifacts-dir", "s3:/bucket/team")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "s3:/bucket/team: expected an address such as s3://bucket/prefix, with two slashes." in (
        done.stderr
    )


def test_an_environment_variable_sets_the_artifacts_folder(models, llm_train, monkeypatch):
    monkeypatch.chdir("/")
    done = llm_train("show", "model_v1", LLM_TRAIN_ARTIFACTS=str(models / "artifacts"))
    assert done.exit_code == 0
    assert f"{models}/artifacts/models/model_v1/metadata.json\n" in done.stdout


# --- Completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(llm_train, shell):
    done = llm_train(_LLM_TRAIN_COMPLETE=f"{shell}_source")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"_LLM_TRAIN_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("llm-train ver", ["verify"]),
        ("llm-train show ", ["model_v1", "model_v2"]),
        ("llm-train compare model_v1 model_v2", ["model_v2"]),
        ("llm-train export model_v", ["model_v1", "model_v2"]),
        ("llm-train show --artifacts-dir configs ", []),
    ],
)
def test_commands_and_model_versions_are_completed(models, llm_train, line, completed):
    done = llm_train(
        _LLM_TRAIN_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(line.count(" "))
    )
    assert done.stdout.split() == [f"plain,{each}" for each in completed]


def test_a_damaged_registry_completes_nothing_and_prints_no_error(models, llm_train):
    Path("artifacts/models/registry.json").write_text("{")
    done = llm_train(
        _LLM_TRAIN_COMPLETE="bash_complete", COMP_WORDS="llm-train show ", COMP_CWORD="2"
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
