"""Artifacts that an earlier commit wrote: later code verifies them and changes no byte of them."""

import json
import shutil

import pytest

from src.artifacts import Artifacts
from src.lineage.verify import verdict, verify_all
from src.training.grids import write_grid
from src.training.pipeline import run_training_pipeline
from tests.conftest import BACK_ENDS, REPOSITORY, stored

OLD = REPOSITORY / "tests/fixtures/953db8b"
ONE, TWO = "configs/training/one.yaml", "configs/training/two.yaml"

# The model of each config and given version, in the order of registration.
MODELS = {
    (ONE, "model_v1"): "model_v1",
    (TWO, None): "meta-llama-Llama-3.1-8B-Instruct-dataset_v2-3558f61c0ad5",
    (ONE, None): "mistral-7b-dataset_v1-381570cb7ffa",
    (TWO, "llama_v1"): "llama_v1",
    ("artifacts/sweeps/rates-d2e4428ca95f.yaml", None): "mistral-7b-dataset_v1-6438efc124f6",
    ("artifacts/sweeps/rates-3673a9a3c9dd.yaml", None): "mistral-7b-dataset_v1-0815c9e3afd6",
    ("artifacts/sweeps/rates-b32d937bc950.yaml", None): "mistral-7b-dataset_v1-7cd81f96ace9",
    ("artifacts/sweeps/rates-79f944fbce85.yaml", None): "mistral-7b-dataset_v1-35766bb0c4d6",
}


@pytest.fixture(params=BACK_ENDS)
def old(request, tmp_path, monkeypatch) -> Artifacts:
    """A copy of the old artifacts on each back end; the configs are in the working directory."""
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    monkeypatch.chdir(folder)
    return stored(folder / "artifacts", request.param)


@pytest.fixture
def everything(old, tmp_path, tree, files):
    """Return every file of the copy, and of the store: its path or key, and its bytes."""

    def everything():
        return tree(tmp_path / "old"), files(old)

    on_disk, in_store = everything()
    assert len(on_disk) == 45
    assert {key for key in on_disk if key.startswith("artifacts/")} == {
        f"artifacts/{key}" for key in (*in_store, "models/registry.json.lock")
    }
    return everything


def test_old_models_match(old, everything):
    before = everything()
    found = dict(verify_all(old.root))
    assert {version: verdict(checks) for version, checks in found.items()} == dict.fromkeys(
        MODELS.values(), "MATCH"
    )
    notes = {(check.what, check.note) for checks in found.values() for check in checks}
    assert {note for note in notes if note[1]} == {
        (
            "code",
            "Made by commit 953db8b02abba25e2a1432f63814831c85c87a52. "
            "The code changed since; the results agree.",
        )
    }
    assert everything() == before


@pytest.mark.parametrize(("config", "version"), MODELS)
def test_a_run_of_an_old_model_returns_its_evaluation_and_changes_nothing(
    config, version, old, everything, warnings
):
    before = everything()
    recorded = OLD / "artifacts/evaluations" / MODELS[config, version] / "evaluation.json"
    evaluation = run_training_pipeline(config, version, artifacts_dir=old.root)
    assert evaluation == json.loads(recorded.read_bytes())
    assert everything() == before
    others = [message for _, message in warnings if "nothing pins its data" not in message]
    assert others == []


def test_runs_of_all_old_models_change_nothing(old, everything):
    before = everything()
    for config, version in reversed(MODELS):
        run_training_pipeline(config, version, artifacts_dir=old.root)
    assert everything() == before


def test_an_old_grid_has_the_same_files_and_changes_nothing(old, everything):
    before = everything()
    sweep = [config for config, _ in MODELS if config.startswith("artifacts/sweeps/")]
    assert len(sweep) == 4
    assert list(write_grid("configs/sweeps/rates.yaml", old)) == sweep
    assert everything() == before
