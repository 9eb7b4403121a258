"""The samples that `held-out-loss` measures on; tests/e2e_train measures for real."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.finetuning.held_out_loss import _samples
from src.finetuning.samples import is_held_out

FINETUNING = {
    "dataset_sha256": "of the training",
    "prompt": "{q}",
    "completion": "{a}",
    "held_out": 0.5,
}


def line(question: str, number: int) -> bytes:
    return json.dumps({"id": number, "q": question, "a": "yes"}).encode()


def number_of(question: str, held_out: bool) -> int:
    """Return a number with which the line of a question is held out, or is not."""
    return next(n for n in range(100) if is_held_out(line(question, n), 0.5) is held_out)


def measured(path: Path, *lines: bytes, sha256: str = "of the training") -> list[int]:
    """Write a data.jsonl; return the numbers of the lines that are measured on."""
    path.write_bytes(b"\n".join(lines))
    run = SimpleNamespace(dataset=SimpleNamespace(path=str(path), sha256=sha256))
    return [each.line for each in _samples(run, FINETUNING)]


def test_a_held_out_line_whose_content_was_trained_on_is_left_out(tmp_path, capsys):
    path = tmp_path / "data.jsonl"
    lines = [
        line("one", number_of("one", held_out=True)),
        line("one", number_of("one", held_out=False)),
        line("two", number_of("two", held_out=True)),
        line("three", number_of("three", held_out=False)),
    ]
    assert measured(path, *lines) == [3]
    assert capsys.readouterr().out == (
        f"{path}: 1 of 2 held-out samples were left out, because the same prompt and completion "
        "were trained on in another line.\n"
    )
    with pytest.raises(ValueError, match="so none is left to measure on"):
        measured(path, *lines[:2])


def test_all_lines_of_other_data_are_measured_on(tmp_path, capsys):
    lines = [line("one", number) for number in range(4)]
    assert measured(tmp_path / "data.jsonl", *lines, sha256="of other data") == [1, 2, 3, 4]
    assert capsys.readouterr().out == ""
