"""Tests of the check of the dataset versions."""

from pathlib import Path

from src.artifacts import Artifacts
from src.diagnosis.datasets import check_datasets
from src.diagnosis.finding import Finding
from tests.examples import CONFIG

CONFIGS = Path("configs/training")
DATASETS = Path("artifacts/datasets")


def found():
    return [(each.level, each.found) for each in check_datasets(Artifacts.open(), CONFIGS)]


def test_pinned_datasets_that_configs_name_are_counted(project):
    assert list(check_datasets(Artifacts.open(), CONFIGS)) == [
        Finding(check="datasets", level="OK", found="1 version, all pinned.")
    ]


def test_what_is_not_pinned_has_no_data_or_is_damaged_is_named(project):
    (DATASETS / "dataset_v1/metadata.json").unlink()
    (DATASETS / "empty").mkdir()
    (DATASETS / "bad").mkdir()
    (DATASETS / "bad/data.jsonl").write_text("{}\n")
    (DATASETS / "bad/metadata.json").write_text("{")
    assert found() == [
        (
            "WARNING",
            "artifacts/datasets/bad/metadata.json: line 1, column 2: not valid JSON (Expecting "
            "property name enclosed in double quotes). Left as found.",
        ),
        ("WARNING", "without a data.jsonl: empty."),
        ("WARNING", "no digest is recorded, so data can change: dataset_v1."),
    ]


def test_a_dataset_that_a_config_names_and_that_is_not_there_is_named(project):
    (CONFIGS / "other.yaml").write_text(CONFIG.replace("dataset_v1", "datset_v1"))
    (CONFIGS / "faulty.yaml").write_text("dataset_version: none\n")
    assert found() == [("WARNING", "named by configs, and not there: datset_v1.")]


def test_without_datasets_there_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found() == [("OK", "0 versions, all pinned.")]
