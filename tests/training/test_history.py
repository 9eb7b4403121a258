"""The history of a training, which ends as if the training had not been stopped."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import CorruptFileError
from src.training.history import History, losses, parse_point


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_points_are_written_one_per_line_in_full_precision(tmp_path):
    with closing(History(tmp_path / "h")) as history:
        history.append({"step": 1, "loss": 0.1 + 0.2})
        history.append({"step": 2, "loss": 1e-300})
    assert (tmp_path / "h").read_bytes() == (
        b'{"loss": 0.30000000000000004, "step": 1}\n{"loss": 1e-300, "step": 2}\n'
    )


def test_a_history_that_cannot_be_written_is_named():
    with closing(History(Path("/dev/full"))) as history:
        history._file = history._path.open("r+b", buffering=0)
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            history.append({"step": 1})


@pytest.mark.parametrize("torn", [b"", b"mine"])
@pytest.mark.parametrize("points", [b"", b'{"step": 1}\n'])
def test_a_file_with_a_second_name_is_not_written_to(tmp_path, points, torn):
    outside = tmp_path / "outside"
    outside.write_bytes(points + torn)
    (tmp_path / "h").hardlink_to(outside)
    with closing(History(tmp_path / "h")) as history:
        history.append({"step": 2})
    assert outside.read_bytes() == points + torn
    assert (tmp_path / "h").read_bytes() == points + b'{"step": 2}\n'


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "h")
    with pytest.raises(CorruptFileError, match="h: expected a regular file, found a FIFO"):
        History(tmp_path / "h").append({"step": 1})


def test_a_file_that_is_too_large_is_refused_and_not_read(tmp_path):
    with (tmp_path / "h").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(CorruptFileError, match="h: larger than 268,435,456 bytes"):
        History(tmp_path / "h").append({"step": 1})


@given(stop=st.integers(0, 20), resume=st.integers(0, 20), torn=st.integers(0, 30))
def test_a_training_that_resumes_from_a_checkpoint_has_the_history_of_one_that_did_not_stop(
    tmp_path_factory, stop, resume, torn
):
    path = tmp_path_factory.mktemp("history") / "h"
    with closing(History(path)) as first:
        for step in range(stop):
            first.append({"step": step, "loss": step / 2})
    with path.open("ab") as file:
        file.write(b'{"step": 999, "loss": 1}'[:torn])  # half of a line
    with closing(History(path)) as second:
        for step in range(min(stop, resume), 21):
            second.append({"step": step, "loss": step / 2})
    assert lines(path) == [{"step": step, "loss": step / 2} for step in range(21)]


@pytest.mark.parametrize(
    ("line", "point"),
    [
        ('{"step": 1}', {"step": 1}),
        ('{"step": 1, "loss": NaN}', {"step": 1, "loss": None}),
        ('{"step": 1, "loss": 1e999}', {"step": 1, "loss": None}),
        ('{"step": -1}', None),
        ('{"step": 1.5}', None),
        ('{"step": true}', None),
        ('{"step": "1"}', None),
        ('{"loss": 1}', None),
        ("[1]", None),
        ("{", None),
        ("step 1", None),
        ("", None),
        ('{"step": 1, "x": "\\ud800"}', None),
        ('{"step": 1, "x": "' + "a" * (1 << 16) + '"}', None),
        ("{" * 10_000, None),
        ('{"step": 1, "a\\u001b": 1}', None),
        ('{"step": 1, "' + "a" * 129 + '": 1}', None),
        ('{"step": 1, "": 1}', None),
        (json.dumps({"step": 1} | {str(n): n for n in range(1001)}), None),
    ],
)
def test_a_line_is_a_point_if_it_is_an_object_with_a_step(line, point):
    assert parse_point(line) == point
    assert parse_point(line.encode()) == point


def as_history(points):
    return b"".join(json.dumps(point).encode() + b"\n" for point in points)


def test_the_losses_of_a_history_are_those_of_its_points_in_order():
    points = [{"step": 1, "loss": 2}, {"step": 2, "loss": 0.5}, {"step": 5, "loss": 0.25}]
    assert losses(as_history(points), 10) == [(1, 2.0), (2, 0.5), (5, 0.25)]


def test_points_whose_loss_is_no_finite_number_are_left_out():
    values = [None, "0.5", True, [1], 10**400, 0.5]
    points = [{"step": step, "loss": value} for step, value in enumerate(values)]
    data = as_history([{"step": 9, "eval_loss": 1.0}, *points])
    lines = [
        b"no point\n",
        b'{"loss": 1}\n',
        b'{"step": 3, "loss": NaN}\n',
        b'{"step": 8, "loss": 1',
    ]
    assert losses(data + b"".join(lines), 10) == [(5, 0.5)]
    assert losses(b"", 10) == []


def test_of_a_long_history_some_losses_are_returned_with_the_first_and_the_last():
    data = as_history({"step": step, "loss": 1 / step} for step in range(1, 10_001))
    found = losses(data, 300)
    assert 150 <= len(found) <= 300
    assert (found[0], found[-1]) == ((1, 1.0), (10_000, 1 / 10_000))
    assert found == sorted(found)


@given(st.lists(st.sampled_from(["loss", "eval_loss"]), max_size=60), st.integers(2, 20))
def test_a_long_history_with_other_points_between_has_no_more_losses_than_asked_for(names, limit):
    points = [{"step": step, name: step / 2} for step, name in enumerate(names)]
    found = losses(as_history(points), limit)
    every = [(point["step"], point["loss"]) for point in points if "loss" in point]
    assert len(found) <= limit
    assert set(found) <= set(every)
    assert found[:1] + found[-1:] == every[:1] + every[-1:]
