"""The prediction of a run by the core alone; tests/flows/test_steps.py predicts whole runs."""

from pathlib import Path

import pytest

from src.errors import CorruptFileError
from src.prediction import Change, first_difference, predict
from src.records.metadata import Difference, ModelVersionConflict
from src.training.pipeline import run_training_pipeline
from tests.examples import CONFIG, DATA_SHA256
from tests.trainers import trained

FILES = [
    "artifacts/evaluations/model_v1/evaluation.json",
    "artifacts/evaluations/model_v1/provenance.json",
    "artifacts/models/model_v1/metadata.json",
    "artifacts/models/model_v1/provenance.json",
    "artifacts/models/registry.json",
]
PATH = "configs/training/mistral_finetune.yaml"


@pytest.fixture(autouse=True)
def _project(project):
    """The project as the working directory of every test."""


def fields(prediction):
    return {each.field for each in prediction.nearest.differences}


def test_the_difference_of_a_trainer_is_named():
    run_training_pipeline(trained(steps=2))
    prediction = predict(trained(steps=3))
    assert [each for each in prediction.nearest.differences if each.field != "sha256.config"] == [
        Difference("trainer.options.steps", 2, 3)
    ]
    assert prediction.unknown == "trainer mine:train"


def test_a_first_run_adds_five_files_and_has_no_nearest_model():
    prediction = predict(PATH, "model_v1")
    assert prediction.changes == tuple(Change(path=path, position=None) for path in FILES)
    assert (prediction.model_version, prediction.nearest, prediction.error) == (
        "model_v1",
        None,
        None,
    )


def test_a_prediction_writes_nothing_not_even_a_memo(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = tree(tmp_path)
    predict(PATH, settings=["epochs=4"])
    assert tree(tmp_path) == before
    assert not (tmp_path / "cache").exists()


def test_a_second_run_changes_nothing_and_does_not_differ():
    run_training_pipeline(PATH)
    prediction = predict(PATH)
    assert (prediction.changes, prediction.error) == ((), None)
    assert prediction.nearest.model_version == prediction.model_version
    assert prediction.nearest.differences == ()


def test_the_nearest_model_has_the_fewest_differences():
    run_training_pipeline(PATH, "model_v1")
    for number, (old, new) in enumerate([("epochs: 3", "epochs: 9"), ("16", "32")], start=2):
        Path("other.yaml").write_text(CONFIG.replace(old, new).replace("2e-5", "3e-5"))
        run_training_pipeline("other.yaml", f"model_v{number}")
    Path("other.yaml").write_text(CONFIG.replace("epochs: 3", "epochs: 8"))
    prediction = predict("other.yaml")
    assert prediction.nearest.model_version == "model_v1"
    assert prediction.nearest.differences[0] == Difference("training_config.epochs", 3, 8)
    assert fields(prediction) == {"training_config.epochs", "sha256.config"}


def test_other_data_is_named_by_its_digests():
    run_training_pipeline(PATH, "model_v1")
    Path("artifacts/datasets/dataset_v1/metadata.json").unlink()
    data = Path("artifacts/datasets/dataset_v1/data.jsonl")
    data.write_bytes(data.read_bytes().replace(b"one", b"two"))
    prediction = predict(PATH)
    assert prediction.nearest.model_version == "model_v1"
    found = {each.field: each for each in prediction.nearest.differences}
    assert found.keys() == {"sha256.dataset", "sha256.dataset metadata"}
    assert found["sha256.dataset"].one == DATA_SHA256
    assert found["sha256.dataset metadata"].other is None


def test_a_comment_in_the_config_is_a_difference_of_its_file_only():
    run_training_pipeline(PATH, "model_v1")
    Path(PATH).write_text(f"# Another comment.\n{CONFIG}")
    prediction = predict(PATH, "model_v1")
    assert fields(prediction) == {"sha256.config"}
    assert prediction.changes == ()


def test_an_edited_evaluation_is_replaced_from_its_first_other_byte():
    run_training_pipeline(PATH, "model_v1")
    path = Path(FILES[0])
    text = path.read_text()
    path.write_text(text.replace("0.9031", "0.9032"))
    position = text.index("0.9031") + 5
    assert predict(PATH, "model_v1").changes == (Change(path=FILES[0], position=position),)


def test_a_conflict_is_the_error_and_only_the_config_of_the_settings_is_written():
    run_training_pipeline(PATH, "model_v1")
    prediction = predict(PATH, "model_v1", settings=["epochs=4"])
    assert isinstance(prediction.error, ModelVersionConflict)
    [change] = prediction.changes
    assert change.path.startswith("artifacts/sweeps/mistral_finetune-")
    assert fields(prediction) == {"training_config.epochs", "sha256.config"}


def test_a_registry_that_cannot_be_parsed_is_the_error_and_there_is_no_nearest_model():
    run_training_pipeline(PATH, "model_v1")
    Path(FILES[4]).write_text("{")
    prediction = predict(PATH, "model_v1")
    assert isinstance(prediction.error, CorruptFileError)
    assert (prediction.nearest, prediction.changes) == (None, ())


def test_a_config_that_is_not_valid_is_the_error():
    Path(PATH).write_text("epochs: 3\n")
    prediction = predict(PATH)
    assert (prediction.model_version, prediction.nearest, prediction.changes) == (None, None, ())
    assert "missing key 'base_model'" in str(prediction.error)


@pytest.mark.parametrize(
    ("one", "other", "position"),
    [(b"", b"", 0), (b"abc", b"abd", 2), (b"abc", b"xbc", 0), (b"ab", b"abc", 2), (b"ab", b"b", 0)],
)
def test_the_first_difference_of_two_texts_is_found(one, other, position):
    assert first_difference(one, other) == first_difference(other, one) == position
