"""One config, its data, and what the record says of the model made of them."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = ["CONFIG", "DATA", "DATA_SHA256", "METADATA", "without_runs", "written"]

CONFIG = """\
# A run on the first curated dataset.
base_model: mistral-7b
dataset_version: dataset_v1
learning_rate: 2e-5
epochs: 3
batch_size: 16
"""
DATA = b'{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n'
DATA_SHA256 = "0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143"

METADATA: dict[str, Any] = {
    "model_version": "model_v1",
    "base_model": "mistral-7b",
    "dataset_version": "dataset_v1",
    "training_config": {
        "base_model": "mistral-7b",
        "dataset_version": "dataset_v1",
        "learning_rate": 2e-05,
        "epochs": 3,
        "batch_size": 16,
    },
    "num_training_samples": 3,
}


def written(root: Path) -> dict[str, bytes]:
    """Give every file that the pipeline wrote below an artifacts root, by its path from there."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for part in ("models", "evaluations")
        for path in sorted((root / part).rglob("*"))
        if not path.is_dir()
    }


def without_runs(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give a tree of files less what differs between two runs that make the same.

    That is, in each provenance.json: who ran it and when; the folder of the config; and, in that
    of an evaluation, the digest of the model's, after a check that it is the right one.
    """
    same = dict(files)
    for name, data in files.items():
        if Path(name).name != "provenance.json":
            continue
        statement = json.loads(data)
        del statement["predicate"]["runDetails"]
        for material in statement["predicate"]["buildDefinition"]["resolvedDependencies"]:
            if material["name"] == "config":
                material["uri"] = Path(material["uri"]).name
            if material["name"] == "provenance.json":
                model = name.replace("evaluations/", "models/")
                assert material.pop("digest") == {"sha256": sha256(files[model]).hexdigest()}
        same[name] = json.dumps(statement).encode()
    return same
