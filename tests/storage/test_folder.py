"""The folder back end: modes, temporary files, locks, links, crashes, and a disk that refuses.

tests/storage/test_contract.py tests what `FolderStore` has in common with other back ends.
"""

import errno
import fcntl
import os
import socket
import stat
import sys
import time
from pathlib import Path

import pytest
from filelock import lock_descriptor
from hypothesis import given
from hypothesis import strategies as st

from src.digest import Digest
from src.errors import CorruptFileError
from src.storage import FileChangedError, FolderStore, StorePath, Update, folder
from src.storage.locking import lock

LIMIT = 1 << 20

each_operation = pytest.mark.parametrize("operation", ["create", "replace", "update"])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
each_rewrite = pytest.mark.parametrize("operation", ["replace", "update"])


@pytest.fixture
def store(tmp_path):
    """A store whose root is the temporary folder."""
    return FolderStore(tmp_path)


def write(operation, store, key, data):
    if operation == "update":
        store.update(key, lambda _: Update(None, [data]))
    else:
        getattr(store, operation)(key, data)


def write_state(path):
    """Return the status of a file without its access time, which reading changes."""
    status = path.stat()
    return status.st_ino, status.st_nlink, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- Written files -------------------------------------------------------------------------------


@each_operation
@given(data=st.binary(max_size=300))
def test_a_write_creates_its_folders_and_leaves_no_other_file(operation, data, tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    write(operation, FolderStore(root), "a/b/f", data)
    assert (root / "a/b/f").read_bytes() == data
    assert set(names_in(root / "a/b")) - {"f.lock"} == {"f"}


@each_rewrite
@given(old=st.binary(max_size=300), new=st.binary(max_size=300))
def test_a_rewrite_leaves_no_old_bytes(operation, old, new, tmp_path_factory):
    root = tmp_path_factory.mktemp("rewritten")
    write(operation, FolderStore(root), "f", old)
    write(operation, FolderStore(root), "f", new)
    assert (root / "f").read_bytes() == new


@given(old=st.binary(max_size=300), new=st.binary(max_size=300))
def test_create_leaves_an_existing_file_unchanged(old, new, tmp_path_factory):
    root = tmp_path_factory.mktemp("created")
    assert FolderStore(root).create("f", old) == old
    before = write_state(root / "f")
    assert FolderStore(root).create("f", new) == old
    assert (root / "f").read_bytes() == old
    assert write_state(root / "f") == before


def test_the_root_is_created_by_the_first_write(tmp_path):
    store = FolderStore(tmp_path / "new/root")
    assert names_in(tmp_path) == []
    store.create("f", b"data")
    assert (tmp_path / "new/root/f").read_bytes() == b"data"


def test_an_update_without_data_does_not_write(store, tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    before = write_state(tmp_path / "f")
    store.update("f", lambda _: Update(None))
    assert write_state(tmp_path / "f") == before


def test_an_update_without_data_creates_only_the_lock_file(store, tmp_path):
    store.update("f", lambda _: Update(None))
    assert names_in(tmp_path) == ["f.lock"]


def test_an_update_that_raises_leaves_only_the_lock_file(store, tmp_path):
    (tmp_path / "f").write_bytes(b"old")

    def decide(_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        store.update("f", decide)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names_in(tmp_path) == ["f", "f.lock"]


def test_replacing_a_file_by_the_same_bytes_does_not_write(store, tmp_path):
    store.replace("f", b"same")
    before = write_state(tmp_path / "f")
    store.replace("f", b"same")
    assert write_state(tmp_path / "f") == before


@each_operation
def test_a_written_file_has_the_mode_that_open_would_give_it(operation, store, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write(operation, store, "f", b"data")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("f", "plain")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    ("folder_mode", "lock_mode"),
    [(0o755, 0o600), (0o700, 0o600), (0o775, 0o660), (0o777, 0o666), (0o707, 0o666)],
)
def test_exactly_those_who_can_write_to_the_folder_may_open_a_lock_file(
    folder_mode, lock_mode, store, tmp_path
):
    tmp_path.chmod(folder_mode)
    umask = os.umask(0o077)
    try:
        store.update("f", lambda _: Update(None, [b"data"]))
    finally:
        os.umask(umask)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names_in(tmp_path)}
    assert modes == {"f": 0o600, "f.lock": lock_mode}


@as_root
@each_operation
def test_what_root_writes_to_the_folder_of_a_user_belongs_to_that_user(operation, store, tmp_path):
    os.chown(tmp_path, 12345, 12345)
    write(operation, store, "f", b"data")
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {12345}


def test_a_file_that_can_have_no_group_of_its_folder_is_open_to_no_group(
    store, tmp_path, monkeypatch
):
    def refuse(*_):
        raise PermissionError

    tmp_path.chmod(0o775)
    monkeypatch.setattr(os, "fchown", refuse)
    store.update("f", lambda _: Update(None))
    assert stat.S_IMODE((tmp_path / "f.lock").stat().st_mode) == 0o600


@as_root
def test_a_lock_file_has_the_group_of_a_folder_that_its_group_can_write_to(store, tmp_path):
    tmp_path.chmod(0o770)
    os.chown(tmp_path, -1, 12345)
    store.update("f", lambda _: Update(None, [b"data"]))
    assert (tmp_path / "f.lock").stat().st_gid == 12345


def test_lock_files_and_temporary_files_are_not_listed(store, tmp_path):
    write("update", store, "a/f", b"data")
    (tmp_path / "a/.g.tmp").write_bytes(b"half")
    assert names_in(tmp_path / "a") == [".g.tmp", "f", "f.lock"]
    assert [file.key for file in store.files("")] == ["a/f"]


def test_only_regular_files_are_listed(store, tmp_path):
    (tmp_path / "f").write_bytes(b"data")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("none")
    assert [file.key for file in store.files("")] == ["f"]


def test_a_store_in_the_working_directory_lists_the_same_keys(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FolderStore(Path()).create("a/f", b"data")
    assert list(FolderStore(Path()).files("")) == list(store.files(""))
    assert [file.key for file in store.files("")] == ["a/f"]


# --- Identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_dated_back", [False, True])
def test_a_file_has_no_identity_until_two_seconds_after_its_last_change(
    is_dated_back, store, tmp_path, monkeypatch
):
    (tmp_path / "f").write_bytes(b"data")
    if is_dated_back:
        os.utime(tmp_path / "f", ns=(0, 0))
    changed = (tmp_path / "f").stat().st_ctime_ns

    def identity(nanoseconds):
        monkeypatch.setattr(time, "time_ns", lambda: changed + nanoseconds)
        return store.stat("f").identity

    assert identity(0) is None
    assert identity(2 * 10**9) is None
    assert identity(2 * 10**9 + 1) is not None


def test_a_file_with_a_time_stamp_in_the_future_has_no_identity(store, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "RACY_NS", 0)
    (tmp_path / "f").write_bytes(b"data")
    os.utime(tmp_path / "f", (time.time() + 3600,) * 2)
    assert store.stat("f").identity is None


def test_an_edit_that_restores_size_and_modification_time_changes_the_identity(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(folder, "RACY_NS", 0)
    (tmp_path / "f").write_bytes(b"old")
    time.sleep(0.02)  # longer than one tick of the clock of time stamps
    status = (tmp_path / "f").stat()
    before = store.stat("f").identity
    (tmp_path / "f").write_bytes(b"new")
    os.utime(tmp_path / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
    time.sleep(0.02)
    assert (tmp_path / "f").stat().st_mtime_ns == status.st_mtime_ns
    assert store.stat("f").identity not in (None, before)


@pytest.mark.parametrize("data", [b"more", b"new"], ids=["longer", "same size"])
def test_a_file_that_is_changed_in_place_while_it_is_open_is_reported(data, store, tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    time.sleep(0.02)  # longer than one tick of the clock of time stamps
    with pytest.raises(FileChangedError) as caught, store.open("f"):
        (tmp_path / "f").write_bytes(data)
    assert str(caught.value) == (
        f"{tmp_path}/f: written to while it was being read. Wait until the writer has finished, "
        "then run again."
    )


def test_an_i_o_error_while_a_file_is_open_is_reported_with_the_name_of_the_file(store, tmp_path):
    (tmp_path / "f").write_bytes(b"data")
    with pytest.raises(OSError) as caught, store.open("f"):
        raise OSError(errno.EIO, "Input/output error")
    assert str(caught.value) == f"[Errno 5] Input/output error: '{tmp_path}/f'"


# --- A disk that refuses -------------------------------------------------------------------------


@each_operation
def test_a_full_disk_is_reported_with_the_name_of_the_file(operation, store, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write(operation, store, "f", b"new")
    assert str(caught.value) == f"[Errno 28] No space left on device: '{tmp_path}/f'"
    assert [name for name in names_in(tmp_path) if name != "f.lock"] == []


@each_rewrite
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_bytes_and_no_other_file(
    operation, call, store, tmp_path, monkeypatch
):
    (tmp_path / "f").write_bytes(b"old")

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=f"Input/output error: '{tmp_path}/f'"):
        write(operation, store, "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert set(names_in(tmp_path)) - {"f.lock"} == {"f"}


def no_hard_links(source, target, **_):
    raise PermissionError(errno.EPERM, "Operation not permitted", source, None, target)


def test_create_without_hard_links_reports_it_and_leaves_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_hard_links)
    with pytest.raises(PermissionError, match="Operation not permitted"):
        store.create("f", b"new")
    assert names_in(tmp_path) == []


@each_operation
def test_a_file_in_place_of_a_folder_is_named(operation, store, tmp_path):
    (tmp_path / "a").write_bytes(b"a file")
    with pytest.raises(OSError) as caught:
        write(operation, store, "a/f", b"new")
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"a file"


def test_a_file_in_place_of_a_folder_is_an_error_for_a_reader(store, tmp_path):
    (tmp_path / "models").write_bytes(b"data")
    with pytest.raises(NotADirectoryError) as caught:
        store.read("models/registry.json", LIMIT)
    assert caught.value.filename == f"{tmp_path}/models"


@each_operation
def test_a_folder_in_place_of_a_file_is_not_written_to(operation, store, tmp_path, tree):
    (tmp_path / "f").mkdir()
    (tmp_path / "f/g").write_bytes(b"data")
    with pytest.raises(CorruptFileError) as caught:
        write(operation, store, "f", b"new")
    assert str(caught.value) == (
        f"{tmp_path}/f: expected a regular file, found a folder. Left as found."
    )
    assert tree(tmp_path / "f") == {"g": b"data"}
    assert set(names_in(tmp_path)) - {"f.lock"} == {"f"}


def test_an_error_without_a_number_is_raised_unchanged(store):
    error = TimeoutError("mine")

    def decide(_):
        raise error

    with pytest.raises(TimeoutError) as caught:
        store.update("f", decide)
    assert caught.value is error


def test_a_path_that_cannot_be_followed_is_an_i_o_error(store):
    with pytest.raises(OSError, match="File name too long"):
        store.create("a" * 300, b"new")


# --- Links and confinement -----------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path):
    """A folder with a file, outside of `<tmp_path>/root`, which has links to it and inside."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "real").mkdir(parents=True)
    outside.mkdir()
    (outside / "f").write_bytes(b"theirs")
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "f")
    (root / "inside").symlink_to("real")
    (root / "circle").symlink_to("circle")
    return outside


LINKS = {
    "link/f": "link: expected a folder, found a link",
    "link/deep/f": "link: expected a folder, found a link",
    "inside/f": "inside: expected a folder, found a link",
    "circle/f": "circle: expected a folder, found a link",
    "file": "file: expected a regular file, found a link",
    "circle": "circle: expected a regular file, found a link",
}


@each_operation
@pytest.mark.parametrize(("key", "found"), LINKS.items(), ids=list(LINKS))
def test_no_link_below_the_root_is_written_through(operation, key, found, outside, tmp_path, tree):
    before = tree(tmp_path)
    with pytest.raises(CorruptFileError) as caught:
        write(operation, FolderStore(tmp_path / "root"), key, b"new")
    assert str(caught.value).startswith(f"{tmp_path}/root/{found}, which is not followed. ")
    assert {name for name in tree(tmp_path) if not name.endswith(".lock")} == set(before)
    assert tree(tmp_path) | before == tree(tmp_path)


@pytest.mark.parametrize(("key", "found"), LINKS.items(), ids=list(LINKS))
def test_no_link_below_the_root_is_read_through(key, found, outside, tmp_path):
    with pytest.raises(CorruptFileError) as caught:
        FolderStore(tmp_path / "root").read(key, LIMIT)
    assert str(caught.value).startswith(f"{tmp_path}/root/{found}, which is not followed. ")


OUT_OF_ROOT = ["", "../outside/f", "a/../../outside/f", "link/../outside/f", "{outside}/f", "a//f"]


@each_operation
@pytest.mark.parametrize("key", OUT_OF_ROOT)
def test_a_write_to_a_key_that_leads_out_of_the_root_is_refused(
    operation, key, outside, tmp_path, tree
):
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"leads out of .* Nothing was read or written"):
        write(operation, FolderStore(tmp_path / "root"), key.format(outside=outside), b"new")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("key", OUT_OF_ROOT)
def test_a_key_that_leads_out_of_the_root_is_not_read(key, outside, tmp_path):
    with pytest.raises(ValueError, match=r"leads out of .* Nothing was read or written"):
        FolderStore(tmp_path / "root").read(key.format(outside=outside), LIMIT)


EXCHANGE = """
import ctypes, sys
exchange, at_cwd, flag = ctypes.CDLL(None).renameat2, -100, 2
folder, link = (name.encode() for name in sys.argv[1:])
if exchange(at_cwd, folder, at_cwd, link, flag) == 0:
    print("exchanging", flush=True)
while True:
    exchange(at_cwd, folder, at_cwd, link, flag)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is a call of Linux")
def test_a_folder_that_is_exchanged_for_a_link_all_the_time_leads_nowhere(outside, tmp_path, start):
    root = tmp_path / "root"
    (outside / "real.json").write_bytes(b"theirs")
    exchanging = start(EXCHANGE, root / "real", root / "link")
    assert exchanging.hear() == "exchanging"
    store = FolderStore(root)
    refused = number = 0
    while number < 300 or refused in (0, number):
        number += 1
        operation = ("create", "replace", "update", "read")[number % 4]
        try:
            if operation == "read":
                assert store.read("real/real.json", LIMIT) is None
            else:
                write(operation, store, f"real/{number}", b"new")
        except (CorruptFileError, NotADirectoryError):
            refused += 1
    exchanging.process.kill()
    exchanging.process.wait()
    assert names_in(outside) == ["f", "real.json"]


@pytest.mark.parametrize("key", ["link", "inside", "circle"])
def test_the_folders_behind_a_link_are_not_listed(key, outside, tmp_path):
    with pytest.raises(CorruptFileError, match=f"/root/{key}: expected a folder, found a link"):
        FolderStore(tmp_path / "root").folders(key)


def test_data_may_be_a_link_out_of_the_root(outside, tmp_path):
    (outside / "folder").mkdir()
    store = FolderStore(tmp_path / "root")
    for key in ("link/f", "file"):
        assert StorePath(store, key).read_linked(6) == b"theirs"
        assert store.stat(key).size == 6
        with store.open(key) as file:
            assert file.stat.key == key
    assert store.folders("link", follow_links=True) == ["folder"]
    assert store.folders("") == ["inside", "link", "real"]


@each_operation
def test_the_root_itself_may_be_a_link(operation, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    write(operation, FolderStore(tmp_path / "root"), "f", b"new")
    assert (tmp_path / "real/f").read_bytes() == b"new"
    assert (tmp_path / "root").is_symlink()


@pytest.fixture
def circle(store, tmp_path):
    """The key of a file that is a circle of links."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    return "a"


def test_data_that_is_a_circle_of_links_is_a_corrupt_file(circle, store, tmp_path):
    with pytest.raises(CorruptFileError) as caught, store.open(circle):
        pass
    assert str(caught.value) == f"{tmp_path}/a: its links form a circle. Left as found."


def test_a_circle_of_links_is_not_listed(circle, store):
    assert store.stat(circle) is None
    assert list(store.files("")) == []
    assert store.folders("") == []


def test_a_circle_of_links_in_place_of_a_folder_has_no_files_and_no_folders(circle, store):
    assert list(store.files(circle)) == []
    assert store.folders(circle, follow_links=True) == []


def test_a_circle_of_links_has_a_memo_without_an_error(circle, store):
    assert store.memo(circle) not in (None, store.memo("f"))


def put(kind, path, other):
    """Put something other than a regular file of one name at `path`; a link leads to `other`."""
    if kind == "a link":
        path.symlink_to(other)
    elif kind == "a hard link":
        path.hardlink_to(other)
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))


@pytest.fixture
def other(tmp_path):
    """A file that no write may change: its contents, its mode and its times."""
    path = tmp_path / "other"
    path.write_bytes(b"theirs")
    path.chmod(0o600)
    before = path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns
    yield path
    assert (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) == before


KINDS = ("a FIFO", "a folder", "a link", "a socket")


@each_operation
@pytest.mark.parametrize("kind", KINDS)
def test_a_temporary_file_that_is_not_a_regular_file_is_refused(operation, kind, other, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    put(kind, root / ".f.tmp", other)
    with pytest.raises(CorruptFileError) as caught:
        write(operation, FolderStore(root), "f", b"new")
    assert str(caught.value) == (
        f"{root}/.f.tmp: expected a regular file, found {kind}. Nothing was written; remove it."
    )
    assert set(names_in(root)) - {"f.lock"} == {".f.tmp"}


@pytest.mark.parametrize("kind", [*KINDS, "a hard link"])
def test_a_lock_file_that_is_not_a_regular_file_with_one_name_is_refused(kind, other, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    put(kind, root / "f.lock", other)
    expected = "a file with one name" if kind == "a hard link" else "a regular file"
    with pytest.raises(CorruptFileError) as caught:
        write("update", FolderStore(root), "f", b"new")
    assert str(caught.value) == (
        f"{root}/f.lock: expected {expected}, found {kind}. Nothing was written; remove it."
    )
    assert names_in(root) == ["f.lock"]


@pytest.mark.parametrize("name", ["f.lock", ".f.tmp"])
def test_a_fifo_that_another_process_reads_is_refused(name, store, tmp_path):
    os.mkfifo(tmp_path / name)
    reader = os.open(tmp_path / name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(CorruptFileError, match="expected a regular file, found a FIFO"):
            write("update", store, "f", b"new")
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


@each_operation
@pytest.mark.parametrize(("folder_mode", "mode"), [(0o755, 0o600), (0o775, 0o660), (0o777, 0o666)])
def test_only_those_who_can_write_to_the_folder_may_open_an_unfinished_file(
    operation, folder_mode, mode, store, tmp_path, monkeypatch
):
    tmp_path.chmod(folder_mode)
    modes, umask = [], folder._umask

    def watch():  # called when the contents are complete
        modes.append(stat.S_IMODE((tmp_path / ".f.tmp").stat().st_mode))
        return umask()

    monkeypatch.setattr(folder, "_umask", watch)
    write(operation, store, "f", b"new")
    assert modes == [mode]


def test_the_mode_of_a_lock_file_that_another_process_created_is_not_changed(store, tmp_path):
    (tmp_path / "f.lock").touch(mode=0o600)
    write("update", store, "f", b"new")
    assert stat.S_IMODE((tmp_path / "f.lock").stat().st_mode) == 0o600


@each_operation
def test_a_temporary_file_that_is_a_hard_link_is_replaced_and_the_other_file_unchanged(
    operation, other, tmp_path
):
    root = tmp_path / "root"
    root.mkdir()
    put("a hard link", root / ".f.tmp", other)
    write(operation, FolderStore(root), "f", b"new")
    assert (root / "f").read_bytes() == b"new"
    assert (root / "f").stat().st_nlink == other.stat().st_nlink == 1


@as_root
@each_operation
@pytest.mark.parametrize("mode", [0o666, 0o644, 0o600])
def test_a_temporary_file_that_another_user_left_is_replaced_by_a_new_one(
    operation, mode, store, tmp_path
):
    path = tmp_path / ".f.tmp"
    path.write_bytes(b"theirs")
    path.chmod(mode)
    os.chown(path, 12345, 12345)
    with path.open("rb") as theirs:
        write(operation, store, "f", b"new")
        assert theirs.read() == b"theirs"
    assert (tmp_path / "f").read_bytes() == b"new"
    assert (tmp_path / "f").stat().st_uid == os.geteuid()


WITHOUT_PRIVILEGES = """
import sys
from pathlib import Path
from src.storage import FolderStore, Update
from tests.privileges import drop_privileges
drop_privileges()
try:
    FolderStore(Path(sys.argv[1])).update("f", lambda _: Update(None, [b"new"]))
except OSError as error:
    print(error)
"""


@as_root
@pytest.mark.parametrize("name", ["f.lock", ".f.tmp"])
def test_a_file_of_another_user_that_can_be_read_is_locked_and_not_written_to(
    name, tmp_path, start
):
    (tmp_path / name).write_bytes(b"theirs")
    os.chown(tmp_path / name, 12345, 12345)
    assert start(WITHOUT_PRIVILEGES, tmp_path).end() == ""
    assert (tmp_path / "f").read_bytes() == b"new"
    assert names_in(tmp_path) == ["f", "f.lock"]
    if name == "f.lock":
        assert (tmp_path / name).read_bytes() == b"theirs"


@as_root
@pytest.mark.parametrize("name", ["f.lock", ".f.tmp"])
def test_a_file_of_another_user_that_cannot_be_read_is_an_error_with_its_name(
    name, tmp_path, start
):
    (tmp_path / name).write_bytes(b"theirs")
    (tmp_path / name).chmod(0o600)
    os.chown(tmp_path / name, 12345, 12345)
    assert start(WITHOUT_PRIVILEGES, tmp_path).end() == (
        f"[Errno 13] Permission denied: '{tmp_path}/{name}'"
    )
    assert not (tmp_path / "f").exists()


@each_operation
def test_a_huge_file_is_not_read_into_memory_by_a_write(operation, store, tmp_path, monkeypatch):
    (tmp_path / "f").touch()
    os.truncate(tmp_path / "f", 1 << 34)  # sparse
    reads = []
    monkeypatch.setattr(os, "read", lambda *arguments: reads.append(arguments))
    if operation == "replace":
        write(operation, store, "f", b"new")
        assert (tmp_path / "f").stat().st_size == 3
    else:
        with pytest.raises(
            CorruptFileError, match=r"/f: larger than [0-9,]+ bytes\. Left as found"
        ):
            write(operation, store, "f", b"new")
    assert reads == []


def test_an_open_file_is_read_no_further_than_its_size(store, tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    buffer = memoryview(bytearray(10))
    with pytest.raises(FileChangedError) as caught, store.open("f") as file:
        assert file.readinto(buffer) == 3
        with (tmp_path / "f").open("ab") as more:
            more.write(b"new")
        file.readinto(buffer)
        raise AssertionError("read further")
    assert "written to while it was being read" in str(caught.value)


def test_a_link_has_the_memo_of_the_file_that_it_leads_to(store, tmp_path):
    (tmp_path / "f").write_bytes(b"data")
    (tmp_path / "link").symlink_to("f")
    assert store.memo("link") == store.memo("f")


@pytest.mark.parametrize("cache", ["root", "root/cache", "link"])
def test_there_is_no_memo_if_the_cache_folder_lies_below_the_root(cache, tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("root")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    assert FolderStore(tmp_path / "root").memo("f") is None


# --- Several writers -----------------------------------------------------------------------------


CREATE = """
from pathlib import Path
from src.storage import FolderStore
---
store, mine = FolderStore(Path(sys.argv[1])), sys.argv[2].encode()
print(" ".join(store.create(f"{n}", mine).decode() for n in range(100)))
"""


@pytest.mark.parametrize("contents", [["a", "a", "a"], ["a", "b", "c"]])
def test_concurrent_creators_of_one_file_all_see_the_same_winner(contents, tmp_path, concurrently):
    seen = concurrently(CREATE, *[(tmp_path, content) for content in contents])
    written = [(tmp_path / f"{n}").read_text() for n in range(100)]
    assert [line.split() for line in seen] == [written] * 3
    assert set(written) <= set(contents)
    assert len(names_in(tmp_path)) == 100


ADD = """
from pathlib import Path
from src.storage import FolderStore, Update
---
store = FolderStore(Path(sys.argv[1]))
for _ in range(50):
    store.update("f", lambda old: Update(None, [b"%d" % (int(old or 0) + 1)]))
"""


def test_no_update_is_lost_between_processes(tmp_path, concurrently):
    concurrently(ADD, *[(tmp_path,)] * 3)
    assert (tmp_path / "f").read_bytes() == b"150"
    assert names_in(tmp_path) == ["f", "f.lock"]


REWRITE = """
from pathlib import Path
from src.storage import FolderStore
---
store = FolderStore(Path(sys.argv[1]))
for n in range(120):
    store.replace("f", b"ab"[n % 2:n % 2 + 1] * 50_000)
"""

WATCH = """
from pathlib import Path
print("ready", flush=True)
path, whole, torn = Path(sys.argv[1]), {b"a" * 50_000, b"b" * 50_000}, 0
while not path.with_name("done").exists():
    torn += path.exists() and path.read_bytes() not in whole
print(torn)
"""


def test_a_reader_never_sees_part_of_a_file_that_many_processes_replace(
    tmp_path, concurrently, start
):
    reader = start("import sys" + WATCH, tmp_path / "f")
    assert reader.hear() == "ready"
    concurrently(REWRITE, *[(tmp_path,)] * 8)
    (tmp_path / "done").touch()
    assert reader.end() == "0"
    assert names_in(tmp_path) == ["done", "f"]


@each_operation
def test_a_writer_starts_again_if_the_temporary_file_disappears_while_it_waits(
    operation, store, tmp_path, monkeypatch
):
    waits = []

    def lock_late(descriptor, seconds):
        if not waits:  # the writer that held the lock has removed its temporary file
            waits.extend(path.unlink() for path in tmp_path.glob(".f*"))
        return lock(descriptor, seconds)

    monkeypatch.setattr(folder, "lock", lock_late)
    write(operation, store, "f", b"new")
    assert waits == [None]
    assert (tmp_path / "f").read_bytes() == b"new"
    assert set(names_in(tmp_path)) - {"f.lock"} == {"f"}


HOLD = """
import sys
from pathlib import Path
from src.storage import FolderStore, Update
def decide(_):
    print("held", flush=True)
    input()
    return Update(None)
FolderStore(Path(sys.argv[1])).update("f", decide)
"""


def test_a_lock_that_another_process_holds_for_too_long_is_named(
    store, tmp_path, start, monkeypatch
):
    holder = start(HOLD, tmp_path)
    assert holder.hear() == "held"
    monkeypatch.setattr(folder, "LOCK_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(TimeoutError) as caught:
        write("update", store, "f", b"new")
    assert str(caught.value) == (
        f"{tmp_path}/f.lock: locked by other processes for more than 0.01 s. "
        "Nothing was written; find those processes, then try again."
    )
    assert not (tmp_path / "f").exists()
    holder.say()
    holder.end()


def test_the_lock_of_a_killed_process_is_free(store, tmp_path, start):
    holder = start(HOLD, tmp_path)
    assert holder.hear() == "held"
    holder.process.kill()
    holder.process.wait()
    write("update", store, "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"


FORK = """
import os, sys, time
from pathlib import Path
from src.storage import FolderStore, Update, folder
child = None
def decide(old):
    global child
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    return Update(None, [b"old"])
store = FolderStore(Path(sys.argv[1]))
store.update("f", decide)
folder.LOCK_TIMEOUT_SECONDS = 0.01
try:
    store.update("f", lambda old: Update(None, [old + b"+new"]))
finally:
    os.kill(child, 9)
"""


def test_a_lock_is_released_even_if_a_process_was_forked_while_it_was_held(tmp_path, start):
    start(FORK, tmp_path).end()
    assert (tmp_path / "f").read_bytes() == b"old+new"


@each_operation
def test_a_writer_waits_for_a_temporary_file_that_another_process_writes(
    operation, store, tmp_path, monkeypatch
):
    monkeypatch.setattr(folder, "LOCK_TIMEOUT_SECONDS", 0.01)
    with (tmp_path / ".f.tmp").open("w") as theirs:
        lock_descriptor(theirs.fileno())
        with pytest.raises(TimeoutError, match=r"/\.f\.tmp: locked by other processes"):
            write(operation, store, "f", b"new")
    write(operation, store, "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not (tmp_path / ".f.tmp").exists()


@each_operation
def test_a_temporary_file_that_is_a_finished_file_is_removed_and_not_written_to(
    operation, store, tmp_path
):
    (tmp_path / ".f.tmp").write_bytes(b"old")
    (tmp_path / "finished").hardlink_to(tmp_path / ".f.tmp")
    write(operation, store, "f", b"new")
    assert (tmp_path / "finished").read_bytes() == b"old"
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not (tmp_path / ".f.tmp").exists()


# --- Crashes -------------------------------------------------------------------------------------


IMPORTS = "from pathlib import Path\nfrom src.storage import FolderStore, Update\n"
WORK = {
    "create": "FolderStore(Path()).create('a/f', b'new' * 9)",
    "replace": "FolderStore(Path()).replace('a/f', b'new' * 9)",
    "update": "FolderStore(Path()).update('a/f', lambda _: Update(None, [b'new' * 9]))",
}


@pytest.mark.parametrize("old", [None, b"old"])
@each_operation
def test_a_killed_writer_leaves_old_or_new_bytes_and_the_next_writer_cleans_up(
    operation, old, tmp_path, crashes, tree
):
    before = tmp_path / "before"
    before.mkdir()
    if old:
        (before / "a").mkdir()
        (before / "a/f").write_bytes(old)
    after = old if old and operation == "create" else b"new" * 9
    steps = crashes(f"{IMPORTS}def work(): {WORK[operation]}", before)
    assert len(steps) > 3  # places to die
    for step in steps:
        store = FolderStore(step)
        assert store.read("a/f", LIMIT) in (old, after)
        write(operation, store, "a/f", b"new" * 9)
        assert {name: data for name, data in tree(step).items() if name != "a/f.lock"} == {
            "a/f": after
        }


def test_an_update_after_a_longer_one_was_killed_writes_its_bytes_only(tmp_path, crashes, tree):
    before = tmp_path / "before"
    before.mkdir()
    longer = "FolderStore(Path()).update('f', lambda _: Update(None, [b'longer' * 99]))"
    steps = crashes(f"{IMPORTS}def work(): {longer}", before)
    assert len(steps) > 5  # places to die
    for step in steps:
        write("update", FolderStore(step), "f", b"short")
        assert tree(step) == {"f": b"short", "f.lock": b""}


def test_restoring_the_old_bytes_after_a_replacement_was_killed_cleans_up(tmp_path, crashes, tree):
    before = tmp_path / "before"
    before.mkdir()
    (before / "f").write_bytes(b"old")
    steps = crashes(f"{IMPORTS}def work(): FolderStore(Path()).replace('f', b'new')", before)
    assert len(steps) > 5  # places to die
    for step in steps:
        FolderStore(step).replace("f", b"old")
        assert tree(step) == {"f": b"old"}


# --- Probe ---------------------------------------------------------------------------------------


def test_a_probe_leaves_an_empty_root(tmp_path):
    FolderStore(tmp_path / "root").probe()
    assert names_in(tmp_path / "root") == []


def test_a_probe_reports_that_hard_links_are_missing(store, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_hard_links)
    with pytest.raises(PermissionError) as caught:
        store.probe()
    assert caught.value.filename == f"{tmp_path}/.probe"
    assert names_in(tmp_path) == []


def test_a_probe_reports_that_file_locks_are_missing(store, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError) as caught:
        store.probe()
    assert str(caught.value) == f"[Errno 37] No locks available: '{tmp_path}/.probe'"


def test_a_probe_reports_that_file_locks_exclude_no_other_process(store, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(OSError) as caught:
        store.probe()
    assert str(caught.value) == (
        f"[Errno 37] File locks do not exclude other processes: '{tmp_path}/..probe.tmp'"
    )
    assert names_in(tmp_path) == []


def test_a_probe_reports_that_files_cannot_be_renamed(store, tmp_path, monkeypatch):
    def replace(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError) as caught:
        store.probe()
    assert caught.value.filename == f"{tmp_path}/.probe"
    assert names_in(tmp_path) == []


def test_a_probe_succeeds_after_another_one_was_killed(tmp_path, crashes, tree):
    before = tmp_path / "before"
    before.mkdir()
    steps = crashes(f"{IMPORTS}def work(): FolderStore(Path()).probe()", before)
    assert len(steps) > 5  # places to die
    for step in steps:
        FolderStore(step).probe()
        assert tree(step) == {}


# --- Local files ---------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    """A file of a store, behind a link."""
    (tmp_path / "elsewhere").write_bytes(b"old")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/f").symlink_to(tmp_path / "elsewhere")
    return StorePath(FolderStore(tmp_path / "root")) / "f"


def test_a_local_file_is_the_file_itself_and_links_to_it_are_followed(data, tmp_path):
    with data.local_file(Digest.of(b"old")) as path:
        assert path == tmp_path / "elsewhere"


def test_a_local_file_that_is_written_to_in_the_block_is_an_error_at_its_end(data):
    with pytest.raises(FileChangedError) as caught, data.local_file(Digest.of(b"old")) as path:
        path.write_bytes(b"new")
        os.utime(path, ns=(1, 1))
    assert str(caught.value) == (
        f"{data}: written to while it was being read. Wait until the writer has finished, then "
        "run again."
    )


def test_a_local_file_that_gets_a_new_time_stamp_alone_is_no_error(data):
    with data.local_file(Digest.of(b"old")) as path:
        os.utime(path, ns=(1, 1))


def test_an_error_of_the_reader_of_a_local_file_is_not_hidden_by_a_change_of_the_file(data):
    with pytest.raises(KeyError, match="mine"), data.local_file(Digest.of(b"old")) as path:
        path.write_bytes(b"longer")
        raise KeyError("mine")
