import hashlib
import os
from pathlib import Path

import pytest

from src.training.dataset import count_and_hash
from tasks import hashes
from tasks.hashes import remembering

DATA = b"{}\n" * 10
OLD = 10**18  # nanoseconds: long ago


@pytest.fixture
def read(monkeypatch):
    """The files that were read in full."""
    paths = []

    def reading(path):
        paths.append(path)
        return count_and_hash(path)

    monkeypatch.setattr(hashes, "count_and_hash", reading)
    return paths


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A file that nobody touched for more than two seconds."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(DATA)
    later = path.stat().st_ctime_ns + 3 * 10**9
    monkeypatch.setattr(hashes.time, "time_ns", lambda: later)
    return path


def expected(path):
    content = path.read_bytes()
    return content.count(b"\n"), hashlib.sha256(content).hexdigest()


def test_a_file_that_was_not_touched_is_read_once(data, read, tmp_path):
    for _ in range(3):
        assert remembering(tmp_path / "memory")(data) == expected(data)
    assert read == [data]


def test_a_file_changed_under_the_same_size_and_time_is_read_again(data, read, tmp_path):
    os.utime(data, ns=(OLD, OLD))
    remembering(tmp_path / "memory")(data)
    data.write_bytes(DATA.replace(b"{", b"["))
    os.utime(data, ns=(OLD, OLD))
    assert remembering(tmp_path / "memory")(data) == expected(data)
    assert len(read) == 2


def test_another_file_under_its_name_is_read(data, read, tmp_path):
    remembering(tmp_path / "memory")(data)
    (tmp_path / "other").write_bytes(DATA)
    (tmp_path / "other").replace(data)
    remembering(tmp_path / "memory")(data)
    assert len(read) == 2


def test_a_file_hashed_within_two_seconds_of_its_last_change_is_not_trusted(
    data, read, tmp_path, monkeypatch
):
    soon = data.stat().st_ctime_ns + 2 * 10**9
    monkeypatch.setattr(hashes.time, "time_ns", lambda: soon)
    for _ in range(2):
        assert remembering(tmp_path / "memory")(data) == expected(data)
    assert len(read) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"lines": 10', '"lines": 11'),
        lambda text: text.replace('"known"', '"unknown"'),
    ],
)
def test_a_damaged_memory_is_not_believed(data, read, tmp_path, damage):
    remembering(tmp_path / "memory")(data)
    [memory] = (tmp_path / "memory").iterdir()
    memory.write_text(damage(memory.read_text()))
    assert remembering(tmp_path / "memory")(data) == expected(data)
    assert len(read) == 2


def test_a_file_that_is_not_there_is_missed_as_by_reading_it(tmp_path):
    with pytest.raises(FileNotFoundError):
        remembering(tmp_path / "memory")(Path("none.jsonl"))
    assert not (tmp_path / "memory").exists()
