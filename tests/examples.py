"""One config, its data, the metadata of the model made from them, and views of trees of files."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = [
    "CONFIG",
    "DATA",
    "DATA_SHA256",
    "METADATA",
    "WRONG_FILES",
    "without_runs",
    "written",
]

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

# Files that a user may name as a config by mistake; no word with S3CRET may be quoted.
WRONG_FILES = {
    "binary": b"\x7fELF\x02\x01\0\0S3CRET\0\xff\xfeS3CRET",
    "env": b"# production\nPGPASSWORD=S3CRETone\nexport TOKEN='S3CRET: two'\nURL=http://S3CRET\n",
    "env in YAML": b"user: S3CRETone\nPASSWORD: S3CRETtwo\nS3CRETthree: 4\nS3CRET4=5: 6\n",
    "ini": b"[database]\nhost = S3CRETone\npassword = S3CRETtwo\n\n[S3CRETthree]\nkey: S3CRET4\n",
    "json": b'{"user": "S3CRETone", "S3CRETtwo": ["S3CRETthree", {"S3CRET4": 5}]}\n',
    "json, cut off": b'{"user": "S3CRETone", "S3CRETtwo": ["S3CRETthree", "S3CR',
    "log": b"2026-11-24 10:00:00 INFO: S3CRETone [S3CRETtwo] @S3CRETthree %S3CRET4 `S3CRET5\n" * 3,
    "netrc": b"machine S3CRETone\n\tlogin S3CRETtwo\n\tpassword S3CRETthree\n",
    "passwd": b"root:S3CRETone:0:0:S3CRETtwo:/root:/bin/S3CRETthree\nS3CRET4:x:1:1: S3CRET5:/\n",
    "pem": b"-----BEGIN PRIVATE KEY-----\nS3CRETone+/S3CRETtwo==\n-----END PRIVATE KEY-----\n",
    "text": b"S3CRETone is a line.\nS3CRETtwo: is another one.\n'S3CRETthree is not closed.\n",
    "yaml aliases": b"user: &S3CRETone 1\nmore: &S3CRETone 2\nlast: *S3CRETtwo\n",
    "yaml tags": b"user: !S3CRETone 1\n--- !S3CRETtwo!three\n",
    "yaml handle": b"%TAG !S3CRETone! S3CRETtwo\n%TAG !S3CRETone! S3CRETthree\n---\nuser: 1\n",
    "yaml undefined handle": b"user: !S3CRETone!two 1\n",
    "yaml version": b"%YAML S3CRETone\n---\nuser: 1\n",
}

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

    These are, in each provenance.json: the run details and the host; the folder of the config; and,
    in the statement of an evaluation, the digest of the model's provenance.json, which is checked
    first.
    """
    same = dict(files)
    for name, data in files.items():
        if Path(name).name != "provenance.json":
            continue
        statement = json.loads(data)
        del statement["predicate"]["runDetails"]
        statement["predicate"]["buildDefinition"].pop("internalParameters", None)
        for dependency in statement["predicate"]["buildDefinition"]["resolvedDependencies"]:
            if dependency["name"] == "config":
                dependency["uri"] = Path(dependency["uri"]).name
            if dependency["name"] == "provenance.json":
                model = name.replace("evaluations/", "models/")
                assert dependency.pop("digest") == {"sha256": sha256(files[model]).hexdigest()}
        same[name] = json.dumps(statement).encode()
    return same
