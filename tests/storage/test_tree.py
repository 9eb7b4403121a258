"""Folders of files as one value, on every back end: hashing, copying, and reading them locally."""

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from src.digest import Digest
from src.errors import CorruptFileError
from src.storage import FileChangedError, FolderStore, folder, tree
from tests.stores import MemoryStore

FILES = {"a/b/c.bin": b"three", "config.json": b"{}", "empty": b""}


@pytest.fixture
def source(tmp_path):
    """A local folder with `FILES`."""
    folder = tmp_path / "source"
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    return FolderStore(tmp_path / "root") if request.param == "folder" else MemoryStore()


@pytest.fixture
def folder_store(tmp_path):
    (tmp_path / "root").mkdir()
    return FolderStore(tmp_path / "root")


def digests(files):
    return {name: Digest(len(data), sha256(data).hexdigest()) for name, data in files.items()}


def test_a_folder_that_does_not_exist_has_no_files(store):
    assert store.digests("models/x/weights") == {}


def test_files_are_copied_with_their_folders(store, source):
    place = store.place("models/x/weights", digests(FILES))
    store.put_files(place, source, digests(FILES))
    assert store.digests(place) == digests(FILES)
    with store.local_files(place, digests(FILES)) as folder:
        assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_files_that_are_not_named_are_neither_copied_nor_kept(store, source):
    store.put_files(store.place("w", digests(FILES)), source, digests(FILES))
    one = {"config.json": digests(FILES)["config.json"]}
    store.put_files(store.place("w", one), source, one)
    assert store.digests(store.place("w", one)) == one


def test_a_file_with_other_contents_than_it_was_hashed_with_is_not_copied(store, source):
    expected = digests(FILES)
    (source / "config.json").write_bytes(b"[]")
    with pytest.raises(FileChangedError, match="written to after it was hashed"):
        store.put_files("w", source, expected)
    assert "config.json" not in store.digests("w")


def test_a_copy_that_fails_keeps_no_file_open_while_its_error_exists(
    folder_store, source, monkeypatch
):
    def full(_, pieces):
        next(iter(pieces))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder._LockedFile, "write", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        folder_store.put_files("w", source, digests(FILES))
    opened = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
    assert [path for path in opened if path.startswith(str(source))] == []
    assert caught.value.filename == str(folder_store.root / "w/a/b/c.bin")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({**FILES, "config.json": b"[]"}, "config.json: expected sha256"),
        ({**FILES, "more": b"1"}, "more: no such file"),
        ({"a/b/c.bin": b"three", "empty": b""}, "config.json: not a file of the model"),
    ],
    ids=["altered", "missing", "added"],
)
def test_local_files_are_exactly_those_that_are_named(expected, message, store, source):
    store.put_files("w", source, digests(FILES))
    with pytest.raises(CorruptFileError, match=message), store.local_files("w", digests(expected)):
        pass


def test_a_local_file_that_is_written_to_meanwhile_is_an_error(folder_store, source):
    folder_store.put_files("w", source, digests(FILES))
    with (
        pytest.raises(FileChangedError, match=r"config\.json"),
        folder_store.local_files("w", digests(FILES)) as folder,
    ):
        (folder / "config.json").write_bytes(b"[]")


def link(path):
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (link, "a link"),
        (os.mkfifo, "a FIFO"),
        (lambda path: path.symlink_to("/etc", target_is_directory=True), "a link"),
    ],
    ids=["link", "FIFO", "link to a folder"],
)
def test_only_regular_files_and_folders_are_hashed(make, found, folder_store):
    folder = folder_store.root / "w"
    folder.mkdir()
    make(folder / "x")
    with pytest.raises(CorruptFileError, match=f"expected a regular file, found {found}"):
        folder_store.digests("w")


def test_a_folder_that_is_a_link_is_refused(folder_store, source):
    (folder_store.root / "w").symlink_to(source)
    with pytest.raises(CorruptFileError, match="found a link"):
        folder_store.digests("w")


def test_names_that_could_be_read_as_something_else_are_refused(folder_store):
    folder = folder_store.root / "w"
    folder.mkdir()
    (folder / "a\nb").touch()
    with pytest.raises(CorruptFileError, match="printable characters"):
        folder_store.digests("w")


def test_the_number_of_files_is_bounded(folder_store, monkeypatch):
    monkeypatch.setattr(tree, "MAX_FILES", 2)
    folder = folder_store.root / "w"
    folder.mkdir()
    for name in "abc":
        (folder / name).touch()
    with pytest.raises(CorruptFileError, match="more than 2 files"):
        folder_store.digests("w")


def test_the_progress_of_hashing_adds_up_to_the_size_of_the_files(store, source, monkeypatch):
    monkeypatch.setattr(tree, "PIECE_BYTES", 3)
    store.put_files("w", source, digests(FILES))
    sizes = []
    assert store.digests("w", progress=sizes.append) == digests(FILES)
    assert sum(sizes) == sum(map(len, FILES.values()))


def test_with_memos_an_unchanged_file_is_read_once(folder_store, source, monkeypatch):
    monkeypatch.setattr("src.storage.folder.RACY_NS", 0)
    folder_store.put_files("w", source, digests(FILES))
    read = []
    hash_file = tree.hash_file

    def counting(root, key, progress):
        read.append(key)
        return hash_file(root, key, progress)

    monkeypatch.setattr("src.storage.folder.hash_file", counting)
    assert folder_store.digests("w", use_memos=True) == digests(FILES)
    assert folder_store.digests("w", use_memos=True) == digests(FILES)
    assert len(read) == len(FILES)
    (folder_store.root / "w/config.json").write_bytes(b"[]")
    assert folder_store.digests("w", use_memos=True)["config.json"] == digests({"x": b"[]"})["x"]


def test_a_local_folder_exists(store):
    assert store.local_folder(".work").is_dir()
    assert isinstance(store.local_folder(".work"), Path)
