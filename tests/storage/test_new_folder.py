"""A new folder, which appears whole or not at all."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from src.digest import Digest
from src.errors import CorruptFileError
from src.storage import FileChangedError
from src.storage.new_folder import new_folder

IMPORTS = """
from pathlib import Path
from src.storage.new_folder import new_folder
"""
WORK = """
def work():
    with new_folder(Path("out")) as folder:
        folder.write("a/b.txt", [b"one", b"two"])
        folder.write("c.txt", [b"three"])
"""


def names():
    """Return the names in the working directory."""
    return sorted(path.name for path in Path().iterdir())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_files_are_there_after_the_block(tree):
    with new_folder(Path("out")) as folder:
        folder.write("a/b.txt", [b"one", b"two"])
        folder.write("c.txt", [b"three"])
        assert not Path("out").exists()
    assert tree(Path.cwd()) == {"out/a/b.txt": b"onetwo", "out/c.txt": b"three"}


def test_an_empty_folder_is_filled_and_a_link_to_it_is_followed(tree):
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    with new_folder(Path("link")) as folder:
        folder.write("a", [b"1"])
    assert Path("link").is_symlink()
    assert tree(Path("empty")) == {"a": b"1"}


def test_an_error_leaves_nothing(tree):
    with pytest.raises(KeyboardInterrupt), new_folder(Path("out")) as folder:
        folder.write("a", [b"1"])
        raise KeyboardInterrupt
    assert names() == []


@pytest.mark.parametrize("kind", ["a folder with a file", "a file"])
def test_what_exists_is_not_replaced_also_if_it_appeared_meanwhile(kind, tree):
    reason = r"^out: expected a new or an empty folder, found other files\.$"
    with pytest.raises(ValueError, match=reason), new_folder(Path("out")) as folder:
        folder.write("a", [b"1"])
        if kind == "a file":
            Path("out").write_text("mine")
        else:
            Path("out").mkdir()
            Path("out/mine").write_text("mine")
    before = tree(Path.cwd())
    assert list(before.values()) == [b"mine"]
    with pytest.raises(ValueError, match=reason):
        new_folder(Path("out")).__enter__()
    assert (tree(Path.cwd()), names()) == (before, ["out"])


def test_the_working_directory_and_a_folder_in_a_missing_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a new folder, found the working directory"):
        new_folder(Path()).__enter__()
    with pytest.raises(FileNotFoundError) as caught:
        new_folder(Path("missing/out")).__enter__()
    assert str(caught.value) == f"{tmp_path}/missing: no such folder. Create it first."


def test_a_file_is_copied_if_it_has_its_digest(tree):
    Path("source/a").mkdir(parents=True)
    Path("source/a/w").write_bytes(b"weights")
    digest = Digest(7, sha256(b"weights").hexdigest())
    with new_folder(Path("out")) as folder:
        folder.copy(Path("source"), "a/w", digest, "b/v")
    assert tree(Path("out")) == {"b/v": b"weights"}
    for other in (Digest(7, "0" * 64), Digest(6, digest.sha256), Digest(8, digest.sha256)):
        with pytest.raises(FileChangedError, match="source/a/w"), new_folder(Path("x")) as folder:
            folder.copy(Path("source"), "a/w", other, "v")
    assert names() == ["out", "source"]


def test_a_link_is_not_copied():
    Path("source").mkdir()
    Path("source/w").symlink_to("/etc/hostname")
    with pytest.raises(CorruptFileError, match="found a link"), new_folder(Path("out")) as folder:
        folder.copy(Path("source"), "w", Digest(1, "0" * 64), "w")
    assert names() == ["source"]


@pytest.mark.parametrize("name", ["../a", "a/../../b", "", "/a", "a//b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name):
    with pytest.raises(ValueError, match="leads out of"), new_folder(Path("out")) as folder:
        folder.write(name, [b"1"])
    assert names() == []


def test_two_files_of_one_name_are_an_error():
    with pytest.raises(FileExistsError), new_folder(Path("out")) as folder:
        folder.write("a", [b"1"])
        folder.write("a", [b"2"])
    assert names() == []


def test_a_process_killed_anywhere_leaves_the_whole_folder_or_none(tmp_path, crashes, tree):
    project = tmp_path / "project"
    project.mkdir()
    steps = crashes(IMPORTS + WORK, project)
    whole = [step for step in steps if (step / "out").exists()]
    assert 0 < len(whole) < len(steps)
    for step in steps:
        others = [path.name for path in step.iterdir() if path.name != "out"]
        assert all(name.startswith(".out.") and name.endswith(".tmp") for name in others)
    for step in whole:
        assert tree(step) == {"out/a/b.txt": b"onetwo", "out/c.txt": b"three"}


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(start):
    child = start(
        IMPORTS
        + """
with new_folder(Path("out")) as folder:
    folder.write("a", [b"1"])
    print("open", flush=True)
    input()
"""
    )
    assert child.hear() == "open"
    [abandoned] = names()
    with new_folder(Path("out2")):
        pass
    with pytest.raises(KeyError), new_folder(Path("out")):  # the process is alive
        raise KeyError
    assert names() == [abandoned, "out2"]
    child.process.kill()
    child.process.wait()
    with new_folder(Path("out")):
        pass
    assert names() == ["out", "out2"]


def test_a_link_with_the_name_of_an_abandoned_folder_is_not_followed(tree):
    Path("mine").mkdir()
    Path("mine/a").write_bytes(b"1")
    Path(".out.01234567.tmp").symlink_to("mine")
    with new_folder(Path("out")):
        pass
    assert tree(Path("mine")) == {"a": b"1"}


def test_a_folder_that_another_process_removes_before_it_is_locked_is_made_again(tree, monkeypatch):
    make, made = os.mkdir, []

    def make_and_lose_the_first(name, *args, **options):
        make(name, *args, **options)
        made.append(name)
        if len(made) == 1:
            os.rmdir(name, dir_fd=options["dir_fd"])

    monkeypatch.setattr(os, "mkdir", make_and_lose_the_first)
    with new_folder(Path("out")) as folder:
        folder.write("a", [b"1"])
    assert len(made) == 2
    assert tree(Path("out")) == {"a": b"1"}
