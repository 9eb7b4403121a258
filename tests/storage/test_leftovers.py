"""Tests of the search for temporary files of killed writers."""

import os
import re
from pathlib import Path

import pytest

from src.storage.leftovers import leftover_files

A_FILE = """
from pathlib import Path
from src.storage import FolderStore
from src.storage.store import Update

def endless():
    yield b"1"
    print("writing", flush=True)
    input()

FolderStore(Path("root")).update("a/f", lambda _: Update(None, endless()))
"""
A_FOLDER = """
from pathlib import Path
from src.storage.new_folder import new_folder

with new_folder(Path("root/a")) as folder:
    folder.write("f", [b"1"])
    print("writing", flush=True)
    input()
"""


def found(root):
    return [str(path.relative_to(root)) for path in leftover_files(Path(root))]


@pytest.mark.parametrize(
    ("write", "name"), [(A_FILE, r"a/\.f\.tmp"), (A_FOLDER, r"\.a\.[0-9a-f]{8}\.tmp")]
)
def test_what_is_written_is_a_leftover_once_its_writer_was_killed(
    write, name, tmp_path, monkeypatch, start
):
    monkeypatch.chdir(tmp_path)
    Path("root").mkdir()
    child = start(write)
    assert child.hear() == "writing"
    assert found("root") == []
    child.process.kill()
    child.process.wait()
    [path] = found("root")
    assert re.fullmatch(name, path)
    assert (Path("root") / path).exists()


def test_other_files_are_no_leftovers(tmp_path):
    for name in ("f.tmp", ".f", ".f.tmp.x", "registry.json.lock"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.tmp").mkdir()
    assert found(tmp_path) == []


def test_a_link_and_a_fifo_of_the_name_are_listed_and_not_followed(tmp_path):
    (tmp_path / ".a.tmp").symlink_to("/dev/tty")
    os.mkfifo(tmp_path / ".b.tmp")
    assert sorted(found(tmp_path)) == [".a.tmp", ".b.tmp"]
