import errno
import os
import pwd
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src.storage import FolderStore, StorePath, memo
from src.storage.memo import memo_path, read_memo, write_memo

FILE = Path("/data/f")
NAME = "66165ae52851905070a85140e229efee7817cfaed780421d538d97ff31f166fe"
OUTSIDE = Path("/data")


def open_files():
    return sorted(Path("/proc/self/fd").iterdir())


# --- The path ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """A user whose home folder is `<tmp_path>/home`, without a cache folder in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")


def test_a_memo_lies_in_the_cache_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = tmp_path / "cache/llm-training-pipeline" / NAME
    assert memo_path(FILE, outside=OUTSIDE) == expected


def test_a_memo_lies_in_the_home_folder_by_default(tmp_path):
    expected = tmp_path / "home/.cache/llm-training-pipeline" / NAME
    assert memo_path(FILE, outside=OUTSIDE) == expected


@pytest.mark.parametrize("cache", ["", "cache", "./cache", "~/cache"])
def test_a_relative_cache_folder_is_ignored(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    expected = tmp_path / "home/.cache/llm-training-pipeline" / NAME
    assert memo_path(FILE, outside=OUTSIDE) == expected


def test_without_home_the_home_folder_is_that_of_the_user_database(tmp_path, monkeypatch):
    monkeypatch.delenv("HOME")
    user = pwd.struct_passwd(("n", "x", 1, 1, "", str(tmp_path / "user"), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)
    expected = tmp_path / "user/.cache/llm-training-pipeline" / NAME
    assert memo_path(FILE, outside=OUTSIDE) == expected


def test_a_user_without_a_home_folder_has_no_memos(monkeypatch):
    def unknown(_):
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert memo_path(FILE, outside=OUTSIDE) is None


def test_a_user_with_a_relative_home_folder_has_no_memos(monkeypatch):
    monkeypatch.setenv("HOME", "home")
    assert memo_path(FILE, outside=OUTSIDE) is None


@pytest.mark.parametrize(
    "cache", ["artifacts", "artifacts/cache", "artifacts/../artifacts", "link"]
)
def test_there_are_no_memos_if_the_cache_folder_lies_inside_the_artifacts_root(
    cache, tmp_path, monkeypatch
):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "link").symlink_to("artifacts")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    assert memo_path(FILE, outside=tmp_path / "artifacts") is None


def test_a_cache_folder_that_is_a_circle_of_links_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "circle"))
    path = memo_path(FILE, outside=OUTSIDE)
    assert read_memo(path) is None
    write_memo(path, b"data")
    assert read_memo(path) is None


def test_two_files_have_two_memos():
    paths = [memo_path(Path(path), outside=OUTSIDE) for path in ("/data/f", "/data/g", "/dat/af")]
    assert len(set(paths)) == 3


def test_a_path_that_is_not_text_has_a_memo():
    assert memo_path(Path(os.fsdecode(b"/data/\xff")), outside=OUTSIDE).name == (
        "24f1bfeb618cca6a9a0544e7a2c7bb14568b2f0f93d3969e1ce3ae51439d3cd2"
    )


# --- Reading -------------------------------------------------------------------------------------

MEMO = b"3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7\ndata"


@pytest.fixture
def path(tmp_path):
    """A memo with the contents `data`."""
    path = tmp_path / "memos/memo"
    write_memo(path, b"data")
    return path


def test_a_memo_reads_back_unchanged(path):
    assert read_memo(path) == b"data"
    write_memo(path, b"a\nb\n")
    assert read_memo(path) == b"a\nb\n"
    write_memo(path, b"")
    assert read_memo(path) == b""


def test_a_memo_starts_with_the_checksum_of_the_rest(path):
    assert path.read_bytes() == MEMO


def test_a_memo_is_a_file_that_only_this_user_can_read(path):
    assert list(path.parent.iterdir()) == [path]
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)]
    assert modes == [0o600, 0o700]


def test_an_absent_memo_reads_as_none(tmp_path):
    assert read_memo(tmp_path / "none") is None
    assert read_memo(tmp_path / "none/none") is None
    assert read_memo(None) is None


@pytest.mark.parametrize(
    "data", [b"", b"data", MEMO[:-1], MEMO + b"\n", MEMO.replace(b"data", b"DATA")]
)
def test_a_memo_with_a_wrong_checksum_is_not_used(data, path):
    path.write_bytes(data)
    assert read_memo(path) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o660, 0o666])
def test_a_memo_that_others_can_write_is_not_used(mode, path):
    path.chmod(mode)
    assert read_memo(path) is None


def test_a_memo_that_others_can_only_read_is_used(path):
    path.chmod(0o644)
    assert read_memo(path) == b"data"


def test_a_memo_of_another_user_is_not_used(path, monkeypatch):
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert read_memo(path) is None


def test_a_link_in_place_of_a_memo_is_not_used(path):
    path.rename(path.with_name("real"))
    path.symlink_to("real")
    assert read_memo(path) is None


def test_a_fifo_in_place_of_a_memo_is_not_used(path):
    path.unlink()
    os.mkfifo(path, 0o600)
    before = open_files()
    assert read_memo(path) is None
    assert open_files() == before


def test_a_folder_in_place_of_a_memo_is_not_used(path):
    path.unlink()
    path.mkdir()
    assert read_memo(path) is None


def test_a_memo_that_is_too_large_is_not_used(path):
    write_memo(path, b"x" * 5000)
    assert path.stat().st_size == 5065
    assert read_memo(path) is None


# --- Writing -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _first_warning():
    """Forget the warnings of earlier tests."""
    memo._warn_once.cache_clear()


def test_without_a_path_nothing_is_written(warnings):
    write_memo(None, b"data")
    assert warnings == []


def test_a_memo_that_cannot_be_written_is_one_warning_and_no_error(tmp_path, warnings):
    (tmp_path / "memos").touch()  # a file in place of the folder
    for name in ("one", "two", "one"):
        write_memo(tmp_path / "memos" / name, b"data")
    assert warnings == [
        (
            "WARNING",
            f"{tmp_path}/memos: memos cannot be written: Not a directory. Continuing without them.",
        )
    ]


def test_memos_on_a_full_disk_are_one_warning_and_no_error(path, monkeypatch, warnings):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for name in ("memo", "other"):
        write_memo(path.with_name(name), b"new")
    assert warnings == [
        (
            "WARNING",
            f"{path.parent}: memos cannot be written: No space left on device. "
            "Continuing without them.",
        )
    ]
    monkeypatch.undo()
    assert read_memo(path) == b"data"


def test_memos_in_a_folder_that_cannot_be_written_to_are_one_warning(path, monkeypatch, warnings):
    opened = os.open

    def refuse(path, flags, *mode):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    for name in ("memo", "other"):
        write_memo(path.with_name(name), b"new")
    assert warnings == [
        (
            "WARNING",
            f"{path.parent}: memos cannot be written: Permission denied. Continuing without them.",
        )
    ]
    assert read_memo(path) == b"data"


def test_a_shorter_memo_replaces_all_of_a_longer_one(path):
    write_memo(path, b"x" * 1000)
    write_memo(path, b"new")
    assert read_memo(path) == b"new"
    assert path.stat().st_size == 68
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to], ids=["link", "hard link"])
def test_a_memo_that_is_a_link_to_another_file_is_not_written(link, path, tmp_path, warnings):
    (tmp_path / "theirs").write_bytes(b"theirs")
    path.unlink()
    link(path, tmp_path / "theirs")
    write_memo(path, b"new")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert read_memo(path) is None
    assert [level for level, _ in warnings] == ["WARNING"]


def test_concurrent_writers_of_one_memo_never_leave_a_mixture(path, warnings):
    values = [b"a" * 3000, b"b" * 10, b"c" * 2000, b"d" * 1000]

    def write_and_read(value):
        write_memo(path, value)
        return read_memo(path)

    with ThreadPoolExecutor(4) as pool:
        seen = set(pool.map(write_and_read, values * 100))
    assert seen <= {None, *values}
    assert seen & set(values)
    assert warnings == []


# --- Use -----------------------------------------------------------------------------------------


def test_memos_written_by_one_store_are_read_by_another(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("root")
    one, other = (StorePath(FolderStore(tmp_path / name)) / "f" for name in ("root", "link"))
    write_memo(one.memo(), b"data")
    assert read_memo(other.memo()) == b"data"
