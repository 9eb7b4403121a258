import hashlib
import logging
import os
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.storage import FileChangedError, StorePath, folder, open_file
from src.storage.memo import read_memo, write_memo
from src.training import hashing
from src.training.hashing import count_and_hash, count_and_hash_once
from tests.examples import DATA, DATA_SHA256
from tests.stores import MemoryStore

LINES = b"{}\n" * 10
OLD = 10**18  # nanoseconds: long ago

on_disk = pytest.mark.parametrize("artifacts", ["folder"], indirect=True)
of_objects = pytest.mark.parametrize("artifacts", ["memory, none"], indirect=True)


@pytest.fixture
def path(artifacts):
    """A data.jsonl of three samples, on each back end in turn."""
    return artifacts.datasets / "dataset_v1/data.jsonl"


def expected(data):
    lines = data.split(b"\n")
    return len(lines) - (lines[-1] == b""), hashlib.sha256(data).hexdigest()


def contents(path):
    return path.read(1 << 24)


def append(path, data):
    """Append to a file in place, where the back end can."""
    if isinstance(path.store, MemoryStore):
        path.replace(contents(path) + data)
    else:
        with open(str(path), "ab") as file:
            file.write(data)


# --- Counting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"{}", 1),
        (b"{}\n", 1),
        (b"{}\n{}", 2),
        (b"{}\n\n{}\n", 3),
        (b"{}\r\n{}\r\n", 2),
        (b"{}\r{}\x0b{}\xe2\x80\xa8{}", 1),
        (b"\xff\xfe\0\n", 1),
    ],
)
def test_a_sample_is_a_line_and_the_last_line_needs_no_line_end(data, samples, path):
    path.replace(data)
    assert count_and_hash(path) == (samples, hashlib.sha256(data).hexdigest())


def test_the_number_of_lines_and_the_digest_of_the_example_are_fixed(path):
    assert count_and_hash(path) == count_and_hash_once(path) == (3, DATA_SHA256)


def test_the_error_for_a_missing_file_names_the_file(artifacts):
    path = artifacts.datasets / "dataset_v1/none.jsonl"
    with pytest.raises(FileNotFoundError) as caught:
        count_and_hash(path)
    assert str(caught.value.filename) == "artifacts/datasets/dataset_v1/none.jsonl"


@given(
    data=st.text("a\n").map(str.encode) | st.binary(),
    block=st.integers(1, 9),
    piece=st.integers(1, 9),
    back_end=st.sampled_from(["folder", "memory"]),
)
def test_reading_in_blocks_gives_the_result_of_reading_the_whole_file(
    data, block, piece, back_end, tmp_path_factory
):
    if back_end == "memory":
        path = StorePath(MemoryStore(), "data.jsonl")
    else:
        path = open_file(tmp_path_factory.mktemp("datasets") / "data.jsonl")
    path.replace(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "BLOCK_BYTES", block)
        patch.setattr(hashing, "PIECE_BYTES", piece)
        assert count_and_hash(path) == expected(data)


def test_data_larger_than_one_block_is_counted_and_hashed_in_full(tmp_path):
    data = b"x" * (1 << 22) + b"\n" + b"{}\n" * 500_000 + b"{}"
    (tmp_path / "data.jsonl").write_bytes(data)
    assert len(data) > hashing.BLOCK_BYTES
    lines, digest = count_and_hash(open_file(tmp_path / "data.jsonl"))
    assert (lines, digest) == (500_002, hashlib.sha256(data).hexdigest())


# --- The hashing thread --------------------------------------------------------------------------


def sha256_with(before_update):
    """Return a `hashlib` whose SHA-256 calls a function before each update."""

    class Sha256:
        def __init__(self):
            self.digest = hashlib.sha256()

        def update(self, data):
            before_update()
            self.digest.update(data)

        def hexdigest(self):
            return self.digest.hexdigest()

    return SimpleNamespace(sha256=Sha256)


@pytest.mark.parametrize("blocks", [1, 2, 4, 5, 12])
def test_no_buffer_is_filled_again_before_a_slow_thread_has_hashed_it(blocks, path, monkeypatch):
    monkeypatch.setattr(hashing, "BLOCK_BYTES", 16)
    monkeypatch.setattr(hashing, "hashlib", sha256_with(lambda: time.sleep(0.005)))
    data = b"".join(b"%15d\n" % n for n in range(blocks)) + b"{}"
    path.replace(data)
    assert count_and_hash(path) == (blocks + 1, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("block", [10, 16, 32])
def test_an_error_in_the_thread_is_raised(block, path, monkeypatch):
    def fail():
        raise MemoryError("no room")

    monkeypatch.setattr(hashing, "BLOCK_BYTES", block)
    monkeypatch.setattr(hashing, "hashlib", sha256_with(fail))
    with pytest.raises(MemoryError, match="no room"):
        count_and_hash(path)


def test_an_error_of_the_reader_ends_the_thread_and_is_raised(path, monkeypatch):
    def fail(_):
        raise RuntimeError("stopped")

    hashed = []
    monkeypatch.setattr(hashing, "BLOCK_BYTES", 16)
    monkeypatch.setattr(hashing, "hashlib", sha256_with(lambda: hashed.append(1)))
    with pytest.raises(RuntimeError, match="stopped"):
        count_and_hash(path, progress=fail)
    assert len(hashed) == 1  # the first buffer is full when the first read is reported


# --- Progress ------------------------------------------------------------------------------------


def test_progress_is_called_with_the_size_of_each_read(path, monkeypatch):
    monkeypatch.setattr(hashing, "BLOCK_BYTES", 20)
    sizes = []
    assert count_and_hash(path, progress=sizes.append) == (3, DATA_SHA256)
    assert sizes == [20, 20, 10]


def test_progress_is_called_more_than_once_per_block(path, monkeypatch):
    monkeypatch.setattr(hashing, "PIECE_BYTES", 20)
    sizes = []
    assert count_and_hash(path, progress=sizes.append) == (3, DATA_SHA256)
    assert sizes == [20, 20, 10]


def seconds_per_call(seconds, monkeypatch):
    """Let every look at the clock of the progress reports take some seconds."""
    clock = count(0, seconds)
    monkeypatch.setattr("src.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))


def test_the_log_has_the_share_the_rate_and_the_time_left(path, monkeypatch, caplog):
    path.replace(b"x" * 64)
    monkeypatch.setattr(hashing, "BLOCK_BYTES", 16)
    seconds_per_call(3, monkeypatch)
    with caplog.at_level(logging.INFO, logger="src.training.hashing"):
        count_and_hash(path)
    assert caplog.messages == [
        f"artifacts/datasets/dataset_v1/data.jsonl: {progress} left."
        for progress in (
            "25 % read, 0 MB/s, 9 s",
            "50 % read, 0 MB/s, 6 s",
            "75 % read, 0 MB/s, 3 s",
            "100 % read, 0 MB/s, 0 s",
        )
    ]


def test_the_log_has_the_rate_in_megabytes_per_second(tmp_path, monkeypatch, caplog):
    path = tmp_path / "data.jsonl"
    path.write_bytes(bytes(24_000_000))
    monkeypatch.setattr(hashing, "BLOCK_BYTES", 6_000_000)
    monkeypatch.setattr(hashing, "PIECE_BYTES", 6_000_000)
    seconds_per_call(3, monkeypatch)
    with caplog.at_level(logging.INFO, logger="src.training.hashing"):
        count_and_hash(open_file(path))
    assert caplog.messages[0] == f"{path}: 25 % read, 2 MB/s, 9 s left."
    assert len(caplog.messages) == 4


def test_the_log_has_at_most_one_line_in_three_seconds(path, monkeypatch, caplog):
    monkeypatch.setattr(hashing, "BLOCK_BYTES", 5)
    seconds_per_call(1, monkeypatch)
    with caplog.at_level(logging.INFO, logger="src.training.hashing"):
        count_and_hash(path)
    shares = [message.split(": ")[1].split(" read")[0] for message in caplog.messages]
    assert shares == ["30 %", "60 %", "90 %"]


def test_a_short_read_logs_nothing(path, caplog):
    with caplog.at_level(logging.INFO, logger="src.training.hashing"):
        count_and_hash(path)
    assert caplog.messages == []


# --- Files that change ---------------------------------------------------------------------------


@on_disk
def test_a_file_that_is_written_to_while_it_is_read_is_refused(path):
    def append_once(size):
        if contents(path) == DATA:
            append(path, b"{}\n")

    with pytest.raises(FileChangedError) as caught:
        count_and_hash(path, progress=append_once)
    assert isinstance(caught.value, OSError)  # such a step is retried
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/data.jsonl: written to while it was being read. "
        "Wait until the writer has finished, then run again."
    )


@on_disk
def test_a_file_that_is_written_to_while_it_is_read_gets_no_memo(path, settled, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hashing, "hashlib", sha256_with(lambda: append(path, b"{}\n")))
        with pytest.raises(FileChangedError, match="written to while it was being read"):
            count_and_hash_once(path)
    assert read_memo(path.memo()) is None
    assert count_and_hash_once(path) == expected(contents(path))


@of_objects
def test_one_version_of_an_object_is_hashed_and_its_memo_is_not_used_for_another(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hashing, "hashlib", sha256_with(lambda: append(path, b"{}\n")))
        assert count_and_hash_once(path) == (3, DATA_SHA256)
    assert count_and_hash_once(path) == (4, hashlib.sha256(DATA + b"{}\n").hexdigest())


# --- The memo ------------------------------------------------------------------------------------


class Recording:
    """A store that records which files are opened."""

    def __init__(self, store):
        self.store, self.opened = store, []

    def __getattr__(self, name):
        return getattr(self.store, name)

    def open(self, key):
        self.opened.append(key)
        return self.store.open(key)


@pytest.fixture
def data(artifacts):
    """A data.jsonl of ten lines, on each back end in turn; its store is a `Recording`."""
    path = StorePath(Recording(artifacts.root.store), artifacts.root.key) / "data.jsonl"
    path.replace(LINES)
    return path


@pytest.fixture
def file(tmp_path):
    """A data.jsonl of ten lines on the disk; its store is a `Recording`."""
    (tmp_path / "data.jsonl").write_bytes(LINES)
    path = open_file(tmp_path / "data.jsonl")
    return StorePath(Recording(path.store), path.key)


@pytest.fixture
def settled(monkeypatch):
    """Every file counts as unchanged for more than two seconds."""
    monkeypatch.setattr(folder, "RACY_NS", 0)


def times_read(path):
    return len(path.store.opened)


def touch_until_noticed(path, nanoseconds):
    """Set the times of a file; wait until the clock of the file system shows the change."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        os.utime(path, ns=(nanoseconds, nanoseconds))


def test_an_unchanged_file_is_read_once(data, settled):
    for _ in range(3):
        assert count_and_hash_once(data) == expected(LINES)
    assert times_read(data) == 1


def test_the_memo_has_the_identity_the_number_of_lines_and_the_digest(data, settled):
    assert read_memo(data.memo()) is None
    count_and_hash_once(data)
    digest = hashlib.sha256(LINES).hexdigest()
    assert read_memo(data.memo()).decode() == f"{data.stat().identity}\n10\n{digest}"


def test_a_changed_file_is_read_again(data, settled):
    count_and_hash_once(data)
    changed = LINES.replace(b"{", b"[")
    data.replace(changed)
    for _ in range(3):
        assert count_and_hash_once(data) == expected(changed)
    assert times_read(data) == 2


def test_a_file_changed_in_place_with_the_same_size_and_time_is_read_again(file, settled):
    path = Path(str(file))
    touch_until_noticed(path, OLD)
    count_and_hash_once(file)
    size, mtime = path.stat().st_size, path.stat().st_mtime_ns
    changed = LINES.replace(b"{", b"[")
    path.write_bytes(changed)
    touch_until_noticed(path, OLD)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, mtime) == (30, OLD)
    assert count_and_hash_once(file) == expected(changed)
    assert times_read(file) == 2


def test_another_file_at_the_same_path_is_read(file, settled, tmp_path):
    count_and_hash_once(file)
    (tmp_path / "other").write_bytes(LINES)
    (tmp_path / "other").replace(tmp_path / "data.jsonl")
    assert count_and_hash_once(file) == expected(LINES)
    assert times_read(file) == 2


def test_a_copy_of_a_file_is_read(data, settled):
    count_and_hash_once(data)
    copy = data.parent / "copy.jsonl"
    copy.replace(LINES)
    assert count_and_hash_once(copy) == expected(LINES)
    assert data.store.opened == ["data.jsonl", "copy.jsonl"]


@pytest.mark.parametrize(("nanoseconds", "reads"), [(0, 2), (1, 1)])
def test_a_file_that_changed_less_than_two_seconds_ago_gets_no_memo(
    nanoseconds, reads, file, monkeypatch
):
    now = Path(str(file)).stat().st_ctime_ns + folder.RACY_NS + nanoseconds
    monkeypatch.setattr(folder, "time", SimpleNamespace(time_ns=lambda: now))
    for _ in range(2):
        assert count_and_hash_once(file) == expected(LINES)
    assert times_read(file) == reads
    assert (read_memo(file.memo()) is None) == (reads == 2)
    assert folder.RACY_NS == 2_000_000_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda memo: b"",
        lambda memo: memo[:-20],
        lambda memo: b"[]",
        lambda memo: memo.replace(b"\n10\n", b"\n11\n"),
        lambda memo: memo.partition(b"\n")[2],
    ],
    ids=["empty", "truncated", "other content", "other number", "no checksum"],
)
def test_a_damaged_memo_is_not_used_and_written_again(damage, data, settled):
    count_and_hash_once(data)
    memo = data.memo().read_bytes()
    assert damage(memo) != memo
    data.memo().write_bytes(damage(memo))
    assert count_and_hash_once(data) == expected(LINES)
    assert times_read(data) == 2
    assert data.memo().read_bytes() == memo


def test_a_deleted_memo_is_written_again(data, settled):
    count_and_hash_once(data)
    data.memo().unlink()
    for _ in range(2):
        assert count_and_hash_once(data) == expected(LINES)
    assert times_read(data) == 2


def test_another_user_reads_the_file(data, settled, monkeypatch, tmp_path):
    count_and_hash_once(data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    for _ in range(2):
        assert count_and_hash_once(data) == expected(LINES)
    assert times_read(data) == 2


def test_without_a_usable_cache_folder_the_file_is_read_each_time(
    data, settled, monkeypatch, tmp_path
):
    (tmp_path / "home").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for _ in range(2):
        assert count_and_hash_once(data) == expected(LINES)
    assert times_read(data) == 2


def test_hashing_writes_nothing_below_the_artifacts_root(artifacts, files, data, settled, tree):
    before, on_disk = files(artifacts), tree(Path("artifacts"))
    count_and_hash_once(data)
    assert files(artifacts) == before
    assert tree(Path("artifacts")) == on_disk


def test_a_missing_file_is_an_error_and_gets_no_memo(artifacts, settled):
    path = artifacts.root / "none.jsonl"
    with pytest.raises(FileNotFoundError):
        count_and_hash_once(path)
    assert not path.memo().exists()


@pytest.mark.parametrize("contents", [b"", b"\xff\xfe", b"identity"])
def test_a_memo_with_other_contents_is_not_used_and_written_again(contents, data, settled):
    identity = str(data.stat().identity).encode()
    write_memo(data.memo(), contents.replace(b"identity", identity))
    assert count_and_hash_once(data) == expected(LINES)
    assert count_and_hash_once(data) == expected(LINES)
    assert times_read(data) == 1


def test_a_deleted_file_is_an_error_with_any_memo(file, settled):
    count_and_hash_once(file)
    Path(str(file)).unlink()
    with pytest.raises(FileNotFoundError):
        count_and_hash_once(file)
