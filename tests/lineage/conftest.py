"""Fixtures of the tests of lineage: two models on two datasets, made once and copied."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from src.artifacts import Artifacts
from src.training.pipeline import run_training_pipeline
from tests.conftest import BACK_ENDS, stored
from tests.examples import CONFIG, DATA

OTHER_DATA = b'{"text": "four"}\n{"text": "five"}\n{"text": "six!"}\n'


def add_dataset(artifacts: Path, name: str, data: bytes) -> None:
    folder = artifacts / "datasets" / name
    folder.mkdir(parents=True)
    (folder / "data.jsonl").write_bytes(data)
    metadata = {
        "dataset_version": name,
        "num_samples": data.count(b"\n"),
        "dataset_hash": sha256(data).hexdigest(),
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A project with `model_v1` on `dataset_v1` and `model_v2` on `dataset_v2`; never changed."""
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


@pytest.fixture(params=BACK_ENDS)
def models(request, made, tmp_path, monkeypatch) -> Artifacts:
    """The artifacts root of a copy of the project, on each back end in turn.

    The configs `one.yaml` and `two.yaml` are in the working directory. There is a folder
    `artifacts` only if the back end is the folder.
    """
    folder = tmp_path / "models"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    artifacts = stored(folder / "artifacts", request.param)
    if request.param != "folder":
        shutil.rmtree(folder / "artifacts")
    return artifacts
