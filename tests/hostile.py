"""Things that are not the file which a reader expects, and the places where they may be."""

import os
import shutil
import socket
from pathlib import Path

__all__ = ["KINDS", "PLACES", "READERS", "SECRET", "put"]

KINDS = (
    "a circle",
    "a device",
    "a FIFO",
    "a folder",
    "a huge file",
    "a link",
    "a number",
    "a socket",
)
"""What takes the place of a file; `a huge file` is sparse, and larger than any limit."""

SECRET = "hunter2"
"""Text of the file outside of the project that `a link` leads to."""

HUGE = 1 << 31
HUGE_DATA = 600 << 20  # data is read in full
DIGITS = 5000

PLACES = {
    "config": "config.yaml",
    "data": "artifacts/datasets/dataset_v1/data.jsonl",
    "dataset metadata": "artifacts/datasets/dataset_v1/metadata.json",
    "metadata": "artifacts/models/model_v1/metadata.json",
    "statement": "artifacts/models/model_v1/provenance.json",
    "registry": "artifacts/models/registry.json",
    "evaluation": "artifacts/evaluations/model_v1/evaluation.json",
    "evaluation's statement": "artifacts/evaluations/model_v1/provenance.json",
    "lock": "artifacts/models/registry.json.lock",
    "temporary file": "artifacts/models/.registry.json.tmp",
}

READERS = {
    "config": {"run"},
    "data": {"run", "verify"},
    "dataset metadata": {"run", "verify"},
    "metadata": {"run", "verify"},
    "statement": {"run", "verify", "show", "compare", "trace"},
    "registry": {"run", "verify", "show", "compare", "trace", "models"},
    "evaluation": {"run", "verify", "show", "compare", "trace", "models"},
    "evaluation's statement": {"run", "verify"},
    "lock": {"run"},
    "temporary file": {"run"},
}
"""The commands that read what is at a place."""


def put(kind: str, path: Path) -> None:
    """Put something at a path in place of what is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "a circle":
        path.symlink_to(path.name)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a huge file":
        path.touch()
        os.truncate(path, HUGE_DATA if path.name == "data.jsonl" else HUGE)
    elif kind == "a link":
        outside = Path.cwd().with_name("outside.json")
        outside.write_text(f'{{"user": "me", "password": "{SECRET}"}}\n')
        path.symlink_to(outside)
    elif kind == "a number":
        path.write_text(f'{{"models": 1{"0" * DIGITS}, "num_samples": 1{"0" * DIGITS}}}\n')
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")  # an address is shorter than some paths
        Path("s").rename(path)
    else:
        raise ValueError(kind)
