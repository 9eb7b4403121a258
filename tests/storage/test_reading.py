import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from src.errors import CorruptFileError
from src.storage import FolderStore, read_file
from src.storage.reading import open_regular

LIMIT = 100


def open_files():
    return sorted(Path("/proc/self/fd").iterdir())


def test_a_file_is_read_up_to_the_limit(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * LIMIT)
    assert read_file(tmp_path / "f", LIMIT) == b"x" * LIMIT


def test_an_empty_file_is_not_an_absent_file(tmp_path):
    (tmp_path / "f").touch()
    assert read_file(tmp_path / "f", LIMIT) == b""
    assert read_file(tmp_path / "f", 0) == b""


def test_an_absent_file_reads_as_none(tmp_path):
    (tmp_path / "dangling").symlink_to("none")
    for name in ("none", "none/f", "dangling"):
        assert read_file(tmp_path / name, LIMIT) is None


def test_links_are_followed(tmp_path):
    (tmp_path / "f").write_bytes(b"data")
    (tmp_path / "link").symlink_to("f")
    assert read_file(tmp_path / "link", LIMIT) == b"data"


@pytest.fixture
def found(tmp_path):
    """Paths that hold something other than a regular file, by name."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to("circle")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    (tmp_path / "zero").symlink_to("/dev/zero")
    return tmp_path


@pytest.mark.parametrize("read", [read_file, lambda path, _: open_regular(path)])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "expected a regular file, found a folder."),
        ("fifo", "expected a regular file, found a FIFO."),
        ("socket", "expected a regular file, found a socket."),
        ("zero", "expected a regular file, found a device."),
        ("circle", "its links form a circle."),
    ],
)
def test_anything_other_than_a_regular_file_is_refused(read, name, message, found):
    before = open_files()
    with pytest.raises(CorruptFileError) as caught:
        read(found / name, LIMIT)
    assert str(caught.value) == f"{found}/{name}: {message} Left as found."
    assert open_files() == before


def test_a_file_larger_than_the_limit_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(CorruptFileError) as caught:
        read_file(tmp_path / "f", LIMIT)
    assert str(caught.value) == f"{tmp_path}/f: larger than 100 bytes. Left as found."


def test_a_huge_file_is_refused_without_reading_it(tmp_path, monkeypatch):
    (tmp_path / "f").touch()
    os.truncate(tmp_path / "f", 10**10)  # sparse: takes no space
    reads = []
    monkeypatch.setattr(os, "read", lambda *arguments: reads.append(arguments))
    with pytest.raises(CorruptFileError) as caught:
        read_file(tmp_path / "f", 1 << 30)
    assert str(caught.value) == f"{tmp_path}/f: larger than 1,073,741,824 bytes. Left as found."
    assert reads == []


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """A file of 50 bytes that grows by 50 bytes with every read, up to 150 bytes; and the reads."""
    path = tmp_path / "growing"
    path.write_bytes(b"1" * 50)
    read, pieces = os.read, []

    def read_and_grow(descriptor, size):
        piece = read(descriptor, min(size, 50))
        pieces.append(piece)
        if len(pieces) < 3:
            with path.open("ab") as file:
                file.write(str(len(pieces) + 1).encode() * 50)
        return piece

    monkeypatch.setattr(os, "read", read_and_grow)
    return path, pieces


def test_a_file_that_grows_while_it_is_read_is_read_to_its_end(growing):
    path, _ = growing
    assert read_file(path, 150) == b"1" * 50 + b"2" * 50 + b"3" * 50


def test_a_file_that_grows_beyond_the_limit_is_refused_and_read_no_further(growing):
    path, pieces = growing
    with pytest.raises(CorruptFileError) as caught:
        read_file(path, 99)
    assert str(caught.value) == f"{path}: larger than 99 bytes. Left as found."
    assert [len(piece) for piece in pieces] == [50, 50]


def test_an_i_o_error_is_reported_with_the_name_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"data")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    before = open_files()
    with pytest.raises(OSError) as caught:
        read_file(tmp_path / "f", LIMIT)
    assert str(caught.value) == f"[Errno 5] Input/output error: '{tmp_path}/f'"
    assert open_files() == before


def test_a_name_that_is_too_long_is_an_i_o_error(tmp_path):
    with pytest.raises(OSError, match="File name too long"):
        read_file(tmp_path / ("a" * 300), LIMIT)


@pytest.mark.parametrize("start", [0, 5])
def test_data_of_which_a_part_is_not_stored_is_refused(start, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"x" * start)
    os.truncate(path, 1 << 43)
    with pytest.raises(CorruptFileError) as caught, FolderStore(tmp_path).open("data.jsonl"):
        pass
    hole = 0 if start == 0 else os.statvfs(tmp_path).f_bsize
    assert str(caught.value) == (
        f"{path}: a sparse file: no data is stored from byte {hole:,} on. Expected a file whose "
        "bytes are all stored. Left as found."
    )


def test_a_process_that_waits_for_the_reader_of_a_fifo_waits_on(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=[b"theirs"])
    writer.start()
    for _ in range(100):
        with pytest.raises(CorruptFileError, match="found a FIFO"):
            read_file(tmp_path / "fifo", 10)
    assert (tmp_path / "fifo").read_bytes() == b"theirs"  # no data without a waiting writer
    writer.join()
