"""Tests of the progress bars of `verify` and `trace --file`."""

import json
import logging
import re
from pathlib import Path

import pytest

from cli.progress import hash_with_progress, training_progress
from src.storage import open_path
from src.training.hashing import count_and_hash
from tests.cli.terminal import lines, on_terminal
from tests.examples import DATA_SHA256

DATASET = Path("artifacts/datasets/dataset_v1/data.jsonl")
VERIFY = """
from cli import progress
from cli.main import main
progress.UPDATE_SECONDS = {}
main(["verify", "--all"])
"""
TRACE = """
from cli import progress
from cli.main import main
progress.UPDATE_SECONDS = 0
main(["trace", "--file", "copy of data.jsonl"])
"""
# Hash a file of 50 bytes: each argument is the time for 10 bytes, on a clock of the test.
HASH = """
import json, sys
from types import SimpleNamespace
from cli import progress
from src import progress as core
from src.storage import open_path

now = 0.0
key = "datasets/dataset_v1/data.jsonl"  # not in the last line: Python 3.13 shows it in a traceback
core.time = SimpleNamespace(monotonic=lambda: now)

def count_and_hash(path, progress):
    global now
    for seconds in json.loads(sys.argv[1]):
        if seconds is None:
            raise OSError("the disk is broken")
        now += seconds
        progress(10)
    return 3, "the digest"

progress.count_and_hash = count_and_hash
print(progress.hash_with_progress(open_path("artifacts") / key))
"""
SHOW_CURSOR = "\x1b[?25h"


def bars(output: str) -> list[str]:
    """Return the drawn states of a bar, each once."""
    return list(dict.fromkeys(line for line in lines(output) if "data.jsonl" in line))


def test_without_a_terminal_no_bar_is_printed(project, capsys):
    path = open_path("artifacts/datasets/dataset_v1") / "data.jsonl"
    assert hash_with_progress(path) == count_and_hash(path) == (3, DATA_SHA256)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal_shows_bytes_rate_and_time_left(models):
    [*_, bar] = bars(on_terminal(VERIFY.format(0), columns=120))
    assert re.search(rf"{DATASET} \S+ 50/50 bytes \S+ [-0]:[-0]{{2}}:[-0]{{2}}$", bar)


def test_a_bar_shows_how_much_of_a_traced_file_is_read(models):
    Path("copy of data.jsonl").write_bytes(DATASET.read_bytes())
    output = on_terminal(TRACE, columns=120)
    assert any(re.search(r"copy of data.jsonl \S+ 50/50 bytes ", bar) for bar in bars(output))
    assert lines(output)[-4].endswith(f"copy of data.jsonl, sha256 {DATA_SHA256}: 2 models")


def test_verify_within_the_update_interval_shows_no_bar(models):
    output = on_terminal(VERIFY.format(60))
    assert bars(output) == []
    assert lines(output)[-1] == "2 models: 2 MATCH, 0 MISMATCH"


@pytest.mark.parametrize("seconds", [[], [0.5], [0.5, 0.25, 0.125], [0.999]])
def test_no_bar_appears_in_the_first_second(project, seconds):
    assert on_terminal(HASH, json.dumps(seconds)) == "(3, 'the digest')\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ([1.0], "10/50 bytes"),
        ([0.5, 0.25, 0.25], "30/50 bytes"),
        ([1.0, 0.5, 0.25], "10/50 bytes"),  # the next update is due after another second
        ([1.0, 0.5, 0.5], "30/50 bytes"),
    ],
)
def test_a_bar_appears_after_one_second_and_is_updated_every_second(project, seconds, shown):
    output = on_terminal(HASH, json.dumps(seconds), columns=120)
    assert shown in bars(output)[-1]
    assert output.endswith("(3, 'the digest')\n")


def test_a_bar_has_no_control_character_of_a_path(project):
    Path("artifacts").rename("art\x1b[2K\nifacts")
    code = HASH.replace('"artifacts"', repr("art\x1b[2K\nifacts"))
    output = on_terminal(code, json.dumps([1.0]), columns=120)
    assert "art\\x1b[2K\\nifacts/datasets/dataset_v1/data.jsonl" in bars(output)[-1]


def test_a_bar_is_removed_before_an_error_is_printed(project):
    output = on_terminal(HASH, json.dumps([1.0, None]), columns=120)
    _, end = output.split(SHOW_CURSOR)
    assert bars(end) == []
    assert "OSError: the disk is broken" in lines(end)


def test_a_missing_file_raises_and_prints_nothing(project, capsys):
    DATASET.unlink()
    with pytest.raises(FileNotFoundError):
        hash_with_progress(open_path("artifacts") / "datasets/dataset_v1/data.jsonl")
    assert capsys.readouterr() == ("", "")


HASH_WEIGHTS = """
from types import SimpleNamespace
from cli import progress
from src import progress as core
from src.storage import open_path, tree

now = 0.0

def monotonic():
    global now
    now += 1
    return now

core.time = SimpleNamespace(monotonic=monotonic)
tree.PIECE_BYTES = 10
print(progress.digests_with_progress(open_path(".") / "data.jsonl.weights"))
"""


def test_the_hashing_of_weights_has_a_bar_for_all_files_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("data.jsonl.weights")
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(bytes(25))
    output = on_terminal(HASH_WEIGHTS, columns=120)
    assert "50/50 bytes" in bars(output)[-1]
    assert "{'a': Digest(size=25, " in lines(output)[-1]


TRAINING = """
from cli.progress import training_progress
with training_progress() as on_point:
    for step in (1, 2, 3):
        on_point("data.jsonl", {"step": step, "loss": 1 / step, "total_steps": 3})
print("done")
"""


def test_a_training_has_a_bar_with_its_step_and_its_loss(project):
    output = on_terminal(TRAINING, columns=120)
    assert "3/3 loss 0.3333" in bars(output)[-1]
    assert lines(output)[-1].endswith("done")


def test_without_a_terminal_the_log_of_a_training_is_printed(project, capsys):
    with training_progress() as on_point:
        on_point("model_v1", {"step": 1})
        logging.getLogger("src.x").info("trainer starts.")
    out, err = capsys.readouterr()
    assert (out, err.endswith(" | INFO    | src.x - trainer starts.\n")) == ("", True)
