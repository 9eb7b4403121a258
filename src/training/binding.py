"""Binding of a model version to its config and data, by the statement in its provenance.json."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from src.environment import Invocation, environment_dependencies, run_details
from src.errors import CorruptFileError, truncated_repr
from src.records.canonical import canonical_json, sha256
from src.records.layout import METADATA_FILE, STATEMENT_FILE, STATEMENT_LIMIT
from src.records.metadata import ModelVersionConflict, all_conflict_details
from src.records.statement import (
    COMPONENT_TRAINING_BUILD,
    TRAINING_BUILD,
    ResolvedDependency,
    Statement,
    parse_statement,
)
from src.storage import StorePath
from src.training.trained import Training, recorded_training, training_dependencies

__all__ = ["bind_model", "check_binding", "dataset_sha256"]


def dataset_sha256(dependencies: Sequence[ResolvedDependency]) -> str:
    """Return the SHA-256 of the data among the inputs of a model."""
    return next(each.digest["sha256"] for each in dependencies if each.name == "dataset")


def bind_model(
    metadata: Mapping[str, Any],
    folder: StorePath,
    dependencies: Sequence[ResolvedDependency],
    invocation: Invocation,
    training: Training | None = None,
) -> bool:
    """Write the statement that binds a model version to its config and data, unless it exists.

    Args:
        metadata: The contents of the model's metadata.json.
        folder: The folder of the model version.
        dependencies: The inputs of the model; the one named `dataset` has a `sha256`.
        invocation: The run. The statement records the first run that wrote it.
        training: What was trained, whose files are in the folder; `None` if nothing was.

    Returns:
        Whether this call wrote the statement.

    Raises:
        ModelVersionConflict, CorruptFileError: See `check_binding`. Nothing was changed.
        OSError: The statement cannot be written; no partial file is left.
    """
    path = folder / STATEMENT_FILE
    data_sha256 = dataset_sha256(dependencies)
    found = check_binding(metadata, folder, data_sha256, training)
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
        if training is not None:
            statement = _with_training(statement, training)
        data = statement.to_bytes()
    written = path.create(data)
    if written == data:
        return found is None
    # Another run was faster.
    _check(parse_statement(written, path), metadata, path, data_sha256, training)
    return False


def _with_training(statement: Statement, training: Training) -> Statement:
    """Return the statement of a model whose weights were trained."""
    trainer = {name: value for name, value in training.trainer.items() if name != "code"}
    return replace(
        statement,
        build_type=COMPONENT_TRAINING_BUILD,
        files=training.files,
        parameters={**statement.parameters, "trainer": trainer},
        dependencies=(*statement.dependencies, *training_dependencies(training)),
    )


def check_binding(
    metadata: Mapping[str, Any],
    folder: StorePath,
    data_sha256: str,
    training: Training | None = None,
) -> bytes | None:
    """Check a model against the statement of its version.

    Args:
        metadata: The contents that its metadata.json would have.
        folder: The folder of the model version.
        data_sha256: SHA-256 of the data.
        training: What was trained; `None` if nothing was.

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
        _check(parse_statement(data, path), metadata, path, data_sha256, training)
    return data


def _check(
    statement: Statement,
    metadata: Mapping[str, Any],
    path: StorePath,
    data_sha256: str,
    training: Training | None,
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
        **_bound_fields(recorded_training(statement, path)),
    }
    new = {
        "training_config": metadata["training_config"],
        "data_sha256": data_sha256,
        **_bound_fields(training),
    }
    if details := all_conflict_details(recorded, new):
        raise ModelVersionConflict(version, path, details)
    expected = sha256(canonical_json(metadata))
    if statement.subject_sha256 != expected:
        raise CorruptFileError(
            f"{path}: subject: expected sha256 {expected} of {statement.subject}, found "
            f"{truncated_repr(statement.subject_sha256)}. Left as found; restore the file, or "
            "delete it to have it written again."
        )


def _bound_fields(training: Training | None) -> dict[str, Any]:
    """Return the fields of a training to which a version is bound."""
    if training is None:
        return {"trainer": None}
    return {**training.inputs(), "files": training.files}
