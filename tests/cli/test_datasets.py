"""Tests of the commands `dataset add`, `list`, `show` and `diff`."""

import csv
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from src.training.pipeline import run_training_pipeline
from tests.cli.terminal import lines, on_terminal
from tests.conftest import REPOSITORY
from tests.examples import DATA

MAIN = "from cli.main import main; main()"
NEW = b'{"a": 1}\n{"a": 2}\n'
ADDED = """\
artifacts/datasets/new/data.jsonl: added; 2 samples, sha256 {sha256}.
To use it, write in a config: `dataset_version: new`.
"""
LIST = """\
dataset_version  samples  bytes  sha256        source     models
bare                   -      3  not pinned    -               0
dataset_v1             3     {size}  0c1f9c9f59b8  -               1
new                    2     18  {sha256}  our chats       0
"""
DIFF = """\
1 added, 0 removed, 1 changed, 2 equal.
changed: line 2
  - {}
  + {}
added: line 4
  + {{"a": 1}}
"""


@pytest.fixture
def new(project):
    """A file of two lines beside the project's configs."""
    Path("new.jsonl").write_bytes(NEW)
    return project


def datasets():
    return sorted(path.name for path in Path("artifacts/datasets").iterdir())


# --- add -----------------------------------------------------------------------------------------


def test_add_prints_what_is_there_now_and_how_to_use_it(new, llm_train, as_json):
    done = llm_train("dataset", "add", "new.jsonl", "new")
    facts = json.loads(Path("artifacts/datasets/new/metadata.json").read_text())
    assert done.stdout == ADDED.format(sha256=facts["dataset_hash"])
    assert (done.stderr, done.exit_code) == ("", 0)
    again = llm_train("dataset", "add", "new.jsonl", "new")
    assert again.stdout == (
        "artifacts/datasets/new/data.jsonl: was there already, nothing to do; 2 samples, sha256 "
        f"{facts['dataset_hash']}.\n"
    )
    assert as_json("dataset", "add", "new.jsonl", "new") == {
        "dataset_version": "new",
        "path": "artifacts/datasets/new/data.jsonl",
        "num_samples": 2,
        "dataset_hash": facts["dataset_hash"],
        "outcome": "unchanged",
        "num_crlf": 0,
        "first_crlf": [],
    }


def test_add_of_the_same_data_keeps_the_recorded_source_and_says_so(new, llm_train):
    llm_train("dataset", "add", "new.jsonl", "new", "--source", "our chats")
    done = llm_train("dataset", "add", "new.jsonl", "new", "--source", "other")
    assert (done.exit_code, done.stderr) == (0, "Its recorded source is kept: our chats.\n")
    done = llm_train("dataset", "add", "new.jsonl", "new", "--source", "our chats")
    assert done.stderr == ""


def test_add_pins_data_that_is_there_by_the_command_that_the_warning_names(project, llm_train):
    Path("artifacts/datasets/dataset_v1/metadata.json").unlink()
    done = llm_train("dataset", "add", "artifacts/datasets/dataset_v1/data.jsonl", "dataset_v1")
    assert "was there without a metadata.json, which was added; 3 samples" in done.stdout
    assert "not pinned" not in llm_train("dataset", "list").stdout


def test_add_reads_stdin(project):
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "dataset", "add", "-", "new", "--source", "a pipe"],
        input=NEW,
        capture_output=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path("artifacts/datasets/new/data.jsonl").read_bytes() == NEW
    metadata = json.loads(Path("artifacts/datasets/new/metadata.json").read_text())
    assert metadata["config"]["source"] == "a pipe"


def test_add_names_the_lines_that_are_not_valid_and_adds_nothing(project, llm_train):
    Path("bad.jsonl").write_bytes(b'{"a": 1}\n\n[1,2]\n{"a": \x1b]\n')
    done = llm_train("dataset", "add", "bad.jsonl", "bad")
    assert done.exit_code == 2
    assert done.stderr == (
        "error: bad.jsonl:2: blank. Remove the line.\n"
        "  bad.jsonl:3: expected a JSON object, found [1, 2].\n"
        "  bad.jsonl:4: column 7: not valid JSON, unexpected character, expected a JSON value: "
        "'{\"a\": \\x1b]'.\n"
        "  Found in 4 lines. Nothing was added.\n"
    )
    assert datasets() == ["dataset_v1"]


def test_add_reports_lines_with_cr_lf(project, llm_train):
    Path("windows.jsonl").write_bytes(b"{}\r\n" * 6)
    done = llm_train("dataset", "add", "windows.jsonl", "new")
    assert done.exit_code == 0
    assert done.stderr == (
        "Lines that end with CR LF, as on Windows: 6 (1, 2, 3, 4, 5, ...). They are kept; without "
        "CR the data has another digest.\n"
    )


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("new.jsonl", "dataset_v1", "exists with other data"),
        ("new.jsonl", "../x", "NAME: expected a name of at most 128 letters"),
        ("none.jsonl", "new", "error: none.jsonl: no such file.\n"),
        ("artifacts", "new", "'artifacts' is a directory"),
    ],
)
def test_add_refuses_other_data_names_and_files(new, llm_train, file, name, message):
    done = llm_train("dataset", "add", file, name)
    assert done.exit_code == 2
    assert message in done.stderr
    assert datasets() == ["dataset_v1"]


def test_add_with_publish_refuses_a_temporary_server_and_adds_nothing(new, llm_train, monkeypatch):
    monkeypatch.setattr("cli.datasets.console_run", lambda _: nullcontext(object()))
    done = llm_train("dataset", "add", "new.jsonl", "new", "--publish")
    assert done.exit_code == 2
    assert done.stderr == "error: --publish: no Prefect server. Run `make up` first.\n"
    assert datasets() == ["dataset_v1"]


def test_add_refuses_a_file_without_an_end(new, llm_train):
    done = llm_train("dataset", "add", "/dev/zero", "new")
    assert done.exit_code == 1
    assert done.stderr == (
        "error: /dev/zero: expected a regular file, found a device. Left as found.\n"
    )
    assert datasets() == ["dataset_v1"]


# --- list ----------------------------------------------------------------------------------------


def test_list_prints_what_is_recorded_and_the_number_of_models(new, llm_train, as_json):
    llm_train("dataset", "add", "new.jsonl", "new", "--source", "our chats")
    Path("artifacts/datasets/bare").mkdir()
    Path("artifacts/datasets/bare/data.jsonl").write_bytes(b"{}\n")
    run_training_pipeline("configs/training/mistral_finetune.yaml", "model_v1")
    digest = as_json("dataset", "list")[2]["dataset_hash"]
    done = llm_train("dataset", "list")
    assert done.stdout == LIST.format(size=len(DATA), sha256=digest[:12])
    assert as_json("dataset", "list")[0] == {
        "dataset_version": "bare",
        "num_bytes": 3,
        "num_samples": None,
        "dataset_hash": None,
        "source": None,
        "fault": None,
        "models": 0,
    }


def test_list_names_a_damaged_record_and_exits_with_1(project, llm_train):
    Path("artifacts/datasets/dataset_v1/metadata.json").write_text("{")
    done = llm_train("dataset", "list")
    assert done.exit_code == 1
    assert "dataset_v1" in done.stdout
    assert "error: artifacts/datasets/dataset_v1/metadata.json: line 1, column 2" in done.stderr


def test_list_without_datasets_says_how_to_add_one(tmp_path, monkeypatch, llm_train):
    monkeypatch.chdir(tmp_path)
    Path("artifacts").mkdir()
    done = llm_train("dataset", "list")
    assert (done.stdout, done.exit_code) == ("", 0)
    assert done.stderr == "No datasets. To add one: `llm-train dataset add FILE NAME`.\n"


# --- show ----------------------------------------------------------------------------------------


def test_show_prints_fields_lengths_first_lines_and_models(project, llm_train, as_json):
    Path("new.jsonl").write_bytes(
        b'{"text": "abc", "n": 1}\n{"text": "\x1b[31m"}\n[1]\n{"n": null}\n'
    )
    folder = Path("artifacts/datasets/new")
    folder.mkdir()
    (folder / "data.jsonl").write_bytes(Path("new.jsonl").read_bytes())
    done = llm_train("dataset", "show", "new")
    assert done.exit_code == 0
    lines = done.stdout.split("\n")
    assert lines[0].startswith("artifacts/datasets/new/data.jsonl: 4 samples, sha256 ")
    assert lines[1:] == [
        "Lines that are not JSON objects: 2, the first is line 2.",
        "field  lines  type          min  median  max",
        "text       1  text            3       3    3",
        "n          2  number, null    -       -    -",
        "min, median and max are numbers of characters.",
        "Lines: 3 to 23 bytes, the median is 11.",
        '  {"text": "abc", "n": 1}',
        '  {"text": "\\x1b[31m"}',
        "  [1]",
        "Models: none.",
        "",
    ]
    assert "so nothing pins its data" in done.stderr
    assert as_json("dataset", "show", "new")["is_pinned"] is False


def test_show_names_the_newest_models(project, llm_train, as_json):
    for number in range(1, 8):
        run_training_pipeline("configs/training/mistral_finetune.yaml", f"model_v{number}")
    done = llm_train("dataset", "show", "dataset_v1")
    assert "Models: model_v7, model_v6, model_v5, model_v4, model_v3 and 2 more.\n" in done.stdout
    assert len(as_json("dataset", "show", "dataset_v1")["models"]) == 7


def test_show_refuses_data_that_is_not_as_recorded_or_missing(project, llm_train):
    with Path("artifacts/datasets/dataset_v1/data.jsonl").open("ab") as file:
        file.write(b"{}\n")
    done = llm_train("dataset", "show", "dataset_v1")
    assert done.exit_code == 2
    assert "does not match its metadata.json" in done.stderr
    done = llm_train("dataset", "show", "dataset_v2")
    assert "no dataset version 'dataset_v2'. Nearest: dataset_v1." in done.stderr


# --- diff ----------------------------------------------------------------------------------------


def test_diff_prints_the_lines_that_differ(project, llm_train, as_json):
    lines = DATA.splitlines()
    other = [lines[0], lines[1].replace(b"{", b'{"new": 1, '), lines[2], b'{"a": 1}']
    Path("other.jsonl").write_bytes(b"\n".join(other))
    llm_train("dataset", "add", "other.jsonl", "other")
    done = llm_train("dataset", "diff", "dataset_v1", "other")
    assert done.stdout == DIFF.format(lines[1].decode(), other[1].decode())
    found = as_json("dataset", "diff", "dataset_v1", "other", "--limit", "1")
    assert found == {
        "added": 1,
        "removed": 0,
        "changed": 1,
        "equal": 2,
        "examples": [
            {"kind": "changed", "a": 2, "b": 2},
            {"kind": "added", "a": None, "b": 4},
        ],
    }


def test_diff_of_equal_lines_in_another_order_says_so(project, llm_train):
    Path("other.jsonl").write_bytes(b"\r\n".join(reversed(DATA.splitlines())))
    llm_train("dataset", "add", "other.jsonl", "other")
    assert llm_train("dataset", "diff", "dataset_v1", "other").stdout == (
        "0 added, 0 removed, 0 changed, 3 equal.\n"
        "The bytes differ: in the order of the lines, or in line ends.\n"
    )
    assert llm_train("dataset", "diff", "other", "other").stdout == (
        "0 added, 0 removed, 0 changed, 3 equal.\n"
    )


def test_diff_of_a_dataset_that_does_not_exist_is_refused(project, llm_train):
    done = llm_train("dataset", "diff", "dataset_v1", "dataset_v2")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no dataset version 'dataset_v2'" in done.stderr


def test_a_table_fits_the_width_of_a_terminal(project):
    printed = lines(on_terminal(MAIN, "dataset", "list", columns=60))
    assert any(line.startswith("dataset_v1 ") for line in printed)
    assert max(map(len, printed)) <= 60


# --- CSV -----------------------------------------------------------------------------------------


def test_csv_has_every_column_in_full(new, llm_train, as_json):
    llm_train("dataset", "add", "new.jsonl", "new", "--source", "=cmd()")
    [_, new] = as_json("dataset", "list")
    lines = llm_train("dataset", "list", "--csv").stdout.splitlines()
    assert lines[0] == "dataset_version,samples,bytes,sha256,source,models"
    assert lines[2] == f"new,2,18,{new['dataset_hash']},'=cmd(),0"
    assert llm_train("dataset", "show", "new", "--csv").stdout == (
        "field,lines,type,min,median,max\na,2,number,,,\n"
    )


def test_csv_of_a_difference_has_the_texts_of_the_lines(project, llm_train):
    lines = DATA.splitlines()
    Path("other.jsonl").write_bytes(b"\n".join([*lines[:2], b'{"a": "' + b"x" * 400 + b'"}']))
    llm_train("dataset", "add", "other.jsonl", "other")
    done = llm_train("dataset", "diff", "dataset_v1", "other", "--csv")
    rows = list(csv.reader(done.stdout.splitlines()))
    assert rows[0] == ["kind", "line_in_a", "line_in_b", "a", "b"]
    assert rows[1] == ["changed", "3", "3", lines[2].decode(), '{"a": "' + "x" * 400 + '"}']
