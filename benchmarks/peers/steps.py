"""The five steps as plain functions on files below the current folder.

The plain script, the Prefect flow and Kedro wrap these functions, so a difference between two of
them is due to the tool.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

KEYS = {
    "base_model": str,
    "dataset_version": str,
    "learning_rate": float,
    "epochs": int,
    "batch_size": int,
}
BLOCK = 1 << 20
REGISTRY = Path("artifacts/models/registry.json")


def metadata_path(model_version: str) -> Path:
    """Return the path of a model's metadata."""
    return Path("artifacts/models", model_version, "metadata.json")


def load_config(path: str | Path) -> dict[str, Any]:
    """Step 1: parse the config. The model version is the stem of the file."""
    path = Path(path)
    config = yaml.safe_load(path.read_text())
    for key, kind in KEYS.items():
        if not isinstance(config.get(key), kind):
            raise ValueError(f"{path}: {key} must be a {kind.__name__}")
    return {"model_version": path.stem, **config}


def resolve_dataset(config: Mapping[str, Any]) -> dict[str, Any]:
    """Step 2: count the lines and compute the SHA-256 in one pass."""
    digest, lines = hashlib.sha256(), 0
    path = Path("artifacts/datasets", config["dataset_version"], "data.jsonl")
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            lines += block.count(b"\n")
    return {"num_samples": lines, "sha256": digest.hexdigest()}


def write_metadata(config: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Step 3: write the metadata."""
    training = ("learning_rate", "epochs", "batch_size")
    metadata = {
        "model_version": config["model_version"],
        "base_model": config["base_model"],
        "dataset_version": config["dataset_version"],
        "training_config": {key: config[key] for key in training},
        "num_training_samples": dataset["num_samples"],
    }
    _write_json(metadata_path(config["model_version"]), metadata)
    return metadata


def register(metadata: dict[str, Any]) -> dict[str, Any]:
    """Step 4: write one entry per model version under a lock, by replacing the file."""
    version = metadata["model_version"]
    REGISTRY.parent.mkdir(parents=True, exist_ok=True)
    with open(REGISTRY.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = json.loads(REGISTRY.read_text()) if REGISTRY.exists() else []
        entries = [entry for entry in entries if entry["model_version"] != version]
        entries.append(metadata)
        temporary = REGISTRY.with_suffix(".new")
        temporary.write_text(json.dumps(entries))
        os.replace(temporary, REGISTRY)
    return metadata


def evaluate(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Step 5: write the evaluation."""
    version = metadata["model_version"]
    key = f"{version}:{metadata['dataset_version']}".encode()
    digest = hashlib.sha256(key).digest()
    metrics = {
        "accuracy": int.from_bytes(digest[:4], "big") / 2**32,
        "loss": int.from_bytes(digest[4:8], "big") / 2**32,
    }
    _write_json(Path("artifacts/evaluations", version, "evaluation.json"), metrics)
    return metrics


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))
