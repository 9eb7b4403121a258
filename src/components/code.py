"""The code of a component, as it is recorded."""

from collections.abc import Mapping
from typing import Any

from src.records.canonical import canonical_json, sha256
from src.records.statement import ResolvedDependency

__all__ = ["code_dependency", "code_sha256"]


def code_sha256(version: str | None, files: Mapping[str, str]) -> str:
    """Return the SHA-256 of the version that a component declares, of its files, or of both."""
    code = {"version": version, "files": dict(files)} if version and files else None
    return sha256(canonical_json(code or version or dict(files)))


def code_dependency(name: str, version: str | None, files: Mapping[str, str]) -> ResolvedDependency:
    """Return the code of a component as a resolved dependency."""
    annotations: dict[str, Any] = {"files": dict(files)}
    if version is not None:
        annotations["version"] = version
    digest = {"sha256": code_sha256(version, files)}
    return ResolvedDependency(name=name, digest=digest, annotations=annotations)
