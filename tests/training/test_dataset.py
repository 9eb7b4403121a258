import json

import pytest

from src.errors import CorruptFileError
from src.storage import StorePath
from src.training.dataset import (
    DatasetMismatchError,
    DatasetVersion,
    resolve_dataset,
    unpinned_reason,
)
from tests.examples import DATA
from tests.stores import delete

SHA256 = "0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143"
OTHER = "0" * 64


@pytest.fixture
def datasets(artifacts):
    """The folder of the datasets, on each back end in turn; it holds `dataset_v1`."""
    return artifacts.datasets


@pytest.fixture
def dataset(datasets):
    """The folder of `dataset_v1`."""
    return datasets / "dataset_v1"


def record(dataset, **fields):
    (dataset / "metadata.json").replace(json.dumps(fields).encode())


def mismatch(datasets):
    with pytest.raises(DatasetMismatchError) as caught:
        resolve_dataset("dataset_v1", datasets)
    return str(caught.value)


def test_a_dataset_has_a_name_a_path_a_number_of_samples_and_digests(datasets):
    assert resolve_dataset("dataset_v1", datasets) == DatasetVersion(
        name="dataset_v1",
        path="artifacts/datasets/dataset_v1/data.jsonl",
        num_samples=3,
        sha256=SHA256,
        metadata_sha256="602445c3e11bcab7e4bfd182cd86a336e868aa81c640006c24bbdecb06a3e20b",
    )


def test_the_default_folder_is_below_the_working_directory(project):
    found = resolve_dataset("dataset_v1")
    assert (found.path, found.sha256) == ("artifacts/datasets/dataset_v1/data.jsonl", SHA256)
    assert resolve_dataset("dataset_v1", project / "artifacts/datasets") == DatasetVersion(
        name="dataset_v1",
        path=f"{project}/artifacts/datasets/dataset_v1/data.jsonl",
        num_samples=3,
        sha256=SHA256,
        metadata_sha256=found.metadata_sha256,
    )


def test_resolving_a_dataset_writes_nothing(artifacts, files, project, tree):
    before, on_disk = files(artifacts), tree(project)
    resolve_dataset("dataset_v1", artifacts.datasets)
    assert files(artifacts) == before
    assert tree(project) == on_disk


def test_the_hash_dataset_argument_counts_and_hashes_the_data(datasets, dataset):
    seen = []

    def hash_dataset(path):
        seen.append(path)
        return 3, SHA256

    (dataset / "data.jsonl").replace(b"not read")
    found = resolve_dataset("dataset_v1", datasets, hash_dataset=hash_dataset)
    assert (found.num_samples, found.sha256) == (3, SHA256)
    assert seen == [dataset / "data.jsonl"]


# --- The metadata.json of the dataset ------------------------------------------------------------


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
def test_data_that_matches_its_metadata_is_found(fields, datasets, dataset):
    record(dataset, **fields)
    assert resolve_dataset("dataset_v1", datasets).sha256 == SHA256


def test_data_without_metadata_is_found(datasets, dataset):
    delete(dataset / "metadata.json")
    found = resolve_dataset("dataset_v1", datasets)
    assert (found.num_samples, found.metadata_sha256) == (3, None)


@pytest.mark.parametrize("prefix", ["", "sha256:", "SHA256:"])
def test_data_with_another_digest_than_recorded_is_refused_with_both(prefix, datasets, dataset):
    record(dataset, num_samples=3, dataset_hash=prefix + OTHER)
    assert mismatch(datasets) == (
        "artifacts/datasets/dataset_v1/data.jsonl: does not match its metadata.json:\n"
        f"  dataset_hash: recorded '{OTHER}', found '{SHA256}'\n"
        "Build the dataset again under a new version, or restore the recorded data."
    )


def test_one_error_lists_every_mismatch(datasets, dataset):
    record(dataset, dataset_version="dataset_v0", num_samples=45231, dataset_hash=OTHER)
    assert mismatch(datasets) == (
        "artifacts/datasets/dataset_v1/data.jsonl: does not match its metadata.json:\n"
        "  dataset_version: recorded 'dataset_v0', found 'dataset_v1'\n"
        "  num_samples: recorded 45231, found 3\n"
        f"  dataset_hash: recorded '{OTHER}', found '{SHA256}'\n"
        "Build the dataset again under a new version, or restore the recorded data."
    )


def test_one_changed_byte_is_a_mismatch(datasets, dataset):
    (dataset / "data.jsonl").replace(DATA.replace(b"one", b"One"))
    assert "  dataset_hash: recorded '" in mismatch(datasets)


@pytest.mark.parametrize("value", [True, "3", 3.0, None])
def test_a_recorded_number_of_samples_that_is_not_an_integer_is_a_corrupt_file(
    value, datasets, dataset
):
    record(dataset, num_samples=value)
    with pytest.raises(CorruptFileError) as caught:
        resolve_dataset("dataset_v1", datasets)
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/metadata.json: num_samples: expected an integer, "
        f"found {value!r}. Left as found."
    )


def test_metadata_that_is_not_json_is_a_corrupt_file(datasets, dataset):
    (dataset / "metadata.json").replace(b'{"num_samples": 3')
    with pytest.raises(CorruptFileError) as caught:
        resolve_dataset("dataset_v1", datasets)
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/metadata.json: line 1, column 18: not valid JSON "
        "(Expecting ',' delimiter). Left as found."
    )


# --- Missing datasets ----------------------------------------------------------------------------


def not_found(datasets, dataset_version="dataset_v1"):
    with pytest.raises(FileNotFoundError) as caught:
        resolve_dataset(dataset_version, datasets)
    return str(caught.value)


def test_a_missing_dataset_is_reported_although_the_folder_cannot_be_listed(datasets, monkeypatch):
    def refused(*_, **__):
        raise PermissionError

    monkeypatch.setattr(StorePath, "folders", refused)
    assert not_found(datasets, "dataset_v12") == (
        "artifacts/datasets/dataset_v12/data.jsonl: no dataset version 'dataset_v12'. "
        "Nearest: none. To add one: `llm-train dataset add FILE dataset_v12`."
    )


def test_the_error_for_a_missing_dataset_has_the_nearest_versions(datasets):
    for name in ("dataset_v2", "dataset_v10", "other", "zzz"):
        (datasets / name / "README").replace(b"")
    (datasets / "dataset_v123").replace(b"a file is not a dataset")
    assert not_found(datasets, "dataset_v12") == (
        "artifacts/datasets/dataset_v12/data.jsonl: no dataset version 'dataset_v12'. "
        "Nearest: dataset_v2, dataset_v1, dataset_v10. To add one: `llm-train dataset add FILE "
        "dataset_v12`."
    )


def test_the_error_without_any_dataset_says_none(artifacts):
    assert not_found(artifacts.root / "none") == (
        "artifacts/none/dataset_v1/data.jsonl: no dataset version 'dataset_v1'. Nearest: none. To "
        "add one: `llm-train dataset add FILE dataset_v1`."
    )


def test_the_error_without_a_datasets_folder_says_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        resolve_dataset("dataset_v1")
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/data.jsonl: no dataset version 'dataset_v1'. Nearest: none. "
        "To add one: `llm-train dataset add FILE dataset_v1`."
    )


def test_a_folder_in_place_of_the_data_is_refused(datasets, dataset):
    delete(dataset / "data.jsonl")
    (dataset / "data.jsonl/part").replace(DATA)
    assert not_found(datasets) == (
        "artifacts/datasets/dataset_v1/data.jsonl: expected a regular file, found a folder. "
        "Left as found."
    )


def test_a_circle_of_links_in_place_of_the_data_is_refused(project):
    path = project / "artifacts/datasets/dataset_v1/data.jsonl"
    path.unlink()
    path.symlink_to(path)
    assert not_found("artifacts/datasets") == (
        "artifacts/datasets/dataset_v1/data.jsonl: its links form a circle. Left as found."
    )


def test_the_error_for_a_dataset_without_data_names_what_is_in_its_folder(datasets, dataset):
    delete(dataset / "data.jsonl")
    end = "To add a file of JSON lines as a dataset version: `llm-train dataset add FILE NAME`."
    start = "artifacts/datasets/dataset_v1/data.jsonl: no such file."
    assert not_found(datasets) == f"{start} The folder has 'metadata.json'. {end}"
    for name in ("train.jsonl", "b", "c", "d", "x/y"):
        (dataset / name).replace(b"")
    names = "'b', 'c', 'd', 'metadata.json', 'train.jsonl', ..."
    assert not_found(datasets) == f"{start} The folder has {names}. {end}"


def test_the_error_for_a_folder_without_files_says_so(project):
    (project / "artifacts/datasets/empty").mkdir()
    message = not_found("artifacts/datasets", "empty")
    assert "no such file. The folder has no regular files. To add" in message


# --- A dataset that nothing pins -----------------------------------------------------------------


def test_a_dataset_with_a_metadata_json_is_pinned(datasets):
    assert unpinned_reason(resolve_dataset("dataset_v1", datasets)) is None


def test_the_reason_for_a_dataset_without_metadata_json_has_the_command_that_pins_it(
    datasets, dataset
):
    delete(dataset / "metadata.json")
    assert unpinned_reason(resolve_dataset("dataset_v1", datasets)) == (
        "artifacts/datasets/dataset_v1/data.jsonl: the dataset has no metadata.json, so nothing "
        "pins its data: a changed line makes the models trained on it a MISMATCH. To pin it: "
        "`llm-train dataset add artifacts/datasets/dataset_v1/data.jsonl dataset_v1`."
    )


def test_that_command_names_another_artifacts_root(project):
    (project / "artifacts/datasets/dataset_v1/metadata.json").unlink()
    (project / "artifacts").rename(project / "a root")
    reason = unpinned_reason(resolve_dataset("dataset_v1", "a root/datasets"))
    assert reason.endswith(
        "`llm-train dataset add 'a root/datasets/dataset_v1/data.jsonl' dataset_v1 "
        "--artifacts-dir 'a root'`."
    )


def test_a_file_in_place_of_a_dataset_is_not_a_dataset(datasets):
    (datasets / "dataset_v3").replace(b"")
    assert "no dataset version 'dataset_v3'" in not_found(datasets, "dataset_v3")


@pytest.mark.parametrize("name", ["", ".", "..", "../datasets/dataset_v1", "dataset_v1/", None, 1])
def test_an_invalid_dataset_version_is_refused(name, datasets):
    with pytest.raises(ValueError, match=r"^dataset_version: expected a name of at most"):
        resolve_dataset(name, datasets)


def test_data_may_lie_on_another_disk(project, tmp_path):
    data = project / "artifacts/datasets/dataset_v1/data.jsonl"
    data.replace(tmp_path / "elsewhere.jsonl")
    data.symlink_to(tmp_path / "elsewhere.jsonl")
    assert resolve_dataset("dataset_v1").sha256 == SHA256
