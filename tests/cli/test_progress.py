import re
from pathlib import Path

import pytest

from cli.progress import hash_with_progress
from src.training.dataset import count_and_hash
from tests.cli.test_tables import lines, on_terminal
from tests.examples import DATA_SHA256

DATASET = Path("artifacts/datasets/dataset_v1/data.jsonl")
VERIFY = """
from cli import progress
from cli.main import main
progress.PATIENCE_SECONDS = {}
main(["verify", "--all"])
"""


def test_without_a_terminal_the_digest_is_all_there_is(project, capsys):
    assert hash_with_progress(DATASET) == count_and_hash(DATASET) == (3, DATA_SHA256)
    assert capsys.readouterr() == ("", "")


def test_who_waits_on_a_terminal_is_shown_bytes_rate_and_time_left(models):
    shown = on_terminal(VERIFY.format(-1), columns=120)
    bar = next(line for line in lines(shown) if "data.jsonl" in line)
    assert re.search(rf"{DATASET} \S+ 50/50 bytes \S+ [-0]:[-0]{{2}}:[-0]{{2}}$", bar)


def test_who_does_not_wait_is_shown_no_bar(models):
    assert "data.jsonl" not in on_terminal(VERIFY.format(60))


def test_a_bar_goes_when_the_data_cannot_be_read(models):
    DATASET.unlink()
    with pytest.raises(FileNotFoundError):
        hash_with_progress(DATASET)
