"""The code as an input: a result is tied to the source that made it."""

import hashlib
import os
from functools import cache
from pathlib import Path

__all__ = ["CORE", "source_digest"]

CORE = Path(__file__).parent


@cache
def source_digest(*folders: Path) -> str:
    """Give the SHA-256 over every Python file below `folders`, by relative path and content.

    Read once a process: what runs is what was there when it started.
    """
    digest = hashlib.sha256()
    for folder in folders:
        paths = (Path(here, name) for here, _, names in os.walk(folder) for name in names)
        for path in sorted(path for path in paths if path.suffix == ".py"):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{folder.name}/{path.relative_to(folder)}\0{content}\n".encode())
    return digest.hexdigest()
