import errno
import os
import stat
from pathlib import Path

import pytest
from filelock import lock_descriptor
from hypothesis import example, given
from hypothesis import strategies as st

from src import storage
from src.storage import CorruptFileError, canonical_json, confine, parse_json
from tests.strategies import json_objects

FILE = Path("f.json")


# --- JSON ----------------------------------------------------------------------------------------


def test_canonical_json_is_sorted_indented_unescaped_and_ends_with_a_newline():
    value = {"b": [1, 2.5, 2e-5], "a": {"é": None, "B": True}}
    assert canonical_json(value).decode() == (
        '{\n  "a": {\n    "B": true,\n    "é": null\n  },\n'
        '  "b": [\n    1,\n    2.5,\n    2e-05\n  ]\n}\n'
    )


def test_the_digest_of_a_value_is_that_of_its_file():
    assert storage.sha256(canonical_json({})) == (
        "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"
    )


@given(json_objects)
def test_what_is_written_as_canonical_json_reads_back_as_it_was(value):
    data = canonical_json(value)
    assert parse_json(data, FILE) == value
    assert canonical_json(parse_json(data, FILE)) == data


@given(json_objects, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_change_canonical_json(value, random):
    keys = list(value)
    random.shuffle(keys)
    assert canonical_json({key: value[key] for key in keys}) == canonical_json(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "\ud800", {1}])
def test_canonical_json_refuses_what_json_cannot_say(value):
    with pytest.raises(ValueError):
        canonical_json({"a": value})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f.json: line 1, column 1: the file is empty. Left as found."),
        (b"\n \n", "f.json: line 3, column 1: the file is empty. Left as found."),
        (
            b'{\n  "a": }',
            "f.json: line 2, column 8: not valid JSON (Expecting value). Left as found.",
        ),
        (b"{}\n{}", "f.json: line 2, column 1: not valid JSON (Extra data). Left as found."),
        (b'{"a": "\xff"}', "f.json: byte 7: not UTF-8 text. Left as found."),
        (b"[1]", "f.json: expected a JSON object, found a list. Left as found."),
        (b'"a"', "f.json: expected a JSON object, found a str. Left as found."),
        (
            b'{"x": {"a": 1, "b": 1, "b": 1}}',
            "f.json: the key 'b' is given twice. Left as found.",
        ),
        (b'{"a": NaN}', "f.json: the number NaN is not finite. Left as found."),
        (b'{"a": -Infinity}', "f.json: the number -Infinity is not finite. Left as found."),
        (b'{"a": 1e999}', "f.json: the number 1e999 is not finite. Left as found."),
        (
            b'{"a": ' + b"9" * 5000 + b"}",
            "f.json: a whole number of more than 4,300 digits. Left as found.",
        ),
        (
            b'{"a": "\\ud800"}',
            "f.json: an escape that is half of a character (a lone surrogate). Left as found.",
        ),
        (b'{"a":' * 100_000, "f.json: nested too deeply. Left as found."),
    ],
)
def test_a_damaged_file_is_named_with_the_place_and_the_fault(data, message):
    with pytest.raises(CorruptFileError) as caught:
        parse_json(data, FILE)
    assert str(caught.value) == message


@given(st.binary() | st.text(alphabet='{}[]",:\\u0d8NaInfity1e9.- \n').map(str.encode))
@example(b'{"a": "\\ud800"}')
@example(b'{"\\udfff": 1}')
@example(b'{"a": ' + b"9" * 5000 + b"}")
@example(b"\xef\xbb\xbf{}")
@example("{}".encode("utf-16"))
def test_whatever_the_bytes_they_parse_or_are_a_corrupt_file(data):
    try:
        value = parse_json(data, FILE)
    except CorruptFileError as error:
        assert str(error).startswith("f.json: ")
        assert str(error).endswith(" Left as found.")
    else:
        assert parse_json(canonical_json(value), FILE) == value


def test_a_file_that_is_not_there_reads_as_none(tmp_path):
    assert storage.read(tmp_path / "none") is None


def test_a_file_that_is_not_there_has_no_seal(tmp_path):
    assert storage.read_sealed(tmp_path / "none") == (None, None)


@given(json_objects)
def test_canonical_json_may_be_trusted(value):
    assert parse_json(canonical_json(value), FILE, trusted=True) == value


# --- One writer ----------------------------------------------------------------------------------


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def write(operation, path, data, root):
    if operation == "update":
        storage.update(path, lambda *_: ([data], None), root=root)
    else:
        getattr(storage, operation)(path, data, root=root)


each_operation = pytest.mark.parametrize("operation", ["create", "replace", "update"])
each_rewrite = pytest.mark.parametrize("operation", ["replace", "update"])


@each_operation
@given(data=st.binary(max_size=300))
def test_the_whole_data_is_written_and_nothing_else_is_left(operation, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write(operation, folder / "a/b/f", data, root=folder)
    assert (folder / "a/b/f").read_bytes() == data
    assert set(names_in(folder / "a/b")) - {"f.lock"} == {"f"}


@each_rewrite
@given(old=st.binary(max_size=300), new=st.binary(max_size=300))
def test_the_new_bytes_take_the_place_of_all_the_old(operation, old, new, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewritten")
    write(operation, folder / "f", old, root=folder)
    write(operation, folder / "f", new, root=folder)
    assert (folder / "f").read_bytes() == new


@given(old=st.binary(max_size=300), new=st.binary(max_size=300))
def test_create_gives_back_what_was_there_first_and_leaves_it(old, new, tmp_path_factory):
    folder = tmp_path_factory.mktemp("created")
    assert storage.create(folder / "f", old, root=folder) == old
    assert storage.create(folder / "f", new, root=folder) == old
    assert (folder / "f").read_bytes() == old


def test_update_hands_over_the_old_bytes_or_none(tmp_path):
    seen = []
    for new in (b"1", b"2"):
        storage.update(
            tmp_path / "f",
            lambda old, _, new=new: [seen.append(old), ([new], None)][1],
            root=tmp_path,
        )
    assert seen == [None, b"1"]


def test_an_update_that_gives_none_leaves_the_file_alone(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    before = (tmp_path / "f").stat()
    storage.update(tmp_path / "f", lambda *_: None, root=tmp_path)
    assert (tmp_path / "f").stat() == before


def test_an_update_that_gives_none_makes_no_file(tmp_path):
    storage.update(tmp_path / "f", lambda *_: None, root=tmp_path)
    assert not (tmp_path / "f").exists()


def test_an_update_that_raises_leaves_the_file_alone(tmp_path):
    (tmp_path / "f").write_bytes(b"old")

    def change(*_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        storage.update(tmp_path / "f", change, root=tmp_path)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names_in(tmp_path) == ["f", "f.lock"]


def test_replacing_a_file_by_the_same_bytes_does_not_write(tmp_path):
    storage.replace(tmp_path / "f", b"same", root=tmp_path)
    before = (tmp_path / "f").stat()
    storage.replace(tmp_path / "f", b"same", root=tmp_path)
    assert (tmp_path / "f").stat() == before


def test_a_file_comes_with_the_seal_it_is_written_with_and_loses_it_with_its_bytes(tmp_path):
    path = tmp_path / "f"
    storage.update(path, lambda *_: ([b"o", memoryview(b"ld")], b"seal"), root=tmp_path)
    data, seal = storage.read_sealed(path)
    assert data == b"old"
    if seal is None:
        pytest.skip("no extended attributes here")
    assert seal == b"seal"
    seen = []
    storage.update(path, lambda *old: [seen.append(old), ([b"new"], None)][1], root=tmp_path)
    assert seen == [(b"old", b"seal")]
    assert storage.read_sealed(path) == (b"new", b"")


@pytest.mark.parametrize("error", [errno.ENOTSUP, errno.ENOSPC, errno.EPERM, errno.EIO])
def test_a_seal_that_is_refused_costs_nothing_but_the_seal(error, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(error, "refused")

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)
    storage.update(tmp_path / "f", lambda *_: ([b"new"], b"seal"), root=tmp_path)
    assert storage.read_sealed(tmp_path / "f") == (b"new", None)


@each_operation
def test_a_written_file_has_the_mode_that_open_would_give_it(operation, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write(operation, tmp_path / "f", b"data", root=tmp_path)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("f", "plain")]
    assert modes[0] == modes[1]


# --- A disk that refuses -------------------------------------------------------------------------


@each_operation
def test_a_full_disk_is_reported_with_the_name_of_the_file(operation, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write(operation, tmp_path / "f", b"new", root=tmp_path)
    assert str(caught.value) == f"[Errno 28] No space left on device: '{tmp_path}/f'"
    assert [name for name in names_in(tmp_path) if name != "f.lock"] == []


@each_rewrite
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_bytes_and_no_other_file(
    operation, call, tmp_path, monkeypatch
):
    (tmp_path / "f").write_bytes(b"old")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=f"Input/output error: '{tmp_path}/f'"):
        write(operation, tmp_path / "f", b"new", root=tmp_path)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert set(names_in(tmp_path)) - {"f.lock"} == {"f"}


def test_create_without_hard_links_reports_it_and_leaves_nothing(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted", source, None, target)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(PermissionError, match="Operation not permitted"):
        storage.create(tmp_path / "f", b"new", root=tmp_path)
    assert names_in(tmp_path) == []


@each_operation
def test_a_file_in_the_place_of_a_folder_is_named(operation, tmp_path):
    (tmp_path / "a").write_bytes(b"a file")
    with pytest.raises(OSError) as caught:
        write(operation, tmp_path / "a/f", b"new", root=tmp_path)
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"a file"


def test_an_error_without_a_number_passes_as_it_is(tmp_path):
    error = TimeoutError("mine")

    def change(*_):
        raise error

    with pytest.raises(TimeoutError) as caught:
        storage.update(tmp_path / "f", change, root=tmp_path)
    assert caught.value is error


# --- Links ---------------------------------------------------------------------------------------


@each_operation
@pytest.mark.parametrize("place", ["link/f", "link/deep/f", "link/../outside/f", "file"])
def test_a_link_that_leads_out_of_the_root_is_refused(operation, place, tmp_path, tree):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "f")
    with pytest.raises(ValueError) as caught:
        write(operation, root / place, b"new", root=root)
    real = (root / place).resolve()
    assert str(caught.value) == (
        f"{root / place}: leads out of {root}, to {real}. Nothing was written; remove the link."
    )
    assert tree(tmp_path) == {}


@each_operation
def test_a_link_within_the_root_is_followed_and_stays(operation, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(operation, tmp_path / "link/f", b"new", root=tmp_path)
    assert (tmp_path / "real/f").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_the_root_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    assert confine(tmp_path / "root/f", tmp_path / "root") == tmp_path.resolve() / "real/f"


def test_a_path_that_cannot_be_followed_is_an_i_o_error(tmp_path):
    with pytest.raises(OSError, match="File name too long"):
        confine(tmp_path / ("a" * 300), tmp_path)


def test_links_that_run_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ValueError) as caught:
        confine(tmp_path / "a", tmp_path)
    assert str(caught.value) == (f"{tmp_path}/a: its links run in a circle. Nothing was written.")


# --- Several writers -----------------------------------------------------------------------------


CREATE = """
from pathlib import Path
from src import storage
---
folder, mine = Path(sys.argv[1]), sys.argv[2].encode()
print(" ".join(storage.create(folder / f"{n}", mine, root=folder).decode() for n in range(100)))
"""


@pytest.mark.parametrize("contents", [["a", "a", "a"], ["a", "b", "c"]])
def test_processes_that_create_one_file_at_once_all_see_one_winner(contents, tmp_path, at_once):
    seen = at_once(CREATE, *[(tmp_path, content) for content in contents])
    there = [(tmp_path / f"{n}").read_text() for n in range(100)]
    assert [line.split() for line in seen] == [there] * 3
    assert set(there) <= set(contents)
    assert len(names_in(tmp_path)) == 100


ADD = """
from pathlib import Path
from src import storage
---
path = Path(sys.argv[1])
for _ in range(50):
    storage.update(path, lambda old, _: ([b"%d" % (int(old or 0) + 1)], None), root=path.parent)
"""


def test_no_update_is_lost_between_processes(tmp_path, at_once):
    at_once(ADD, *[(tmp_path / "f",)] * 3)
    assert (tmp_path / "f").read_bytes() == b"150"
    assert names_in(tmp_path) == ["f", "f.lock"]


REWRITE = """
from pathlib import Path
from src import storage
---
path = Path(sys.argv[1])
for n in range(120):
    storage.replace(path, b"ab"[n % 2:n % 2 + 1] * 50_000, root=path.parent)
"""

WATCH = """
from pathlib import Path
print("ready", flush=True)
path, whole, torn = Path(sys.argv[1]), {b"a" * 50_000, b"b" * 50_000}, 0
while not path.with_name("done").exists():
    torn += path.exists() and path.read_bytes() not in whole
print(torn)
"""


def test_a_reader_never_sees_part_of_a_file_that_many_processes_replace(tmp_path, at_once, start):
    reader = start("import sys" + WATCH, tmp_path / "f")
    assert reader.hear() == "ready"
    at_once(REWRITE, *[(tmp_path / "f",)] * 8)
    (tmp_path / "done").touch()
    assert reader.end() == "0"
    assert names_in(tmp_path) == ["done", "f"]


@each_operation
def test_a_writer_whose_temporary_file_went_while_it_waited_for_it_starts_anew(
    operation, tmp_path, monkeypatch
):
    lock, waits = storage._lock, []

    def lock_late(descriptor):
        if not waits:  # whoever held the lock until now has tidied up
            waits.extend(path.unlink() for path in tmp_path.glob(".f*"))
        return lock(descriptor)

    monkeypatch.setattr(storage, "_lock", lock_late)
    write(operation, tmp_path / "f", b"new", root=tmp_path)
    assert waits == [None]
    assert (tmp_path / "f").read_bytes() == b"new"
    assert set(names_in(tmp_path)) - {"f.lock"} == {"f"}


HOLD = """
import sys
from pathlib import Path
from src.storage import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_a_lock_that_another_process_holds_on_to_is_named(tmp_path, start, monkeypatch):
    holder = start(HOLD, tmp_path / "f")
    assert holder.hear() == "held"
    monkeypatch.setattr(storage, "LOCK_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(TimeoutError) as caught:
        storage.update(tmp_path / "f", lambda *_: ([b"new"], None), root=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/f.lock: another process has held this lock for more than 0.01 s. "
        "Nothing was written; find out which, then try again."
    )
    assert not (tmp_path / "f").exists()
    holder.say()
    holder.end()


def test_the_lock_of_a_killed_process_is_free(tmp_path, start):
    holder = start(HOLD, tmp_path / "f")
    assert holder.hear() == "held"
    holder.process.kill()
    holder.process.wait()
    storage.update(tmp_path / "f", lambda *_: ([b"new"], None), root=tmp_path)
    assert (tmp_path / "f").read_bytes() == b"new"


@each_operation
def test_a_temporary_file_that_another_process_writes_is_waited_for(
    operation, tmp_path, monkeypatch
):
    monkeypatch.setattr(storage, "LOCK_TIMEOUT_SECONDS", 0.01)
    with (tmp_path / ".f.tmp").open("w") as theirs:
        lock_descriptor(theirs.fileno())
        with pytest.raises(TimeoutError, match=r"/\.f\.tmp: another process has held this lock"):
            write(operation, tmp_path / "f", b"new", root=tmp_path)
    write(operation, tmp_path / "f", b"new", root=tmp_path)
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not (tmp_path / ".f.tmp").exists()


@each_operation
def test_a_temporary_file_that_is_a_finished_file_is_let_go_and_not_written_to(operation, tmp_path):
    (tmp_path / ".f.tmp").write_bytes(b"old")
    (tmp_path / "finished").hardlink_to(tmp_path / ".f.tmp")
    write(operation, tmp_path / "f", b"new", root=tmp_path)
    assert (tmp_path / "finished").read_bytes() == b"old"
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not (tmp_path / ".f.tmp").exists()


# --- Crashes -------------------------------------------------------------------------------------


WORK = {
    "create": "storage.create(Path('a/f'), b'new' * 9, root=Path())",
    "replace": "storage.replace(Path('a/f'), b'new' * 9, root=Path())",
    "update": "storage.update(Path('a/f'), lambda *_: ([b'new' * 9], None), root=Path())",
}


@pytest.mark.parametrize("old", [None, b"old"])
@each_operation
def test_a_writer_killed_anywhere_leaves_old_or_new_and_the_next_one_clears_up(
    operation, old, tmp_path, crashes, tree
):
    before = tmp_path / "before"
    before.mkdir()
    if old:
        (before / "a").mkdir()
        (before / "a/f").write_bytes(old)
    after = old if old and operation == "create" else b"new" * 9
    steps = crashes(f"from src import storage\ndef work(): {WORK[operation]}", before)
    assert len(steps) > 3  # places to die
    for step in steps:
        assert storage.read(step / "a/f") in (old, after)
        write(operation, step / "a/f", b"new" * 9, root=step)
        assert {name: data for name, data in tree(step).items() if name != "a/f.lock"} == {
            "a/f": after
        }


def test_an_update_after_a_longer_one_was_killed_is_whole(tmp_path, crashes, tree):
    before = tmp_path / "before"
    before.mkdir()
    longer = "storage.update(Path('f'), lambda *_: ([b'longer' * 99], None), root=Path())"
    steps = crashes(f"from src import storage\ndef work(): {longer}", before)
    assert len(steps) > 5  # places to die
    for step in steps:
        storage.update(step / "f", lambda *_: ([b"short"], None), root=step)
        assert tree(step) == {"f": b"short", "f.lock": b""}


def test_putting_back_the_old_bytes_after_a_replacement_was_killed_clears_up(
    tmp_path, crashes, tree
):
    before = tmp_path / "before"
    before.mkdir()
    (before / "f").write_bytes(b"old")
    new = "storage.replace(Path('f'), b'new', root=Path())"
    steps = crashes(f"from src import storage\ndef work(): {new}", before)
    assert len(steps) > 5  # places to die
    for step in steps:
        storage.replace(step / "f", b"old", root=step)
        assert tree(step) == {"f": b"old"}
