"""Search for the models of a file, by its digest."""

import shutil
from pathlib import Path

import pytest

from src.errors import CorruptFileError
from src.lineage.files import FileUse, trace_file
from src.training.pipeline import run_training_pipeline
from tests.examples import DATA, DATA_SHA256
from tests.lineage.damage import EVALUATION, METADATA, STATEMENT, read, remove, write
from tests.trainers import CONFIG_PATH, write_config, write_module

MODEL = Path("artifacts/models/model_v1")


def uses(path, root="artifacts"):
    found = trace_file(path, root)
    return [(use.model_version, use.role, use.file) for use in found.uses]


@pytest.fixture
def trained(project):
    """`model_v1`, trained from `base/w.bin`."""
    write_module()
    Path("base").mkdir()
    Path("base/w.bin").write_bytes(b"base")
    write_config({"use": "mine:train", "base_model": ["base/*"]}, {"use": "mine:evaluate"})
    run_training_pipeline(CONFIG_PATH, "model_v1")


@pytest.mark.parametrize(
    ("file", "role", "name"),
    [
        ("artifacts/models/model_v1/weights/adapter/weights.json", "weights", None),
        ("artifacts/models/model_v1/training.jsonl", "history", None),
        ("artifacts/models/model_v1/metadata.json", "metadata", None),
        ("artifacts/models/model_v1/provenance.json", "provenance", None),
        ("artifacts/evaluations/model_v1/evaluation.json", "evaluation", "evaluation.json"),
        ("base/w.bin", "base model", "base/w.bin"),
        (CONFIG_PATH, "config", CONFIG_PATH),
    ],
)
def test_a_copy_of_a_file_is_found_with_its_role_and_its_recorded_path(trained, file, role, name):
    shutil.copy(file, "copy")
    name = name or str(Path(file).relative_to(MODEL))
    assert uses("copy") == [("model_v1", role, name)]


def test_a_file_of_several_models_is_found_in_each(models):
    Path("copy.jsonl").write_bytes(DATA)
    run_training_pipeline("one.yaml", "model_v3", artifacts_dir=models.root)
    found = trace_file("copy.jsonl", models.root)
    uri = "datasets/dataset_v1/data.jsonl"
    assert found.to_dict() == {
        "file": "copy.jsonl",
        "sha256": DATA_SHA256,
        "uses": [
            {"model_version": "model_v1", "role": "dataset", "file": uri},
            {"model_version": "model_v3", "role": "dataset", "file": uri},
        ],
        "unknown": [],
    }


def test_a_file_that_no_record_names_has_no_models(models):
    Path("other").write_bytes(b"other")
    found = trace_file("other", models.root)
    assert (found.uses, found.unknown) == ((), ())
    assert found.sha256 == "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"


def test_a_changed_byte_makes_it_another_file(trained):
    weights = MODEL / "weights/samples.txt"
    assert uses(weights) == [("model_v1", "weights", "weights/samples.txt")]
    Path("copy").write_bytes(weights.read_bytes() + b" ")
    assert uses("copy") == []


def test_a_model_without_a_statement_is_unknown_and_found_by_its_metadata(models):
    Path("copy").write_bytes(read(models, METADATA))
    remove(models, STATEMENT)
    found = trace_file("copy", models.root)
    assert found.uses == (FileUse(model_version="model_v1", role="metadata", file="metadata.json"),)
    assert found.unknown == ("model_v1",)


@pytest.mark.parametrize("key", [EVALUATION, STATEMENT])
def test_a_damaged_file_of_a_record_stops_the_search_and_is_named(models, key):
    Path("other").write_bytes(b"other")
    write(models, key, b"[]")
    with pytest.raises(CorruptFileError) as caught:
        trace_file("other", models.root)
    assert str(caught.value) == (
        f"artifacts/{key}: expected a JSON object, found a list. Left as found."
    )


def test_something_other_than_a_regular_file_is_an_error_that_names_it(models):
    with pytest.raises(FileNotFoundError):
        trace_file("missing", models.root)
    with pytest.raises(CorruptFileError) as caught:
        trace_file(".", models.root)
    assert str(caught.value) == ".: expected a regular file, found a folder. Left as found."
