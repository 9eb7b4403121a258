"""Files that are written together: as whole and durable as one by one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from src.storage import FolderStore, together
from src.storage.entry import Entry
from tests.flows.runs import ROOT

FILES = {"m/v1/metadata.json": b"one", "m/v1/provenance.json": b"two", "m/v2/metadata.json": b"3"}


@pytest.fixture
def store(tmp_path):
    """A store in a folder that does not exist yet."""
    return FolderStore(tmp_path / "root")


def contents(store):
    return {file.key: store.read(file.key, 100) for file in store.files("")}


def names(folder):
    """Return every name below a folder, also of temporary and lock files."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_have_the_bytes_and_the_modes_of_files_that_were_created_one_by_one(store, tmp_path):
    assert store.create_many(FILES) == set(FILES)
    one_by_one = FolderStore(tmp_path / "others")
    for key, data in FILES.items():
        one_by_one.create(key, data)
    assert contents(store) == contents(one_by_one) == FILES
    modes = [
        [stat.S_IMODE((each.root / key).stat().st_mode) for key in FILES]
        for each in (store, one_by_one)
    ]
    assert modes[0] == modes[1]
    assert names(store.root) == sorted(FILES)


def test_every_file_and_every_folder_with_a_new_name_is_synced(store, monkeypatch):
    synced, fsync = [], os.fsync

    def recording(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    store.create_many(FILES)
    files = [path for path in synced if "#" in path]  # without a name
    folders = [path for path in synced if "#" not in path]
    root = str(store.root)
    assert len(files) == 3
    assert sorted(folders) == [
        str(store.root.parent),
        root,
        f"{root}/m",
        f"{root}/m/v1",
        f"{root}/m/v2",
    ]
    assert max(map(synced.index, files)) < synced.index(f"{root}/m/v1")  # names after the data


def test_no_file_has_a_name_before_all_data_is_synced(store, monkeypatch):
    seen, fsync = [], os.fsync

    def recording(descriptor):
        fsync(descriptor)
        seen.append(names(store.root))

    monkeypatch.setattr(os, "fsync", recording)
    store.create_many(FILES)
    assert [each for each in seen if each not in ([], sorted(FILES))] == []


def test_an_existing_file_with_other_bytes_is_left_as_it_is_and_not_returned(store):
    store.create("m/v1/metadata.json", b"one")
    store.create("m/v2/metadata.json", b"other")
    assert store.create_many(FILES) == {"m/v1/metadata.json", "m/v1/provenance.json"}
    assert contents(store) == {**FILES, "m/v2/metadata.json": b"other"}


def test_a_name_with_an_unfinished_file_is_left_to_create_which_takes_the_file_over(store):
    folder = store.root / "m/v1"
    folder.mkdir(parents=True)
    (folder / ".metadata.json.tmp").write_bytes(b"on")
    assert store.create_many(FILES) == {"m/v2/metadata.json"}
    assert store.create("m/v1/metadata.json", b"one") == b"one"
    assert store.create_many(FILES) == set(FILES)
    assert names(store.root) == sorted(FILES)


@pytest.mark.parametrize("data", [b"one", b"other"])
def test_a_file_that_appears_while_create_writes_it_is_what_create_returns(
    store, monkeypatch, data
):
    link = Entry.link

    def late(temporary, target):
        monkeypatch.setattr(Entry, "link", link)
        store.root.joinpath("f").write_bytes(data)
        link(temporary, target)

    monkeypatch.setattr(Entry, "link", late)
    assert store.create("f", b"one") == data
    assert names(store.root) == ["f"]


def test_a_link_on_the_way_is_not_followed(store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (store.root / "m").mkdir(parents=True)
    (store.root / "m/v1").symlink_to(tmp_path / "elsewhere")
    (store.root / "m/v2").mkdir()
    (store.root / "m/v2/metadata.json").symlink_to(tmp_path / "target")
    assert store.create_many(FILES) == set()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("call", ["fsync", "link", "mkdir"])
def test_what_cannot_be_written_is_not_returned(store, monkeypatch, call):
    def failing(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, failing)
    assert store.create_many(FILES) == set()


@pytest.mark.parametrize("files", [1, 128])
@pytest.mark.parametrize("call", ["_write", "_sync", "_link"])
def test_no_file_gets_a_name_if_one_before_it_in_its_folder_got_none(
    store, monkeypatch, call, files
):
    done = getattr(together, call)

    def failing(file, *arguments):
        if (file if call == "_write" else file.entry).path.name == "provenance.json":
            raise OSError(28, "No space left on device")
        return done(file, *arguments)

    monkeypatch.setattr(together, call, failing)
    monkeypatch.setattr(together, "MAX_OPEN_FILES", files)
    wanted = ["m/v1/metadata.json", "m/v1/provenance.json", "m/v1/weights", "m/v2/metadata.json"]
    written = {"m/v1/metadata.json", "m/v2/metadata.json"}
    assert store.create_many(dict.fromkeys(wanted, b"data")) == written
    assert set(contents(store)) == written


def test_a_file_system_without_unnamed_files_leaves_all_files_to_create(store, monkeypatch):
    monkeypatch.setattr(together, "_UNNAMED", 0)
    assert store.create_many(FILES) == set()
    assert contents(store) == {}


def test_many_files_need_few_descriptors_at_a_time(store, monkeypatch):
    monkeypatch.setattr(together, "MAX_OPEN_FILES", 2)
    opened, write = [], together._write

    def recording(*arguments):
        opened.append(len([*Path("/proc/self/fd").iterdir()]))
        return write(*arguments)

    monkeypatch.setattr(together, "_write", recording)
    files = {f"m/v{n}/metadata.json": b"data" for n in range(20)}
    assert store.create_many(files) == set(files)
    assert max(opened) - min(opened) <= 2


KILLED = """
import os, signal, sys
from pathlib import Path
from src.storage import FolderStore

FILES = {f"m/v{n}/f{k}": b"data" * 1000 for n in range(2) for k in range(2)}

def create_and_die(root, number):
    calls = 0
    def counted(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    for name in ("open", "mkdir", "fsync", "link", "close"):
        setattr(os, name, counted(getattr(os, name)))
    assert FolderStore(root).create_many(FILES) == set(FILES)
    os._exit(0)

for number in range(1, 200):
    root = Path(sys.argv[1], str(number))
    if (child := os.fork()) == 0:
        create_and_die(root, number)
    _, status = os.waitpid(child, 0)
    left = {str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*") if path.is_file()}
    assert left.items() <= FILES.items(), (number, left)
    if status == 0:
        assert left == FILES
        print(number)
        break
    assert status == signal.SIGKILL
    assert FolderStore(root).create_many(FILES) == set(FILES)
"""


def test_a_process_that_is_killed_before_any_call_leaves_whole_files_and_nothing_else(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30  # calls
