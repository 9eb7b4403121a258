"""Tests of the command `copy`."""

import re
from pathlib import Path

import pytest

from tests.cli.terminal import lines, on_terminal
from tests.transfer.conftest import record

ROOT = Path("artifacts")

COPY = """
from cli import progress
from cli.main import main
progress.UPDATE_SECONDS = 0
main(["copy", "artifacts", "copied"])
"""


def size(pattern: str) -> int:
    return sum(path.stat().st_size for path in ROOT.glob(pattern) if path.is_file())


def test_a_root_is_copied_and_the_numbers_of_files_and_bytes_are_printed(models, llm_train):
    done = llm_train("copy", "artifacts", "copied")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "files        copied  bytes  already_there",
        f"datasets          2  {size('datasets/*/*'):5}              0",
        "sweeps            0      0              0",
        f"models            4  {size('models/*/*'):5}              0",
        f"registry          1  {size('models/registry.json'):5}              0",
        f"evaluations       4  {size('evaluations/*/*'):5}              0",
    ]
    assert record(Path("copied")) == record(ROOT)


def test_a_bucket_is_the_destination_and_the_source_of_a_copy(models, llm_train, bucket):
    url = f"{bucket.url}/team"
    assert llm_train("copy", "artifacts", url).exit_code == 0
    assert llm_train("copy", url, "back").exit_code == 0
    assert record(Path("back")) == record(ROOT)


def test_a_second_copy_prints_that_all_files_are_there(models, as_json):
    as_json("copy", "artifacts", "copied")
    found = as_json("copy", "artifacts", "copied")
    assert found == {
        "source": "artifacts",
        "destination": "copied",
        "copied": [
            {"files": "datasets", "copied": 0, "bytes": 0, "already_there": 2},
            {"files": "sweeps", "copied": 0, "bytes": 0, "already_there": 0},
            {"files": "models", "copied": 0, "bytes": 0, "already_there": 4},
            {"files": "registry", "copied": 0, "bytes": 0, "already_there": 1},
            {"files": "evaluations", "copied": 0, "bytes": 0, "already_there": 4},
        ],
        "not_copied": [],
    }


def test_files_that_are_not_copied_are_named_on_stderr(models, llm_train, as_json):
    names = [f"artifacts/models/model_v1/{number:02}\n" for number in range(22)]
    for name in names:
        Path(name).write_text("x")
    done = llm_train("copy", "artifacts", "copied", "--csv")
    lines = done.stderr.splitlines()
    assert (done.exit_code, len(lines)) == (0, 21)
    assert lines[0] == ("artifacts/models/model_v1/00\\n: not copied: it is not part of a record.")
    assert lines[-1] == "... and 2 more. --json has all."
    assert done.stdout.startswith("files,copied,bytes,already_there\ndatasets,2,")
    assert as_json("copy", "artifacts", "copied")["not_copied"] == names


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, ["artifacts", "artifacts/copy"], "artifacts/copy: the same root as artifacts, or one "),
        (2, ["nothing", "copied"], "nothing: no datasets and no models. Expected an artifacts "),
        (2, ["artifacts", "ftp://x/y"], "ftp://x/y: expected a folder, or an address such as "),
        (
            2,
            ["artifacts", "other"],
            "other: has other files than the source, and two roots cannot be merged. Nothing was ",
        ),
        (1, ["damaged", "copied"], "damaged/models/model_v1/metadata.json: "),
    ],
)
def test_a_copy_that_is_refused_is_one_error(models, llm_train, code, arguments, message):
    for folder in ("other", "damaged"):
        assert llm_train("copy", "artifacts", folder).exit_code == 0
        path = Path(folder, "models/model_v1/metadata.json")
        path.write_bytes(path.read_bytes().replace(b'"epochs": 3', b'"epochs": 5'))
    done = llm_train("copy", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith(f"error: {message}")


def test_a_bar_on_a_terminal_shows_how_many_bytes_are_copied(models):
    total = f"{sum(map(len, record(ROOT).values())) / 1000:.1f}"
    output = on_terminal(COPY, columns=120)
    assert any(re.search(rf"copied \S+ {total}/{total} kB ", line) for line in lines(output))
