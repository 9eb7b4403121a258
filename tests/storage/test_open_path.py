from pathlib import Path

import pytest

from src.errors import CorruptFileError
from src.storage import FolderStore, StorePath, open_file, open_path
from tests.stores import MemoryStore

URLS = ["s3://bucket/artifacts", "s3://bucket", "file:///artifacts", "memory://"]


@pytest.mark.parametrize("location", ["some/root", Path("some/root"), "some/root/"])
def test_a_folder_is_the_root_of_a_store(location):
    path = open_path(location)
    assert path == StorePath(FolderStore(Path("some/root")))
    assert (path.key, str(path)) == ("", "some/root")


@pytest.mark.parametrize("location", ["", "."])
def test_the_working_directory_is_the_root_of_a_store(location):
    assert str(open_path(location)) == "."
    assert str(open_path(location) / "f") == "f"


def test_the_home_folder_of_a_path_is_not_expanded():
    assert str(open_path("~/root")) == "~/root"


@pytest.mark.parametrize("open_location", [open_path, open_file])
def test_a_path_of_a_store_is_returned_unchanged(open_location):
    path = StorePath(MemoryStore("artifacts"), "models/registry.json")
    assert open_location(path) is path


@pytest.mark.parametrize("open_location", [open_path, open_file])
@pytest.mark.parametrize("location", [*URLS, "s3://file"])
def test_a_url_is_refused(open_location, location):
    with pytest.raises(ValueError) as caught:
        open_location(location)
    assert str(caught.value) == (
        f"{location}: expected a folder, found a URL. Use a path of the file system."
    )


@pytest.mark.parametrize(
    ("location", "root"),
    [
        ("some/folder/f", "some/folder"),
        (Path("some/folder/f"), "some/folder"),
        ("/some/f", "/some"),
        ("/f", "/"),
        ("f", "."),
        ("./f", "."),
    ],
)
def test_a_file_is_in_a_store_whose_root_is_its_folder(location, root):
    path = open_file(location)
    assert path == StorePath(FolderStore(Path(root)), "f")
    assert str(path) == str(Path(location))


@pytest.mark.parametrize("open_location", [open_path, open_file])
def test_opening_a_path_creates_nothing(open_location, tmp_path):
    open_location(tmp_path / "new/f")
    assert list(tmp_path.iterdir()) == []


def test_a_write_to_an_opened_file_cannot_leave_its_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/f").symlink_to("../outside")
    with pytest.raises(
        CorruptFileError, match=r"/folder/f: .* found a link, which is not followed"
    ):
        open_file(tmp_path / "folder/f").replace(b"new")
    assert not (tmp_path / "outside").exists()


def test_a_slash_at_the_end_of_a_file_is_ignored():
    assert open_file("some/registry.json/") == open_file("some/registry.json")
