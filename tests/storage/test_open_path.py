from pathlib import Path

import pytest

from src.errors import CorruptFileError
from src.storage import FolderStore, StorePath, is_url, open_file, open_path, plain_path
from tests.stores import MemoryStore

URLS = ["https://bucket/artifacts", "ftp://bucket", "file:///artifacts", "memory://", "://x/y"]


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
@pytest.mark.parametrize("location", [*URLS, "ftp://bucket/a/f"])
def test_an_address_that_is_not_one_of_an_object_store_is_refused(open_location, location):
    with pytest.raises(ValueError) as caught:
        open_location(location)
    found = str(caught.value)
    assert found.startswith(location.rpartition("/")[0].rstrip("/") or "://")
    assert found.endswith(
        ": expected a folder, or an address such as s3://bucket/prefix, gs://bucket/prefix or "
        f"az://container/prefix; found the scheme {location.partition('://')[0]!r}."
    )


def test_the_root_of_an_object_store_is_its_whole_address(memory_url):
    path = open_path(f"{memory_url}/")
    assert (path.key, str(path)) == ("", "memory://bucket/artifacts")
    assert str(path / "models/m") == "memory://bucket/artifacts/models/m"


def test_a_file_of_an_object_store_is_in_a_store_whose_root_is_its_folder(memory_url):
    (open_path(memory_url) / "sweeps/a.yaml").create(b"data")
    path = open_file(f"{memory_url}/sweeps/a.yaml")
    assert (path.store.url, path.key) == ("memory://bucket/artifacts/sweeps", "a.yaml")
    assert path.read(10) == b"data"


def test_a_bucket_is_not_a_file(memory_url):
    assert open_file("memory://bucket/x").read(10) is None
    with pytest.raises(ValueError, match=r"^memory://bucket: expected the address of a file"):
        open_file("memory://bucket")


@pytest.mark.parametrize("open_location", [open_path, open_file])
def test_an_address_that_has_lost_a_slash_is_no_folder(open_location):
    with pytest.raises(ValueError) as caught:
        open_location(Path("s3://bucket/artifacts/f"))
    assert str(caught.value).endswith(
        ": expected an address such as s3://bucket/prefix, with two slashes. Pass it as text, not "
        f"as a Path. A folder of this name is ./{str(caught.value).partition(': ')[0]}."
    )
    assert str(open_location("./s3:/bucket/f")) == "s3:/bucket/f"


@pytest.mark.parametrize("location", ["S3://bucket/artifacts", " s3://bucket/artifacts"])
def test_the_error_for_a_scheme_in_capitals_or_with_a_space_says_how_to_write_it(location):
    with pytest.raises(ValueError, match=r"found the scheme '(S3| s3)'\. Write s3://\.\.\.$"):
        open_path(location)


@pytest.mark.parametrize(
    "location",
    ["s3a://name:word@bucket/f", "s3:/name:word@bucket/f", "s3://name:word@bucket", "x://b?k=word"],
)
@pytest.mark.parametrize("open_location", [open_path, open_file])
def test_no_error_has_the_credentials_of_an_address(open_location, location):
    with pytest.raises(ValueError) as caught:
        open_location(location)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://bucket/prefix", True),
        ("gs://b", True),
        ("artifacts", False),
        ("s3:/bucket", False),
        (Path("s3://bucket"), False),  # a path has no double slash
        (StorePath(MemoryStore("s3://bucket"), "models"), True),
        (StorePath(FolderStore(Path("/root"))), False),
    ],
)
def test_an_address_is_no_folder(location, expected):
    assert is_url(location) is expected


def test_a_plain_path_is_one_of_the_file_system_if_the_file_is_there():
    assert plain_path(StorePath(FolderStore(Path("root")), "a/f")) == Path("root/a/f")
    path = StorePath(MemoryStore("s3://bucket"), "a/f")
    assert plain_path(path) is path


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
