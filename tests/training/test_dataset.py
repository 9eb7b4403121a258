import hashlib
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.storage import CorruptFileError
from src.training import dataset as module
from src.training.dataset import (
    DatasetChangedError,
    DatasetMismatchError,
    DatasetVersion,
    count_and_hash,
    resolve_dataset,
)

SHA256 = "0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143"
OTHER = "0" * 64


@pytest.fixture
def folder(project):
    """The folder of `dataset_v1`."""
    return project / "artifacts/datasets/dataset_v1"


def record(folder, **fields):
    (folder / "metadata.json").write_text(json.dumps(fields))


def mismatch():
    with pytest.raises(DatasetMismatchError) as caught:
        resolve_dataset("dataset_v1")
    return str(caught.value)


@pytest.mark.usefixtures("project")
def test_a_dataset_is_its_name_path_samples_and_digest():
    assert resolve_dataset("dataset_v1") == DatasetVersion(
        name="dataset_v1",
        path=Path("artifacts/datasets/dataset_v1/data.jsonl"),
        num_samples=3,
        sha256=SHA256,
        record_sha256="602445c3e11bcab7e4bfd182cd86a336e868aa81c640006c24bbdecb06a3e20b",
    )


def test_resolving_a_dataset_writes_nothing(project, tree):
    before = tree(project)
    resolve_dataset("dataset_v1")
    assert tree(project) == before


# --- Counting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"{}", 1),
        (b"{}\n", 1),
        (b"{}\n{}", 2),
        (b"{}\n\n{}\n", 3),
        (b"{}\r\n{}\r\n", 2),
        (b"{}\r{}\x0b{}\xe2\x80\xa8{}", 1),
        (b"\xff\xfe\0\n", 1),
    ],
)
def test_a_sample_is_a_line_the_last_one_with_or_without_its_end(data, samples, folder):
    (folder / "metadata.json").unlink()
    (folder / "data.jsonl").write_bytes(data)
    assert resolve_dataset("dataset_v1").num_samples == samples


@given(data=st.text("a\n").map(str.encode) | st.binary(), block=st.integers(1, 9))
def test_counting_in_blocks_gives_what_counting_the_whole_gives(data, block, tmp_path_factory):
    datasets = tmp_path_factory.mktemp("datasets")
    (datasets / "d").mkdir()
    (datasets / "d/data.jsonl").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        found = resolve_dataset("d", datasets)
    lines = data.split(b"\n")
    assert found.num_samples == len(lines) - (lines[-1] == b"")
    assert found.sha256 == hashlib.sha256(data).hexdigest()


def test_data_larger_than_one_block_is_counted_whole(folder):
    (folder / "metadata.json").unlink()
    (folder / "data.jsonl").write_bytes(b"x" * (1 << 20) + b"\n" + b"{}\n" * 500_000 + b"{}")
    assert resolve_dataset("dataset_v1").num_samples == 500_002


def test_data_that_is_written_to_while_it_is_read_is_refused(folder, monkeypatch):
    class Sha256:
        def update(self, _):
            with (folder / "data.jsonl").open("ab") as file:
                file.write(b"{}\n")
            self.update = lambda _: None

        def hexdigest(self):
            return SHA256

    monkeypatch.setattr(module.hashlib, "sha256", Sha256)
    with pytest.raises(DatasetChangedError) as caught:
        resolve_dataset("dataset_v1")
    assert isinstance(caught.value, OSError)  # it may pass, so it is retried
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/data.jsonl: written to while it was being read. "
        "Wait until its writer is done, then run again."
    )


# --- What the data pipeline recorded -------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_samples": 3},
        {"dataset_hash": SHA256},
        {"dataset_hash": f"sha256:{SHA256}"},
        {"dataset_hash": SHA256.upper()},
        {"dataset_version": "dataset_v1", "config": {"seed": 1}, "made_by": "a later release"},
        {"dataset_hash": "d41d8cd98f00b204e9800998ecf8427e"},
        {"dataset_hash": f"blake3:{OTHER}"},
        {"dataset_hash": OTHER[:-1]},
        {"dataset_hash": None},
        {"dataset_hash": 7},
    ],
)
def test_data_that_a_record_does_not_contradict_is_found(fields, folder):
    record(folder, **fields)
    assert resolve_dataset("dataset_v1").sha256 == SHA256


def test_data_without_a_record_is_found(folder):
    (folder / "metadata.json").unlink()
    assert resolve_dataset("dataset_v1").num_samples == 3


@pytest.mark.parametrize("prefix", ["", "sha256:", "SHA256:"])
def test_data_with_another_digest_than_recorded_is_refused_with_both(prefix, folder):
    record(folder, num_samples=3, dataset_hash=prefix + OTHER)
    assert mismatch() == (
        "artifacts/datasets/dataset_v1/data.jsonl: not the data that metadata.json beside it "
        "describes:\n"
        f"  dataset_hash: recorded '{OTHER}', found '{SHA256}'\n"
        "Build the dataset again under a new version, or restore the one recorded."
    )


def test_everything_that_contradicts_the_record_is_listed_at_once(folder):
    record(folder, dataset_version="dataset_v0", num_samples=45231, dataset_hash=OTHER)
    assert mismatch() == (
        "artifacts/datasets/dataset_v1/data.jsonl: not the data that metadata.json beside it "
        "describes:\n"
        "  dataset_version: recorded 'dataset_v0', found 'dataset_v1'\n"
        "  num_samples: recorded 45231, found 3\n"
        f"  dataset_hash: recorded '{OTHER}', found '{SHA256}'\n"
        "Build the dataset again under a new version, or restore the one recorded."
    )


def test_one_changed_byte_is_found(folder):
    data = (folder / "data.jsonl").read_bytes()
    (folder / "data.jsonl").write_bytes(data.replace(b"one", b"One"))
    assert "  dataset_hash: recorded '" in mismatch()


@pytest.mark.parametrize("value", [True, "3", 3.0, None])
def test_a_recorded_number_of_samples_that_is_no_whole_number_is_a_corrupt_file(value, folder):
    record(folder, num_samples=value)
    with pytest.raises(CorruptFileError) as caught:
        resolve_dataset("dataset_v1")
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/metadata.json: num_samples: expected a whole number, "
        f"found {value!r}. Left as found."
    )


def test_a_record_that_cannot_be_read_is_a_corrupt_file(folder):
    (folder / "metadata.json").write_bytes(b'{"num_samples": 3')
    with pytest.raises(CorruptFileError) as caught:
        resolve_dataset("dataset_v1")
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/metadata.json: line 1, column 18: not valid JSON "
        "(Expecting ',' delimiter). Left as found."
    )


# --- What is not there ---------------------------------------------------------------------------


def test_a_dataset_that_is_not_there_is_named_with_the_nearest_that_are(project):
    for name in ("dataset_v2", "dataset_v10", "other", "zzz"):
        (project / "artifacts/datasets" / name).mkdir()
    (project / "artifacts/datasets/dataset_v123").write_bytes(b"a file is no dataset")
    with pytest.raises(FileNotFoundError) as caught:
        resolve_dataset("dataset_v12")
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v12/data.jsonl: no dataset version 'dataset_v12'. "
        "There are, nearest first: dataset_v2, dataset_v1, dataset_v10."
    )


def test_without_any_dataset_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        resolve_dataset("dataset_v1")
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/data.jsonl: no dataset version 'dataset_v1'. "
        "There are, nearest first: none."
    )


def test_data_that_is_a_folder_is_named(folder):
    (folder / "data.jsonl").unlink()
    (folder / "data.jsonl").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        resolve_dataset("dataset_v1")
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/data.jsonl: expected a file, found a folder."
    )


def test_a_dataset_without_data_is_named(folder):
    (folder / "data.jsonl").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        resolve_dataset("dataset_v1")
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/data.jsonl: no such file, though its dataset version has "
        "a folder."
    )


def test_a_file_in_the_place_of_a_dataset_is_no_dataset(project):
    (project / "artifacts/datasets/dataset_v3").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no dataset version 'dataset_v3'"):
        resolve_dataset("dataset_v3")


@pytest.mark.parametrize("name", ["", ".", "..", "../datasets/dataset_v1", "dataset_v1/", None, 1])
@pytest.mark.usefixtures("project")
def test_a_dataset_version_that_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match=r"^dataset_version: expected a name of at most"):
        resolve_dataset(name)


def test_who_waits_is_told_of_every_block(folder, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 20)
    told = []
    assert count_and_hash(folder / "data.jsonl", progress=told.append) == (3, SHA256)
    assert told == [20, 20, 10]


def test_whoever_waits_is_told_how_far_it_is(tmp_path, monkeypatch, caplog):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"x" * 64)
    monkeypatch.setattr(module, "BLOCK_BYTES", 16)
    monkeypatch.setattr(module, "PROGRESS_SECONDS", -1.0)
    with caplog.at_level(logging.INFO, logger="src.training.dataset"):
        count_and_hash(path)
    told = [message.split(" read, ")[0] for message in caplog.messages]
    assert told == [f"{path}: {share} %" for share in (25, 50, 75, 100)]
