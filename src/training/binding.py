"""Binding of a model version to its config and data, by the statement in its provenance.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.environment import Invocation, environment_dependencies, run_details
from src.errors import CorruptFileError, truncated_repr
from src.records.canonical import canonical_json, sha256
from src.records.layout import METADATA_FILE, STATEMENT_FILE, STATEMENT_LIMIT
from src.records.metadata import ModelVersionConflict, conflict_details
from src.records.statement import (
    TRAINING_BUILD,
    ResolvedDependency,
    Statement,
    parse_statement,
)
from src.storage import StorePath

__all__ = ["bind_model", "check_binding"]


def bind_model(
    metadata: Mapping[str, Any],
    folder: StorePath,
    dependencies: Sequence[ResolvedDependency],
    invocation: Invocation,
) -> bool:
    """Write the statement that binds a model version to its config and data, unless it exists.

    Args:
        metadata: The contents of the model's metadata.json.
        folder: The folder of the model version.
        dependencies: The inputs of the model; the one named `dataset` has a `sha256`.
        invocation: The run. The statement records the first run that wrote it.

    Returns:
        Whether this call wrote the statement.

    Raises:
        ModelVersionConflict, CorruptFileError: See `check_binding`. Nothing was changed.
        OSError: The statement cannot be written; no partial file is left.
    """
    path = folder / STATEMENT_FILE
    data_sha256 = next(each.digest["sha256"] for each in dependencies if each.name == "dataset")
    found = check_binding(metadata, folder, data_sha256)
    data = found
    if data is None:
        statement = Statement(
            subject=METADATA_FILE,
            subject_sha256=sha256(canonical_json(metadata)),
            build_type=TRAINING_BUILD,
            parameters={
                "config": metadata["training_config"],
                "model_version": metadata["model_version"],
            },
            dependencies=(*dependencies, *environment_dependencies()),
            **run_details(invocation),
        )
        data = statement.to_bytes()
    written = path.create(data)
    if written == data:
        return found is None
    # Another run was faster.
    _check(parse_statement(written, path), metadata, path, data_sha256)
    return False


def check_binding(metadata: Mapping[str, Any], folder: StorePath, data_sha256: str) -> bytes | None:
    """Check a model against the statement of its version.

    Args:
        metadata: The contents that its metadata.json would have.
        folder: The folder of the model version.
        data_sha256: SHA-256 of the data.

    Returns:
        The bytes of the provenance.json, which binds the version to this metadata and data; `None`
        if there is no such file.

    Raises:
        ModelVersionConflict: The version is bound to another config or other data; names both.
        CorruptFileError: The provenance.json is not the statement of this metadata.json. It is
            left as found.
    """
    path = folder / STATEMENT_FILE
    data = path.read(STATEMENT_LIMIT)
    if data is not None:
        _check(parse_statement(data, path), metadata, path, data_sha256)
    return data


def _check(
    statement: Statement, metadata: Mapping[str, Any], path: StorePath, data_sha256: str
) -> None:
    version = metadata["model_version"]
    if (found := statement.parameters.get("model_version")) != version:
        raise CorruptFileError(
            f"{path}: model_version: expected {version!r}, found {truncated_repr(found)}. "
            "Left as found."
        )
    recorded = {
        "training_config": statement.parameters.get("config"),
        "data_sha256": statement.digest("dataset"),
    }
    new = {"training_config": metadata["training_config"], "data_sha256": data_sha256}
    if details := conflict_details(recorded, new):
        raise ModelVersionConflict(version, path, details)
    expected = sha256(canonical_json(metadata))
    if statement.subject_sha256 != expected:
        raise CorruptFileError(
            f"{path}: subject: expected sha256 {expected} of {statement.subject}, found "
            f"{truncated_repr(statement.subject_sha256)}. Left as found; restore the file, or "
            "delete it to have it written again."
        )
