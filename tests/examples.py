"""One config, its data, the metadata of the model made from them, and views of trees of files."""

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
    """Return every file that the pipeline wrote below an artifacts root, by its relative path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for part in ("models", "evaluations")
        for path in sorted((root / part).rglob("*"))
        if not path.is_dir()
    }


def without_runs(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a tree of files without the fields that differ between two runs of one config.

    These are, in each provenance.json: the run details; the folder of the config; and, in the
    statement of an evaluation, the digest of the model's provenance.json, which is checked first.
    """
    same = dict(files)
    for name, data in files.items():
        if Path(name).name != "provenance.json":
            continue
        statement = json.loads(data)
        del statement["predicate"]["runDetails"]
        for dependency in statement["predicate"]["buildDefinition"]["resolvedDependencies"]:
            if dependency["name"] == "config":
                dependency["uri"] = Path(dependency["uri"]).name
            if dependency["name"] == "provenance.json":
                model = name.replace("evaluations/", "models/")
                assert dependency.pop("digest") == {"sha256": sha256(files[model]).hexdigest()}
        same[name] = json.dumps(statement).encode()
    return same
