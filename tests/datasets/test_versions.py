"""Lists of dataset versions."""

from src.artifacts import Artifacts
from src.datasets.adding import add_dataset
from src.datasets.versions import DatasetSummary, list_datasets
from tests.examples import DATA, DATA_SHA256

SUMMARY = DatasetSummary(
    dataset_version="dataset_v1",
    num_bytes=len(DATA),
    num_samples=3,
    dataset_hash=DATA_SHA256,
)


def test_versions_are_listed_by_name_with_what_is_recorded(artifacts):
    add_dataset([b"{}\n"], "a", artifacts.root, source="hand")
    assert list_datasets(artifacts) == [
        DatasetSummary(
            dataset_version="a",
            num_bytes=3,
            num_samples=1,
            dataset_hash="ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356",
            source="hand",
        ),
        SUMMARY,
    ]


def test_a_version_without_files_or_with_a_damaged_record_is_listed(artifacts):
    (artifacts.datasets / "empty/README").replace(b"")
    (artifacts.datasets / "bad/metadata.json").replace(b"{")
    bad, first, empty = list_datasets(artifacts)
    assert bad.fault.startswith("artifacts/datasets/bad/metadata.json: line 1, column 2: not valid")
    assert first == SUMMARY
    assert empty == DatasetSummary(dataset_version="empty", num_bytes=None)


def test_values_of_other_types_and_folders_that_are_no_versions_are_left_out(artifacts):
    (artifacts.datasets / "x/metadata.json").replace(
        b'{"num_samples": true, "dataset_hash": 1, "config": {"source": []}}'
    )
    (artifacts.datasets / ".hidden.tmp/data.jsonl").replace(b"{}")
    assert list_datasets(artifacts) == [
        SUMMARY,
        DatasetSummary(dataset_version="x", num_bytes=None),
    ]


def test_there_are_none_without_a_folder(artifacts):
    assert list_datasets(Artifacts(artifacts.root / "none")) == []
