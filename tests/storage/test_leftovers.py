"""Tests of the search for temporary files of killed writers."""

import os
import signal
from pathlib import Path

from src.storage.leftovers import leftover_files

WRITE = """
import os, signal
from pathlib import Path
from src.storage import FolderStore

def endless():
    yield b"1"
    print("writing", flush=True)
    input()

from src.storage.store import Update
FolderStore(Path("root")).update("a/f", lambda _: Update(None, endless()))
"""


def found(root):
    return [str(path.relative_to(root)) for path in leftover_files(Path(root))]


def test_a_temporary_file_is_a_leftover_once_its_writer_was_killed(tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    Path("root").mkdir()
    child = start(WRITE)
    assert child.hear() == "writing"
    assert found("root") == []
    child.process.send_signal(signal.SIGKILL)
    child.process.wait()
    assert found("root") == ["a/.f.tmp"]


NEW_FOLDER = """
from pathlib import Path
from src.storage.new_folder import new_folder

with new_folder(Path("root/a")) as folder:
    folder.write("f", [b"1"])
    print("writing", flush=True)
    input()
"""


def test_a_new_folder_is_a_leftover_once_its_writer_was_killed(tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    Path("root").mkdir()
    child = start(NEW_FOLDER)
    assert child.hear() == "writing"
    assert found("root") == []
    child.process.kill()
    child.process.wait()
    [folder] = found("root")
    assert (Path("root") / folder / "f").exists()


def test_other_files_are_no_leftovers(tmp_path):
    for name in ("f.tmp", ".f", ".f.tmp.x", "registry.json.lock"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.tmp").mkdir()
    assert found(tmp_path) == []


def test_a_link_and_a_fifo_of_the_name_are_listed_and_not_followed(tmp_path):
    (tmp_path / ".a.tmp").symlink_to("/dev/tty")
    os.mkfifo(tmp_path / ".b.tmp")
    assert sorted(found(tmp_path)) == [".a.tmp", ".b.tmp"]
