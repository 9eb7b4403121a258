"""Text from outside in the output of every command: it cannot control the terminal."""

import json
import os
import unicodedata
from pathlib import Path

import pytest

from tests.cli.conftest import COMMIT, READING

HOSTILE = "a\x1b[2K\x9b31m\u202eb\r\n2 models: 2 MATCH\x7f"
ESCAPED = "a\\x1b[2K\\x9b31m\\u202eb\\r\\n2 models: 2 MATCH\\x7f"
QUOTED = '"a\\u001b[2K\\u009b31m\\u202eb\\r\\n2 models: 2 MATCH\\u007f"'
FORGED = "2 models: 2 MATCH"


def controls(text: str) -> set[str]:
    """Return the characters of a text, except line ends, that can control a terminal."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {each for each in text if each != "\n" and unicodedata.category(each) in kinds}


def replace(path: str, old: str, new: str) -> None:
    """Replace a text in a JSON file by a text that JSON must escape."""
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, json.dumps(new)[1:-1]))


@pytest.fixture
def hostile(models):
    """The project of `models`, where every free text of `model_v1` is hostile."""
    statement = "artifacts/models/model_v1/provenance.json"
    replace("artifacts/models/registry.json", "mistral-7b", HOSTILE)
    for old in (COMMIT, "3.11.7", "filelock", "run-1", "one.yaml", "http://server/runs/1"):
        replace(statement, old, HOSTILE)
    evaluation = "artifacts/evaluations/model_v1/evaluation.json"
    replace(evaluation, "latency_ms", HOSTILE)
    Path("artifacts/datasets", HOSTILE).mkdir()
    return models


@pytest.mark.parametrize("json_option", [[], ["--json"]])
@pytest.mark.parametrize("arguments", [*READING, ["compare", "model_v1", "model_v2", "--all"]])
def test_no_command_prints_a_control_character_or_a_forged_line(
    hostile, llm_train, arguments, json_option
):
    done = llm_train(*arguments, *json_option)
    printed = done.stdout + done.stderr
    assert controls(printed) == set()
    assert [line for line in printed.splitlines() if line.strip().startswith(FORGED)] == []


def test_a_markdown_comparison_has_no_control_character(hostile, llm_train):
    printed = llm_train("compare", "model_v1", "model_v2", "--markdown").stdout
    assert controls(printed) == set()
    assert "\\u001b\\[2K" in printed.replace("\\\\", "\\")


def test_escaped_text_is_shown_where_it_belongs(models, llm_train):
    replace("artifacts/models/registry.json", "mistral-7b", HOSTILE)
    replace("artifacts/evaluations/model_v1/evaluation.json", "latency_ms", HOSTILE)
    lines = llm_train("show", "model_v1").stdout.splitlines()
    assert lines[1].split(maxsplit=2) == ["config", "base_model", QUOTED]
    verified = llm_train("verify", "model_v1").stdout
    assert f"metrics.{ESCAPED}: expected None, found 92." in verified


def test_json_with_escapes_has_the_same_values(hostile, as_json):
    assert as_json("show", "model_v1")["metadata"]["base_model"] == HOSTILE


def test_printable_json_is_canonical(models, llm_train):
    text = Path("artifacts/models/registry.json").read_text().replace("mistral-7b", "naïve 日本")
    Path("artifacts/models/registry.json").write_text(text)
    assert '"base_model": "naïve 日本"' in llm_train("models", "--json").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", HOSTILE],
        ["verify", HOSTILE],
        ["compare", HOSTILE, "model_v1"],
        ["trace", "--dataset", "dataset_v9"],
        ["trace", "--commit", HOSTILE],
        ["show", "model_v1", HOSTILE],
        ["models", "--sort", f"no {HOSTILE}"],
        ["models", f"--{HOSTILE}"],
        ["models", "--artifacts-dir", HOSTILE],
        [HOSTILE],
    ],
)
def test_no_error_has_a_control_character_or_a_forged_line(hostile, llm_train, arguments):
    done = llm_train(*arguments)
    assert done.exit_code == 2
    assert controls(done.stderr) == set()
    assert [line for line in done.stderr.splitlines() if line.startswith(FORGED)] == []


def test_the_lines_of_an_error_after_the_first_are_indented(models, llm_train):
    Path("artifacts", HOSTILE).mkdir()
    Path("artifacts", HOSTILE, "models").mkdir()
    Path("artifacts", HOSTILE, "models/registry.json").write_text("{")
    done = llm_train("models", "--artifacts-dir", f"artifacts/{HOSTILE}")
    first, second = ESCAPED.split("\\n")
    assert done.stderr.startswith(f"error: artifacts/{first}\n  {second}/models/registry.json: ")


def test_a_path_that_is_not_unicode_is_printed(models, llm_train):
    folder = os.fsdecode(b"artifacts-\xff")
    Path("artifacts").rename(folder)
    done = llm_train("show", "model_v1", "--artifacts-dir", folder)
    assert (done.exit_code, done.stderr) == (0, "")
    assert '"artifacts-\\udcff/models/registry.json"' in done.stdout


@pytest.mark.parametrize("value", ["text", True, None, 10**400, [[1]], {"a": 1}])
@pytest.mark.parametrize("arguments", READING)
def test_a_metric_that_is_no_number_is_printed_as_text(models, llm_train, arguments, value):
    path = Path("artifacts/evaluations/model_v1/evaluation.json")
    evaluation = json.loads(path.read_text())
    evaluation["metrics"]["latency_ms"] = value
    path.write_text(json.dumps(evaluation))
    done = llm_train(*arguments)
    assert done.exit_code == (1 if arguments[0] == "verify" else 0)
    assert done.stderr == ""
    done = llm_train("models", "--sort", "latency_ms")
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", READING)
def test_a_number_of_too_many_digits_is_a_sentence(models, llm_train, arguments):
    path = Path("artifacts/evaluations/model_v1/evaluation.json")
    path.write_text(path.read_text().replace("92", "9" * 5000))
    done = llm_train(*arguments)
    assert done.exit_code == 1
    assert "an integer of more than 4,300 digits" in done.stdout + done.stderr


def test_a_metric_replaces_no_other_column(models, llm_train):
    path = Path("artifacts/evaluations/model_v1/evaluation.json")
    evaluation = json.loads(path.read_text())
    evaluation["metrics"] |= {"model_version": "other", "base_model": "other", "epochs": 9}
    path.write_text(json.dumps(evaluation))
    row = llm_train("models").stdout.splitlines()[2].split()
    assert (row[:2], row[5]) == (["model_v1", "mistral-7b"], "3")
