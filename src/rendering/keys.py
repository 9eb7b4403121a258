"""Keys of pages in the UI."""

import re
from hashlib import sha256

__all__ = ["artifact_key"]

DIGEST_DIGITS = 16


def artifact_key(kind: str, model_version: str) -> str:
    """Return the key of a page about a model; Prefect allows a-z, 0-9 and `-`.

    Keys are unique: if the version has other characters, `--` and a digest of it follow. Keys
    without a digest contain no `--`.
    """
    slug = re.sub("[^a-z0-9]+", "-", model_version.lower()).strip("-")
    if slug == model_version:
        return f"{kind}-{slug}"
    return f"{kind}-{slug}--{sha256(model_version.encode()).hexdigest()[:DIGEST_DIGITS]}"
