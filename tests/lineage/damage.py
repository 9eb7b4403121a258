"""Changes to the files of an artifacts root, such as a user or a fault makes, on any back end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.artifacts import Artifacts
from src.records.canonical import canonical_json
from src.storage import FolderStore, StorePath
from tests.conftest import placed
from tests.stores import MemoryStore

__all__ = [
    "DATA",
    "DATASET_METADATA",
    "EVALUATION",
    "EVALUATION_STATEMENT",
    "METADATA",
    "REGISTRY",
    "STATEMENT",
    "Damage",
    "edit",
    "local_path",
    "read",
    "read_json",
    "remove",
    "write",
]

METADATA = "models/model_v1/metadata.json"
STATEMENT = "models/model_v1/provenance.json"
REGISTRY = "models/registry.json"
EVALUATION = "evaluations/model_v1/evaluation.json"
EVALUATION_STATEMENT = "evaluations/model_v1/provenance.json"
DATA = "datasets/dataset_v1/data.jsonl"
DATASET_METADATA = "datasets/dataset_v1/metadata.json"

Damage = Callable[[Artifacts], object]


def read(artifacts: Artifacts, key: str) -> bytes:
    """Return the bytes of a file, which must exist."""
    data = (artifacts.root / placed(artifacts, key)).read(1 << 20)
    assert data is not None, key
    return data


def read_json(artifacts: Artifacts, key: str) -> Any:
    """Return the JSON value of a file."""
    return json.loads(read(artifacts, key))


def write(artifacts: Artifacts, key: str, data: bytes) -> None:
    """Write a file, or replace all of its bytes."""
    (artifacts.root / placed(artifacts, key)).replace(data)


def edit(artifacts: Artifacts, key: str, *place: str | int, value: object) -> None:
    """Change one value in a JSON file, and write the file in canonical form."""
    content = read_json(artifacts, key)
    at = content
    for each in place[:-1]:
        at = at[each]
    at[place[-1]] = value
    write(artifacts, key, canonical_json(content))


def remove(artifacts: Artifacts, key: str) -> None:
    """Remove a file, or a folder with all files in it; it must exist."""
    store, key = artifacts.root.store, placed(artifacts, key)
    if isinstance(store, MemoryStore):
        objects = store.server.objects
        found = [each for each in objects if each == key or each.startswith(f"{key}/")]
        assert found, key
        for each in found:
            del objects[each]
        return
    path = local_path(artifacts.root / key)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def local_path(path: StorePath) -> Path:
    """Return the path of a file in the file system; the back end must be the folder."""
    assert isinstance(path.store, FolderStore)
    return path.store.root / path.key
