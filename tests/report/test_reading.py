"""Reading the records of all models for the report."""

import json

import pytest

from src.artifacts import Artifacts
from src.report.reading import read_files
from src.training.pipeline import run_training_pipeline
from tests.stores import delete
from tests.trainers import trained

CONFIG_FILE = "configs/training/mistral_finetune.yaml"
EVALUATION = "evaluations/model_v1/evaluation.json"


@pytest.fixture
def models(artifacts):
    """`model_v1` and `model_v2`, registered in this order, on each back end in turn."""
    for version in ("model_v1", "model_v2"):
        run_training_pipeline(CONFIG_FILE, version, artifacts_dir=artifacts.root)
    return artifacts


def versions(files):
    return [(model.version, model.is_registered) for model in files.models]


def test_the_newest_model_comes_first_with_all_of_its_record(models):
    files = read_files(models)
    assert versions(files) == [("model_v2", True), ("model_v1", True)]
    for model in files.models:
        assert model.record.statement.subject == "metadata.json"
        assert model.record.evaluation["model_version"] == model.version
        assert model.evaluation_statement.subject == "evaluation.json"
    assert (files.root, files.audit, files.all_faults) == ("artifacts", None, [])


@pytest.mark.parametrize(
    ("key", "part"),
    [
        (EVALUATION, "evaluation"),
        ("models/model_v1/provenance.json", "statement"),
        ("evaluations/model_v1/provenance.json", "evaluation_statement"),
    ],
)
def test_a_damaged_file_is_a_fault_of_its_model_and_hides_no_other_file(models, key, part):
    (models.root / key).replace(b"{")
    other, damaged = read_files(models).models
    assert other.faults == ()
    [fault] = damaged.faults
    assert fault.startswith(f"artifacts/{key}: line 1, column 2: not valid JSON ")
    parts = {
        "evaluation": damaged.record.evaluation,
        "statement": damaged.record.statement,
        "evaluation_statement": damaged.evaluation_statement,
    }
    assert [name for name, value in parts.items() if value is None] == [part]


def test_without_a_readable_registry_the_models_are_those_with_a_folder(models):
    models.registry.replace(b"{")
    (models.root / "models/model_v1/metadata.json").replace(b"[]")
    files = read_files(models)
    assert versions(files) == [("model_v1", False), ("model_v2", False)]
    assert [model.record is None for model in files.models] == [True, False]
    assert [fault.partition(": ")[0] for fault in files.all_faults] == [
        "artifacts/models/registry.json",
        "artifacts/models/model_v1/metadata.json",
    ]


def test_a_folder_without_metadata_is_no_model(models):
    (models.root / "models/model_v3/provenance.json").replace(b"{")
    assert len(read_files(models).models) == 2


@pytest.mark.parametrize("name", ["metadata.json", "provenance.json"])
def test_a_file_that_a_registered_model_lost_is_a_fault(models, name):
    delete(models.root / "models/model_v1" / name)
    other, lost = read_files(models).models
    assert (other.faults, lost.record.metadata["model_version"]) == ((), "model_v1")
    assert lost.faults == (
        f"artifacts/models/model_v1/{name}: no such file, but the model is registered. Restore it "
        "from a backup.",
    )


def test_a_model_that_is_not_finished_has_no_fault(models):
    path = models.registry
    registry = json.loads(path.read(1 << 20))
    path.replace(json.dumps({"models": registry["models"][1:]}).encode())
    delete(models.root / "models/model_v1/provenance.json")
    delete(models.root / "evaluations/model_v2/evaluation.json")
    files = read_files(models)
    assert versions(files) == [("model_v1", False), ("model_v2", True)]
    assert files.all_faults == []


def test_damaged_verdicts_are_a_fault_of_no_model(models):
    (models.root / "reports/verdicts.json").replace(b'{"audited_on": 3}')
    files = read_files(models)
    assert files.audit is None
    assert files.faults == (
        "artifacts/reports/verdicts.json: audited_on: expected a time, found 3. Left as found.",
    )


def test_a_root_without_models_has_none(artifacts):
    assert read_files(artifacts).models == ()


# --- Trained models ------------------------------------------------------------------------------


@pytest.fixture
def history(project):
    """The path of the history of a trained model."""
    run_training_pipeline(trained(steps=5), "model_v1")
    return project / "artifacts/models/model_v1/training.jsonl"


def test_a_trained_model_has_the_losses_of_its_history(history):
    [model] = read_files(Artifacts.open("artifacts")).models
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert model.losses == tuple((line["step"], line["loss"]) for line in lines)
    assert len(model.losses) == 5


def test_a_page_has_a_bounded_number_of_losses(history, monkeypatch):
    monkeypatch.setattr("src.report.reading.MAX_LOSSES", 3)
    [model] = read_files(Artifacts.open("artifacts")).models
    assert [step for step, _ in model.losses] == [1, 4, 5]


@pytest.mark.parametrize("damage", ["edited", "a folder"])
def test_a_history_that_is_not_as_recorded_is_a_fault(history, damage):
    if damage == "edited":
        history.write_text(history.read_text().replace("1", "2"))
    else:
        history.unlink()
        history.mkdir()
    [model] = read_files(Artifacts.open("artifacts")).models
    assert model.losses == ()
    assert model.faults == (
        "artifacts/models/model_v1/training.jsonl: not as recorded; see llm-train verify.",
    )


def test_a_deleted_history_is_a_fault(history):
    history.unlink()
    [model] = read_files(Artifacts.open("artifacts")).models
    assert len(model.faults) == 1
