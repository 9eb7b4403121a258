import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from src.digest import Digest
from src.errors import CorruptFileError
from src.storage.file_cache import FileCache
from tests.checkout import ROOT

FILES = {"config.json": b"{}", "deep/er/model.bin": b"weights" * 1000}
DIGESTS = {name: Digest.of(data) for name, data in FILES.items()}


class Source:
    """Where files are fetched from; counts what was."""

    def __init__(self, files=FILES):
        self.files, self.fetched = files, []

    def __call__(self, name):
        self.fetched.append(name)
        yield self.files[name][:3]
        yield self.files[name][3:]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def contents(folder):
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def copies(folder):
    return {path.name: path for path in folder.iterdir() if len(path.name) == 64}


def test_files_are_fetched_once_and_provided_as_a_folder(folder):
    source = Source()
    for _ in range(2):
        with FileCache(folder).provide(DIGESTS, source) as local:
            assert contents(local) == FILES
        assert not local.exists()
    assert source.fetched == ["config.json", "deep/er/model.bin"]
    assert copies(folder).keys() == {digest.sha256 for digest in DIGESTS.values()}


def test_a_copy_that_was_altered_is_fetched_again(folder):
    with FileCache(folder).provide(DIGESTS, Source()):
        pass
    path = copies(folder)[DIGESTS["config.json"].sha256]
    path.chmod(0o600)
    path.write_bytes(b"[]")
    source = Source()
    with FileCache(folder).provide(DIGESTS, source) as local:
        assert contents(local) == FILES
    assert source.fetched == ["config.json"]


def test_a_copy_that_is_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    folder.mkdir()
    (folder / DIGESTS["config.json"].sha256).symlink_to(tmp_path / "secret")
    with FileCache(folder).provide(DIGESTS, Source()) as local:
        assert (local / "config.json").read_bytes() == b"{}"
    assert (tmp_path / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("data", [b"[]", b"{", b"{} ", b"x" * 1_000_000])
def test_other_bytes_than_expected_are_refused_and_not_kept(data, folder):
    source = Source({"config.json": data})
    with (
        pytest.raises(CorruptFileError, match=r"config\.json: expected sha256 44136fa3"),
        FileCache(folder).provide(DIGESTS, source),
    ):
        raise AssertionError
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ".", "a//b", ""])
def test_no_name_leads_out_of_the_folder(name, folder, tmp_path):
    with (
        pytest.raises(CorruptFileError, match="not a path below a folder"),
        FileCache(folder).provide({name: Digest.of(b"")}, lambda _: [b""]),
    ):
        raise AssertionError
    assert list(tmp_path.rglob("x")) == []


def test_the_copies_that_were_not_used_for_the_longest_time_are_deleted(folder, monkeypatch):
    monkeypatch.setenv("LLM_TRAIN_CACHE_GB", "0.0000025")  # 2,500 bytes
    data = {f"{number}": bytes([number]) * 1000 for number in range(4)}
    for number, name in enumerate(["0", "1", "0", "2", "3"]):
        digest = Digest.of(data[name])
        with FileCache(folder).provide({name: digest}, lambda name: [data[name]]):
            os.utime(copies(folder)[digest.sha256], (number, number))
    assert copies(folder).keys() == {Digest.of(data[name]).sha256 for name in ("2", "3")}


def test_files_in_use_stay_although_they_are_larger_than_the_limit(folder, monkeypatch):
    monkeypatch.setenv("LLM_TRAIN_CACHE_GB", "0")
    cache, source = FileCache(folder), Source()
    with cache.provide(DIGESTS, source) as one, cache.provide({}, source):
        assert contents(one) == FILES


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf", "1e30"])
def test_a_limit_that_is_no_number_is_refused(value, folder, monkeypatch):
    monkeypatch.setenv("LLM_TRAIN_CACHE_GB", value)
    with (
        pytest.raises(ValueError, match="LLM_TRAIN_CACHE_GB: expected a number of gigabytes"),
        FileCache(folder).provide({}, Source()),
    ):
        raise AssertionError


def test_threads_that_use_the_same_files_all_get_them(folder):
    def use(_):
        with FileCache(folder).provide(DIGESTS, Source()) as local:
            return contents(local)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(40))) == [FILES] * 40
    assert sorted(path.name for path in folder.iterdir()) == sorted(copies(folder))


def test_the_files_of_a_process_that_was_killed_are_deleted_by_the_next_one(folder):
    code = (
        "import sys, time; from pathlib import Path; from src.digest import Digest;"
        "from src.storage.file_cache import FileCache\n"
        "with FileCache(Path(sys.argv[1])).provide({'f': Digest.of(b'1')}, lambda _: [b'1']):\n"
        "    print('ready', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    with FileCache(folder).provide({}, Source()):
        assert len(list(folder.glob("use-*/f"))) == 1  # it is in use
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with FileCache(folder).provide({}, Source()):
        pass
    assert [path.name for path in folder.iterdir()] == [Digest.of(b"1").sha256]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_copy_that_is_no_regular_file_is_fetched_again(make, folder):
    folder.mkdir()
    make(folder / DIGESTS["config.json"].sha256)
    with FileCache(folder).provide(DIGESTS, Source()) as local:
        assert contents(local) == FILES


def test_a_link_to_the_same_bytes_is_not_provided_as_a_copy(folder, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"{}")
    folder.mkdir()
    (folder / DIGESTS["config.json"].sha256).symlink_to(tmp_path / "elsewhere")
    with FileCache(folder).provide(DIGESTS, Source()) as local:
        assert not (local / "config.json").is_symlink()
