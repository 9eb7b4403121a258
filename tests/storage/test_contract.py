"""The contract of `Store`, on every back end.

A new back end is one more entry in `STORES`, and one more line in `new_store`. `bucket` is on the
S3 server of the tests, or the one that the variable `TEST_BUCKET` names (`make e2e-cloud`).
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.digest import Digest
from src.errors import CorruptFileError
from src.storage import FileChangedError, FolderStore, StorePath, Update, folder, open_path
from src.storage.overlay import OverlayStore
from tests.conftest import BACK_ENDS as CORE_STORES
from tests.object_store.fixtures import use_server
from tests.stores import MemoryStore

LIMIT = 1 << 20
STORES = (*CORE_STORES, "bucket")
BACK_ENDS = (*STORES, "overlay")

each_back_end = pytest.mark.parametrize("back_end", BACK_ENDS)
# A request to a real server takes a thousand times as long as one to the memory.
each_fast_back_end = pytest.mark.parametrize("back_end", [*CORE_STORES, "overlay"])
each_operation = pytest.mark.parametrize("operation", ["create", "replace", "update"])
each_rewrite = pytest.mark.parametrize("operation", ["replace", "update"])


@pytest.fixture(scope="module", autouse=True)
def _server(request):
    if "TEST_BUCKET" in os.environ:
        yield
        return
    s3_server = request.getfixturevalue("s3_server")
    with pytest.MonkeyPatch.context() as patch:
        use_server(patch, s3_server.url)
        patch.setenv("TEST_BUCKET", s3_server.new_bucket().url)
        yield


def new_store(back_end, parent):
    """Return an empty store; the root of a local one is `<parent>/root`, which is not created."""
    if back_end == "folder":
        return FolderStore(parent / "root")
    if back_end == "overlay":
        return OverlayStore(FolderStore(parent / "root"))
    if back_end == "bucket":
        return open_path(f"{os.environ['TEST_BUCKET']}/{uuid4().hex}").store
    return MemoryStore(str(parent / "root"), back_end.removeprefix("memory, "))


@pytest.fixture(params=BACK_ENDS)
def store(request, tmp_path):
    """An empty store on each back end in turn."""
    return new_store(request.param, tmp_path)


@pytest.fixture
def path(store):
    """The path of one file, which does not exist yet."""
    return StorePath(store) / "a/f"


def write(operation, path, data):
    if operation == "update":
        path.update(lambda _: Update(None, [data]))
    else:
        getattr(path, operation)(data)


def keys(path):
    return [file.key for file in path.files()]


# --- Reading -------------------------------------------------------------------------------------


def test_an_absent_file_reads_as_none(store):
    assert store.read("a/f", LIMIT) is None
    assert store.stat("a/f") is None


def test_an_absent_file_does_not_open(path):
    with pytest.raises(FileNotFoundError) as caught, path.open():
        pass
    assert str(path) in str(caught.value)


def test_reading_creates_nothing(store, tmp_path):
    store.read("a/f", LIMIT)
    store.stat("a/f")
    store.memo("a/f")
    assert list(store.files("")) == []
    assert store.folders("") == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_exactly_the_limit_is_read(path):
    path.create(b"12345")
    assert path.read(5) == b"12345"


def test_a_file_larger_than_the_limit_is_refused(path):
    path.create(b"12345")
    with pytest.raises(CorruptFileError) as caught:
        path.read(4)
    assert str(caught.value) == f"{path}: larger than 4 bytes. Left as found."


@each_fast_back_end
def test_a_folder_in_place_of_a_file_is_refused(back_end, tmp_path):
    path = StorePath(new_store(back_end, tmp_path)) / "a/f"
    path.create(b"data")
    message = f"{path.parent}: expected a regular file, found a folder. Left as found."
    with pytest.raises(CorruptFileError) as caught:
        path.parent.read(LIMIT)
    assert str(caught.value) == message
    with pytest.raises(CorruptFileError) as caught, path.parent.open():
        pass
    assert str(caught.value) == message
    assert path.parent.stat() is None


def test_a_file_has_no_files_below_it(path):
    path.create(b"data")
    below = path / "below"
    with suppress(NotADirectoryError):  # a back end that has folders says what is in their place
        assert below.read(LIMIT) is None
    assert below.stat() is None
    assert list(path.files()) == []
    assert path.folders() == []
    with pytest.raises(FileNotFoundError), below.open():
        pass


# --- Open files ----------------------------------------------------------------------------------


def test_a_large_file_is_read_in_pieces(path):
    data = bytes(range(256)) * 20_000  # 5 MB
    path.create(data)
    buffer = bytearray(1 << 16)
    pieces = []
    with path.open() as file:
        assert file.stat.key == "a/f"
        assert file.stat.size == len(data)
        while read := file.readinto(memoryview(buffer)):
            pieces.append(bytes(buffer[:read]))
        assert file.readinto(memoryview(buffer)) == 0
    assert len(pieces) >= len(data) / len(buffer)
    assert b"".join(pieces) == data


def test_an_empty_file_opens(path):
    path.create(b"")
    with path.open() as file:
        assert file.stat.size == 0
        assert file.readinto(memoryview(bytearray(1))) == 0


@each_rewrite
@pytest.mark.parametrize("back_end", ["folder", "overlay"])
def test_a_file_that_is_written_to_while_it_is_open_is_reported(back_end, operation, tmp_path):
    path = StorePath(new_store(back_end, tmp_path)) / "a/f"
    path.create(b"old")
    time.sleep(0.02)  # longer than one tick of the clock of time stamps
    with pytest.raises(FileChangedError) as caught, path.open() as file:
        write(operation, path, b"new")
        file.readinto(memoryview(bytearray(3)))
    assert str(caught.value) == (
        f"{path}: written to while it was being read. Wait until the writer has finished, then "
        "run again."
    )


@each_rewrite
def test_a_reader_sees_one_version_of_a_file_or_raises(operation, path):
    path.create(b"old")
    time.sleep(0.02)  # longer than one tick of the clock of time stamps
    buffer = memoryview(bytearray(2))
    pieces = []
    with suppress(FileChangedError), path.open() as file:
        while read := file.readinto(buffer):
            pieces.append(bytes(buffer[:read]))
            if len(pieces) == 1:
                write(operation, path, b"new")
        pieces.append(b"end")
    assert pieces in ([b"ol", b"d", b"end"], [b"ol"])


def test_an_error_of_the_reader_is_not_hidden_by_a_change_of_the_file(path):
    path.create(b"old")
    with pytest.raises(KeyError, match="mine"), path.open():
        path.replace(b"new")
        raise KeyError("mine")


# --- Create and replace --------------------------------------------------------------------------


def test_create_never_replaces_and_returns_the_existing_bytes(path):
    assert path.create(b"first") == b"first"
    assert path.create(b"second") == b"first"
    assert path.create(b"first") == b"first"
    assert path.read(LIMIT) == b"first"


def test_replace_writes_the_file_whether_it_exists_or_not(path):
    for data in (b"first", b"2nd", b"2nd", b""):
        path.replace(data)
        assert path.read(LIMIT) == data


@each_operation
def test_a_written_file_is_the_only_file(operation, store, path):
    write(operation, path, b"data")
    assert keys(StorePath(store)) == ["a/f"]
    assert store.folders("") == ["a"]


@each_rewrite
def test_new_bytes_take_the_place_of_all_old_bytes(operation, path):
    path.create(b"old and longer")
    write(operation, path, b"new")
    assert path.read(LIMIT) == b"new"


# --- New folders ---------------------------------------------------------------------------------

each_with_folders = pytest.mark.parametrize("back_end", STORES)


@pytest.fixture
def root(request, back_end, tmp_path):
    """An empty root on a back end that takes files of any size."""
    return StorePath(new_store(back_end, tmp_path))


@each_with_folders
def test_a_new_folder_is_there_after_the_block_and_not_before(root):
    with (root / "a/new").new_folder() as folder:
        folder.write("one", [b"1", memoryview(b"2")])
        folder.write("two", [])
        assert keys(root) == []
        assert (root / "a/new/one").stat() is None
    assert {file.key: file.size for file in root.files()} == {"a/new/one": 2, "a/new/two": 0}


@each_with_folders
def test_a_block_that_raises_leaves_no_folder(root):
    with pytest.raises(KeyboardInterrupt), (root / "a/new").new_folder() as folder:
        folder.write("one", [b"1"])
        raise KeyboardInterrupt
    assert keys(root) == []
    assert (root / "a").folders() == []


@each_with_folders
def test_a_folder_that_exists_is_not_replaced_also_if_it_appears_in_the_block(root):
    with pytest.raises(FileExistsError) as caught, (root / "a/new").new_folder() as folder:
        folder.write("one", [b"1"])
        folder.write("two", [b"2"])
        (root / "a/new/one").create(b"mine")
    assert str(root / "a/new") in str(caught.value)
    assert keys(root) == ["a/new/one"]
    with pytest.raises(FileExistsError), (root / "a/new").new_folder() as folder:
        folder.write("one", [b"mine"])
    assert (root / "a/new/one").read(LIMIT) == b"mine"
    assert keys(root) == ["a/new/one"]


@pytest.mark.parametrize("existing", ["a/new/other", "a/new"])
def test_a_folder_is_not_added_to_a_folder_with_files_or_to_a_file(existing, tmp_path):
    root = StorePath(new_store("folder", tmp_path))
    with pytest.raises(FileExistsError) as caught, (root / "a/new").new_folder() as folder:
        folder.write("one", [b"1"])
        (root / existing).create(b"mine")
    assert str(root / "a/new") in str(caught.value)
    assert keys(root) == [existing]
    with pytest.raises(FileExistsError), (root / "a/new").new_folder():
        raise AssertionError
    assert (root / existing).read(LIMIT) == b"mine"


each_of_objects = pytest.mark.parametrize("back_end", [each for each in STORES if each != "folder"])


@each_of_objects
def test_a_folder_of_objects_is_completed_by_a_writer_of_the_same_bytes(root):
    (root / "a/new/two").create(b"2")
    with (root / "a/new").new_folder() as folder:
        folder.write("one", [b"1"])
        folder.write("two", [b"2"])
    assert (root / "a/new/one").read(LIMIT) == b"1"


@each_of_objects
def test_a_folder_of_objects_is_refused_if_one_of_them_has_other_bytes(root):
    (root / "a/new/two").create(b"mine")
    with pytest.raises(FileExistsError) as caught, (root / "a/new").new_folder() as folder:
        folder.write("one", [b"1"])
        folder.write("two", [b"2"])
    assert str(root / "a/new") in str(caught.value)
    assert (root / "a/new/one").stat() is None
    assert (root / "a/new/two").read(LIMIT) == b"mine"


# --- Places and local files ----------------------------------------------------------------------

ONE, TWO = Digest.of(b"1"), Digest.of(b"two")
# SHA-256 of the JSON of the sizes and the SHA-256 of both, by name; and of `{}`.
PLACE = "70ea839af9b92fccd72529bab9f4fd72db6580af34ec9888124802d3318b5352"
EMPTY_PLACE = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("back_end", ["folder", "overlay"])
def test_the_place_of_files_is_their_folder_where_locks_keep_other_writers_out(back_end, tmp_path):
    weights = StorePath(new_store(back_end, tmp_path)) / "models/m/weights"
    for files in ({}, {"one": ONE}, {"one": ONE, "sub/two": TWO}):
        assert weights.place(files) == weights


@each_of_objects
def test_the_place_of_files_is_named_by_their_contents_where_there_are_no_locks(root):
    weights = root / "models/m/weights"
    assert weights.place({"one": ONE, "sub/two": TWO}).key == f"models/m/weights/{PLACE}"
    assert weights.place({"sub/two": TWO, "one": ONE}).key == f"models/m/weights/{PLACE}"
    assert weights.place({}).key == f"models/m/weights/{EMPTY_PLACE}"


@each_with_folders
def test_other_contents_or_other_names_never_have_a_common_place_with_other_files(root, tmp_path):
    """Each is complete at its place after all were written."""
    all_files = [{"f": b"old"}, {"f": b"new"}, {"g": b"old"}, {"f": b"old", "g": b"old"}]
    for number, files in enumerate(all_files):
        source = tmp_path / f"source_{number}"
        source.mkdir()
        for name, data in files.items():
            (source / name).write_bytes(data)
        digests = {name: Digest.of(data) for name, data in files.items()}
        place = (root / "w").place(digests)
        place.put_files(source, digests)
        assert place.digests() == digests
        with place.local_files(digests) as folder:
            assert {name: (folder / name).read_bytes() for name in files} == files


@each_with_folders
def test_a_file_is_provided_as_a_local_file_with_an_absolute_path(root):
    (root / "a/f.jsonl").create(b"data")
    with (root / "a/f.jsonl").local_file(Digest.of(b"data")) as path:
        assert path.is_absolute()
        assert path.name == "f.jsonl"
        assert path.read_bytes() == b"data"
    assert (root / "a/f.jsonl").read(LIMIT) == b"data"


def test_an_overlay_provides_the_local_files_of_its_base(tmp_path):
    FolderStore(tmp_path / "root").create("a/f", b"data")
    path = StorePath(new_store("overlay", tmp_path)) / "a/f"
    with path.local_file(Digest.of(b"data")) as local:
        assert local.read_bytes() == b"data"


@each_with_folders
def test_a_file_that_does_not_exist_is_not_provided(root):
    with pytest.raises(FileNotFoundError) as caught, (root / "a/f").local_file(ONE):
        raise AssertionError
    assert str(root / "a/f") in str(caught.value)


@each_with_folders
def test_a_file_of_another_size_is_not_provided(root):
    (root / "a/f").create(b"longer")
    with pytest.raises(FileChangedError) as caught, (root / "a/f").local_file(ONE):
        raise AssertionError
    assert str(caught.value).startswith(f"{root / 'a/f'}: ")
    assert "written to after it was hashed" in str(caught.value)


@each_of_objects
def test_a_local_copy_of_a_file_is_not_changed_by_a_writer_of_the_file(root):
    (root / "a/f").create(b"old")
    with (root / "a/f").local_file(Digest.of(b"old")) as path:
        (root / "a/f").replace(b"new")
        assert path.read_bytes() == b"old"


@each_of_objects
def test_a_file_with_other_contents_is_not_copied(root):
    (root / "a/f").create(b"2")
    with pytest.raises(FileChangedError, match="written to after it was hashed"):
        (root / "a/f").local_file(ONE).__enter__()


# --- Update --------------------------------------------------------------------------------------


def test_update_passes_the_old_bytes_or_none(path):
    seen = []

    def decide(new):
        def decide(old):
            seen.append(old)
            return Update(None, [new])

        return decide

    path.update(decide(b"1"))
    assert set(seen) == {None}
    seen.clear()
    path.update(decide(b"2"))
    assert set(seen) == {b"1"}


def test_update_joins_the_pieces_of_the_new_bytes(path):
    path.update(lambda _: Update(None, [b"a", memoryview(b"bcd")[1:], b""]))
    assert path.read(LIMIT) == b"acd"


def test_update_returns_the_result_of_the_decision_that_was_applied(path):
    path.create(b"0")
    calls = []

    def decide(old):
        calls.append(old)
        return Update(len(calls), [b"%d" % len(calls)])

    result = path.update(decide)
    assert path.read(LIMIT) == b"%d" % result
    assert result == len(calls)


def test_update_calls_decide_again_if_another_writer_was_faster(tmp_path):
    path = StorePath(new_store("memory, lost races", tmp_path)) / "f"
    path.create(b"old")
    seen = []

    def decide(old):
        seen.append(old)
        return Update(None, [old + b"+"])

    path.update(decide)
    assert seen == [b"old", b"old"]
    assert path.read(LIMIT) == b"old+"


def test_an_update_without_data_leaves_the_file_unchanged(path):
    path.create(b"old")
    before = path.stat()
    assert path.update(lambda old: Update(old)) == b"old"
    assert path.read(LIMIT) == b"old"
    after = path.stat()
    assert (after.key, after.size) == (before.key, before.size)


def test_files_that_are_created_together_are_there_or_not_returned(store):
    store.create("a/f", b"old")
    files = {"a/f": b"new", "a/g": b"g", "b/f": b"f"}
    created = store.create_many(files)
    assert "a/f" not in created
    for key in files.keys() - created:  # a back end may leave them to `create`
        store.create(key, files[key])
    assert [store.read(key, LIMIT) for key in files] == [b"old", b"g", b"f"]


@pytest.mark.parametrize("back_end", STORES)
def test_no_file_of_a_folder_is_created_after_one_that_has_other_bytes(back_end, tmp_path):
    store = new_store(back_end, tmp_path)
    store.create("a/provenance.json", b"of another run")
    files = {"a/provenance.json": b"mine", "a/metadata.json": b"mine", "b/f": b"f"}
    assert not store.create_many(files) & {"a/provenance.json", "a/metadata.json"}
    assert store.stat("a/metadata.json") is None


def test_files_that_exist_with_the_same_bytes_count_as_created(store):
    store.create("a/f", b"data")
    assert store.create_many({"a/f": b"data"}) == {"a/f"}


def test_an_update_without_data_creates_no_file(store, path):
    assert path.update(lambda old: Update(old)) is None
    assert path.read(LIMIT) is None
    assert list(store.files("")) == []


def test_an_update_with_no_pieces_writes_an_empty_file(path):
    path.update(lambda _: Update(None, []))
    assert path.read(LIMIT) == b""


@pytest.mark.parametrize("old", [None, b"old"])
def test_an_exception_of_decide_changes_nothing(old, store, path):
    if old is not None:
        path.create(old)
    before = keys(StorePath(store))

    def decide(_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        path.update(decide)
    assert path.read(LIMIT) == old
    assert keys(StorePath(store)) == before


def test_an_exception_in_the_pieces_changes_nothing(store, path):
    path.create(b"old")

    def pieces():
        yield b"new"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        path.update(lambda _: Update(None, pieces()))
    assert path.read(LIMIT) == b"old"
    assert keys(StorePath(store)) == ["a/f"]


# --- Several writers -----------------------------------------------------------------------------


@pytest.fixture
def threads(store):
    """Four threads that use one store; the server of the store handles one write at a time."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_concurrent_updates_lose_nothing(path, threads):
    lines = [b"%d\n" % number for number in range(80)]

    def add(line):
        def decide(old):
            found = old or b""
            time.sleep(0)  # another thread runs here
            # After a lost answer the update is applied again.
            return Update(None, None if line in found.splitlines(keepends=True) else [found, line])

        path.update(decide)

    list(threads.map(add, lines))
    assert sorted(path.read(LIMIT).splitlines(keepends=True)) == sorted(lines)


def test_concurrent_creators_all_receive_the_bytes_of_one_of_them(store, threads):
    root = StorePath(store)
    data = [b"a" * 1000, b"b" * 1000, b"c" * 1000, b"d" * 1000]
    for number in range(20):
        path = root / f"f{number}"
        seen = set(threads.map(path.create, data))
        assert seen == {path.read(LIMIT)}
        assert seen <= set(data)


# --- Size and identity ---------------------------------------------------------------------------


def test_size_and_identity_change_with_the_bytes(path, monkeypatch):
    monkeypatch.setattr(folder, "RACY_NS", 0)
    path.create(b"old")
    time.sleep(0.02)  # longer than one tick of the clock of time stamps
    first, again = path.stat(), path.stat()
    assert (first.key, first.size) == ("a/f", 3)
    assert first == again
    assert first.identity is not None
    path.replace(b"new")
    time.sleep(0.02)
    second = path.stat()
    assert second.size == 3
    assert second.identity not in (None, first.identity)
    path.update(lambda _: Update(None, [b"longer"]))
    time.sleep(0.02)
    third = path.stat()
    assert third.size == 6
    assert third.identity not in (None, first.identity, second.identity)


@each_fast_back_end
def test_two_files_of_equal_bytes_have_different_identities(back_end, tmp_path, monkeypatch):
    store = new_store(back_end, tmp_path)
    monkeypatch.setattr(folder, "RACY_NS", 0)
    for key in ("f", "g"):
        store.create(key, b"data")
    time.sleep(0.02)
    assert len({store.stat(key).identity for key in ("f", "g")} - {None}) == 2


def test_stat_open_and_files_return_the_same_stat(path, monkeypatch):
    monkeypatch.setattr(folder, "RACY_NS", 0)
    path.create(b"data")
    time.sleep(0.02)
    with path.open() as file:
        assert file.stat == path.stat()
    [listed] = path.parent.files()
    assert listed in (file.stat, file.stat._replace(identity=None))


# --- Listing -------------------------------------------------------------------------------------


@pytest.fixture
def listed(store):
    """The root of a store with six files, in five folders."""
    for key in ("b", "a/x/2", "a/1", "ab/1", "a.b", "a/y z/é/3"):
        write("update", StorePath(store) / key, key.encode())
    return StorePath(store)


def test_files_are_listed_in_the_order_of_their_keys(listed):
    assert keys(listed) == ["a.b", "a/1", "a/x/2", "a/y z/é/3", "ab/1", "b"]
    assert [file.size for file in listed.files()] == [3, 3, 5, 10, 4, 1]


def test_files_are_listed_below_a_folder_only(listed):
    assert keys(listed / "a") == ["a/1", "a/x/2", "a/y z/é/3"]
    assert keys(listed / "a/x") == ["a/x/2"]
    assert keys(listed / "b") == []
    assert keys(listed / "none") == []


def test_folders_are_listed_by_name(listed):
    assert listed.folders() == ["a", "ab"]
    assert (listed / "a").folders() == ["x", "y z"]
    assert (listed / "ab").folders() == []
    assert (listed / "b").folders() == []
    assert (listed / "none").folders() == []


def test_many_files_and_folders_are_listed_in_order(store):
    names = [f"v{number:02}" for number in range(20)]
    for name in reversed(names):
        store.create(f"models/{name}/f", b"")
    assert store.folders("models") == names
    assert keys(StorePath(store)) == [f"models/{name}/f" for name in names]


# --- Memos ---------------------------------------------------------------------------------------


def test_a_memo_lies_in_the_users_cache_folder_and_not_below_the_root(
    store, path, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    memo = path.memo()
    assert memo.parent == tmp_path / "cache/llm-training-pipeline"
    assert not memo.is_relative_to(tmp_path / "root")


def test_two_files_have_different_memos(store):
    memos = [store.memo(key) for key in ("a/f", "a/g", "a/f")]
    assert memos[0] == memos[2] != memos[1]


@each_back_end
def test_two_stores_share_no_memo(back_end, tmp_path):
    (tmp_path / "other").mkdir()
    stores = [new_store(back_end, parent) for parent in (tmp_path, tmp_path / "other")]
    assert len({store.memo("f") for store in stores}) == 2


# --- Probe ---------------------------------------------------------------------------------------


def test_a_probe_leaves_no_file(store):
    store.probe()
    store.probe()
    assert list(store.files("")) == []


# --- Properties ----------------------------------------------------------------------------------


@each_fast_back_end
@each_operation
@given(data=st.binary(max_size=300))
def test_any_bytes_read_back_unchanged(back_end, operation, data, tmp_path_factory):
    path = StorePath(new_store(back_end, tmp_path_factory.mktemp("written"))) / "a/b/f"
    write(operation, path, data)
    assert path.read(LIMIT) == data
    assert path.stat().size == len(data)
    assert keys(path.parent.parent) == ["a/b/f"]


@each_fast_back_end
@each_rewrite
@given(old=st.binary(max_size=300), new=st.binary(max_size=300))
def test_a_rewritten_file_has_exactly_the_new_bytes(
    back_end, operation, old, new, tmp_path_factory
):
    path = StorePath(new_store(back_end, tmp_path_factory.mktemp("rewritten"))) / "f"
    write(operation, path, old)
    write(operation, path, new)
    assert path.read(LIMIT) == new


@each_fast_back_end
@given(old=st.binary(max_size=300), new=st.binary(max_size=300))
def test_create_returns_any_bytes_that_exist_and_leaves_them(back_end, old, new, tmp_path_factory):
    path = StorePath(new_store(back_end, tmp_path_factory.mktemp("created"))) / "f"
    assert path.create(old) == old
    assert path.create(new) == old
    assert path.read(LIMIT) == old


steps = st.lists(
    st.tuples(
        st.sampled_from(["create", "replace", "update", "keep"]),
        st.sampled_from(["a/f", "a/g", "b"]),
        st.binary(max_size=3),
    ),
    max_size=12,
)


@each_fast_back_end
@settings(max_examples=40)
@given(steps=steps)
def test_any_sequence_of_writes_gives_the_files_that_a_dictionary_would(
    back_end, steps, tmp_path_factory
):
    root = StorePath(new_store(back_end, tmp_path_factory.mktemp("model")))
    model: dict[str, bytes] = {}
    for operation, key, data in steps:
        path = root / key
        if operation == "create":
            assert path.create(data) == model.setdefault(key, data)
        elif operation == "replace":
            path.replace(data)
            model[key] = data
        elif operation == "update":
            model[key] = path.update(lambda old, d=data: Update((old or b"") + d, [old or b"", d]))
        else:
            assert path.update(lambda old: Update(old)) == model.get(key)
    assert {file.key: file.size for file in root.files()} == {
        key: len(data) for key, data in model.items()
    }
    assert {key: (root / key).read(LIMIT) for key in model} == model


# --- Paths ---------------------------------------------------------------------------------------


def test_a_path_is_extended_by_names():
    root = StorePath(MemoryStore("artifacts"))
    assert root.key == ""
    assert (root / "models" / "model_v1").key == "models/model_v1"
    assert root / "models/model_v1" == root / "models" / "model_v1"


def test_a_path_has_a_name_and_a_parent():
    root = StorePath(MemoryStore("artifacts"))
    path = root / "models/model_v1"
    assert path.name == "model_v1"
    assert path.parent == root / "models"
    assert path.parent.parent == root
    assert root.name == ""


@pytest.mark.parametrize(
    ("store", "key", "text"),
    [
        (MemoryStore("s3://bucket/artifacts"), "a/f", "s3://bucket/artifacts/a/f"),
        (MemoryStore("s3://bucket/artifacts"), "", "s3://bucket/artifacts"),
        (FolderStore(Path("artifacts")), "a/f", "artifacts/a/f"),
        (FolderStore(Path("artifacts")), "", "artifacts"),
        (FolderStore(Path("/root")), "a", "/root/a"),
        (FolderStore(Path("/")), "a", "/a"),
        (FolderStore(Path()), "a", "a"),
        (FolderStore(Path()), "", "."),
    ],
)
def test_a_path_is_shown_as_the_user_wrote_the_root(store, key, text):
    assert str(StorePath(store, key)) == text


def test_paths_are_equal_if_their_roots_and_keys_are_equal(tmp_path):
    one, same, other = (StorePath(FolderStore(tmp_path / name)) / "f" for name in "aab")
    assert one == same
    assert one != other
    assert len({one, same, other}) == 2
