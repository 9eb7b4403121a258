"""What the tests of lineage share: two models on two datasets, made once and copied."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from src.training.pipeline import run_training_pipeline
from tests.examples import CONFIG, DATA

OTHER_DATA = b'{"text": "four"}\n{"text": "five"}\n{"text": "six!"}\n'


def add_dataset(artifacts: Path, name: str, data: bytes) -> None:
    folder = artifacts / "datasets" / name
    folder.mkdir(parents=True)
    (folder / "data.jsonl").write_bytes(data)
    record = {
        "dataset_version": name,
        "num_samples": data.count(b"\n"),
        "dataset_hash": sha256(data).hexdigest(),
    }
    (folder / "metadata.json").write_text(json.dumps(record))


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A project with `model_v1` on `dataset_v1`, `model_v2` on `dataset_v2`; not to be changed."""
    folder = tmp_path_factory.mktemp("lineage")
    add_dataset(folder / "artifacts", "dataset_v1", DATA)
    add_dataset(folder / "artifacts", "dataset_v2", OTHER_DATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("one.yaml").write_text(CONFIG)
        other = CONFIG.replace("dataset_v1", "dataset_v2").replace("epochs: 3", "epochs: 4")
        Path("two.yaml").write_text(other)
        run_training_pipeline("one.yaml", "model_v1")
        run_training_pipeline("two.yaml", "model_v2")
    return folder


@pytest.fixture
def models(made, tmp_path, monkeypatch) -> Path:
    """A copy of the project with both models, which is the working directory."""
    folder = tmp_path / "models"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder
