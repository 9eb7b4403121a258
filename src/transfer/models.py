"""Plan the copy of a model version, in the order in which a run writes its files."""

from collections.abc import Mapping
from typing import Any

from src.artifacts import history_path, weights_folder
from src.digest import Digest
from src.errors import CorruptFileError, truncated_repr
from src.records.canonical import sha256
from src.records.layout import (
    HISTORY_FILE,
    HISTORY_LIMIT,
    METADATA_FILE,
    METADATA_LIMIT,
    STATEMENT_FILE,
    STATEMENT_LIMIT,
)
from src.records.metadata import parse_metadata
from src.records.statement import Statement, parse_statement, weights_of
from src.storage import StorePath
from src.transfer.planner import Planner, Sizes, read_listed
from src.transfer.steps import CopyWeights

__all__ = ["plan_model", "read_statement_of"]

KIND = "models"


def plan_model(planner: Planner, version: str, found: Sizes, there: Sizes) -> Mapping[str, Any]:
    """Add the files of a model version.

    Weights and history are copied only if there is a statement: without one they are not part of
    the record, but left by a run that was killed.

    Args:
        planner: The plan, which is extended.
        version: The model version.
        found: Its files at the source.
        there: Its files at the destination.

    Returns:
        The contents of its metadata.json; empty without one.

    Raises:
        CorruptFileError: A file is missing, cannot be parsed, or is not as the statement records.
        OSError: A file cannot be read.
    """
    source, target = planner.source.models / version, planner.target.models / version
    statement_data = read_listed(source / STATEMENT_FILE, STATEMENT_LIMIT, found)
    metadata_data = read_listed(source / METADATA_FILE, METADATA_LIMIT, found)
    metadata: Mapping[str, Any] = {}
    if metadata_data is not None:
        path = source / METADATA_FILE
        metadata = parse_metadata(metadata_data, path, model_version=version)
    copied = {STATEMENT_FILE, METADATA_FILE}
    if statement_data is not None:
        statement = read_statement_of(version, statement_data, source / STATEMENT_FILE)
        if metadata_data is not None:
            _check_sha256(source / METADATA_FILE, statement.subject_sha256, sha256(metadata_data))
        copied |= _plan_weights(planner, source, target, statement, found, there)
        copied |= _plan_history(planner, source, target, statement, found, there)
    for name, data in ((STATEMENT_FILE, statement_data), (METADATA_FILE, metadata_data)):
        if data is not None:
            planner.add_file(KIND, source / name, target / name, data, there.get(name))
    planner.unknown += [f"{source}/{name}" for name in found.keys() - copied]
    return metadata


def read_statement_of(version: str, data: bytes, path: StorePath) -> Statement:
    """Parse the statement of a model version or of its evaluation.

    Raises:
        CorruptFileError: It cannot be parsed, or is about another model version.
    """
    statement = parse_statement(data, path)
    if (name := statement.parameters.get("model_version")) != version:
        raise CorruptFileError(
            f"{path}: model_version: expected {version!r}, found {truncated_repr(name)}. Left as "
            "found; restore it from a backup."
        )
    return statement


def _plan_weights(
    planner: Planner,
    source: StorePath,
    target: StorePath,
    statement: Statement,
    found: Sizes,
    there: Sizes,
) -> set[str]:
    """Add the weights; return their paths in the folder of the model."""
    weights = weights_of(statement.files)
    folder, other = weights_folder(source, weights), weights_folder(target, weights)
    sizes = _below(folder, source, found)
    for name in sorted(weights.keys() | sizes.keys()):
        _check_listed(folder / name, weights.get(name), sizes.get(name))
    listed = _below(other, target, there)
    digests = planner.hash_files(other) if listed else {}
    if digests == weights:
        planner.present[KIND] += len(weights)
    else:
        for name in sorted(digests.keys() & listed.keys()):  # `hash_files` includes temporary ones
            _compare(planner, other / name, weights.get(name), digests[name])
        planner.steps.append(CopyWeights(source=folder, target=other, files=weights))
    start = folder.key.removeprefix(f"{source.key}/")
    return {f"{start}/{name}" for name in weights}


def _compare(planner: Planner, path: StorePath, expected: Digest | None, found: Digest) -> None:
    """Add a difference, if a file of the weights differs. An equal file is copied again."""
    if expected is None:
        planner.differences.append(f"{path}: expected no file, found {found.size:,} bytes.")
    elif expected != found:
        planner.compare(KIND, path, expected, found)


def _plan_history(
    planner: Planner,
    source: StorePath,
    target: StorePath,
    statement: Statement,
    found: Sizes,
    there: Sizes,
) -> set[str]:
    """Add the history; return its path in the folder of the model."""
    path, other = (history_path(each, statement.files) for each in (source, target))
    name = path.key.removeprefix(f"{source.key}/")
    size = there.get(other.key.removeprefix(f"{target.key}/"))
    recorded = statement.files.get(HISTORY_FILE)
    _check_listed(path, recorded, found.get(name))
    if recorded is None:
        if size is not None:
            planner.differences.append(f"{other}: expected no file, found {size:,} bytes.")
        return set()
    data = path.read(HISTORY_LIMIT) or b""
    _check_sha256(path, recorded.sha256, sha256(data))
    planner.add_file(KIND, path, other, data, size)
    return {name}


def _below(folder: StorePath, model: StorePath, sizes: Sizes) -> dict[str, int]:
    """Return the sizes of the files below a folder of a model, by path in that folder."""
    start = folder.key.removeprefix(f"{model.key}/") + "/"
    return {
        name.removeprefix(start): size for name, size in sizes.items() if name.startswith(start)
    }


def _check_listed(path: StorePath, recorded: Digest | None, size: int | None) -> None:
    """Check that a recorded file exists with its size, and that no other file exists."""
    if recorded is None and size is not None:
        raise CorruptFileError(f"{path}: not a file of the model. Left as found; remove it.")
    if recorded is not None and size is None:
        raise CorruptFileError(f"{path}: no such file. Restore it from a backup.")
    if recorded is not None and size != recorded.size:
        raise CorruptFileError(
            f"{path}: expected {recorded.size:,} bytes, found {size:,}. Left as found; restore it "
            "from a backup."
        )


def _check_sha256(path: StorePath, expected: str, found: str) -> None:
    if found != expected:
        raise CorruptFileError(
            f"{path}: expected sha256 {expected}, found {found}. Left as found; restore it from a "
            "backup."
        )
