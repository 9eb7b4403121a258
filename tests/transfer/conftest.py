"""Fixtures of the tests of copies: a root with files of every kind, made once, and copied."""

import shutil
from pathlib import Path

import pytest

from src.artifacts import Artifacts
from src.evaluation.evaluator import evaluate_model
from src.training.grids import write_variant
from src.training.leaderboard import write_leaderboard
from src.training.pipeline import run_training_pipeline
from tests.examples import CONFIG
from tests.lineage.conftest import add_dataset
from tests.trainers import trained


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A project; its root has a simulated and a trained model, one more by a sweep, and two
    evaluations of each of the first two. One dataset has no metadata.json. Never changed.
    """
    folder = tmp_path_factory.mktemp("transfer")
    add_dataset(folder / "artifacts", "dataset_v1", b'{"text": "one"}\n{"text": "two"}\n')
    (folder / "artifacts/datasets/bare").mkdir()
    (folder / "artifacts/datasets/bare/data.jsonl").write_bytes(b'{"text": "bare"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("one.yaml").write_text(CONFIG)
        run_training_pipeline("one.yaml", "model_v1")
        run_training_pipeline(trained(steps=1), "trained_v1")
        artifacts = Artifacts.open()
        variant = write_variant("one.yaml", ["epochs=7", "dataset_version=bare"], artifacts)
        run_training_pipeline(str(variant), "model_v2")
        write_leaderboard({"leaderboard": [], "failed": []}, "sweep", [str(variant)], artifacts)
        for version in ("model_v1", "trained_v1"):
            evaluate_model(version, metrics=lambda _: {"length": 4.5}, replace=True)
    return folder


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """The artifacts root of a project with one trained model; in the working directory."""
    folder = tmp_path / "small"
    add_dataset(folder / "artifacts", "dataset_v1", b'{"text": "one"}\n')
    monkeypatch.chdir(folder)
    run_training_pipeline(trained(steps=1), "trained_v1")
    return Path("artifacts")


@pytest.fixture
def source(made, tmp_path, monkeypatch) -> Path:
    """The artifacts root of a copy of the project, `artifacts` below the working directory."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return Path("artifacts")


def record(folder: Path) -> dict[str, bytes]:
    """Return the files that are copied: all but locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", ".tmp"))
        if not str(path.relative_to(folder)).startswith((".", "reports"))
    }
