"""The registry: one list of all models, and the commit point of a training run.

Reading or writing a registry also writes a memo in the user's cache folder: the SHA-256 of the
bytes that were checked last, which are then not checked again.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from src.artifacts import Artifacts
from src.errors import CorruptFileError, truncated_repr
from src.names import is_version, nearest
from src.records.canonical import canonical_json, parse_json
from src.records.layout import EVALUATION_FILE, MODELS_FOLDER, REGISTRY_FILE, REGISTRY_LIMIT
from src.records.metadata import ModelVersionConflict, check_metadata, conflict_details
from src.records.registry_file import RegistryFile, has_entry_lines, is_blank
from src.rendering.shell import quote
from src.storage import FileChangedError, Location, StorePath, Update, open_file
from src.storage.memo import read_memo, write_memo

__all__ = [
    "ModelNotFoundError",
    "RegistryLostError",
    "check_registry",
    "find_models",
    "get_model",
    "is_registered",
    "list_models",
    "newest_models",
    "parse_registry",
    "read_registry_file",
    "register_model",
    "register_models",
]

logger = logging.getLogger(__name__)

START_SIZE = 1 << 16  # bytes
DEFAULT_PATH = f"artifacts/{MODELS_FOLDER}/{REGISTRY_FILE}"


class ModelNotFoundError(KeyError):
    """Raised when a model version does not exist."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError returns the repr of its message


class RegistryLostError(CorruptFileError):
    """Raised when the registry was deleted or emptied while models have evaluations."""


def register_model(metadata: Mapping[str, Any], registry_path: Location = DEFAULT_PATH) -> bool:
    """Append a model to the registry, unless it is registered already.

    Afterwards the entry is durable. Entries and fields that other releases wrote are kept. In
    a folder, a lock file `<registry_path>.lock` remains.

    Args:
        metadata: The contents of the model's metadata.json.
        registry_path: The registry; created, with its folder, if there is none.

    Returns:
        Whether this call added the entry.

    Raises:
        ModelVersionConflict: The version is registered with other content.
        CorruptFileError: The registry cannot be parsed, or was edited; it is left as found.
        ValueError: `metadata` is not the metadata of a model.
        TimeoutError: Other writers held the lock of the registry for too long.
        OSError: The registry cannot be written; it is unchanged.
    """
    path = open_file(registry_path)
    [is_added] = _register({"metadata": metadata}, path)
    version = metadata["model_version"]
    logger.info("%s: %s %s.", path, version, "added" if is_added else "already registered")
    return is_added


def register_models(
    metadata: Iterable[Mapping[str, Any]], registry_path: Location = DEFAULT_PATH
) -> list[bool]:
    """Append many models to the registry in one write; either all or none.

    Returns:
        For each model, whether this call added its entry; `False` for a repeated model.

    Raises:
        ModelVersionConflict: A version is registered, or given twice, with other content.
        CorruptFileError, ValueError, TimeoutError, OSError: See `register_model`.
    """
    path = open_file(registry_path)
    added = _register({f"metadata[{index}]": each for index, each in enumerate(metadata)}, path)
    logger.info("%s: %d of %d models added.", path, sum(added), len(added))
    return added


def list_models(registry_path: Location = DEFAULT_PATH) -> list[dict[str, Any]]:
    """Return the metadata of all registered models, in the order of registration.

    The list is empty if there is no registry.

    Raises:
        CorruptFileError: The registry cannot be parsed.
    """
    return read_registry_file(open_file(registry_path)).models


def newest_models(registry_path: Location = DEFAULT_PATH) -> tuple[int, Iterator[dict[str, Any]]]:
    """Return the number of registered models, and their metadata, the newest first.

    An entry is parsed when it is needed, so that the newest of many models are found fast.

    Raises:
        CorruptFileError: The registry cannot be parsed.
    """
    registry = read_registry_file(open_file(registry_path))
    return len(registry), registry.newest()


def get_model(model_version: str, registry_path: Location = DEFAULT_PATH) -> dict[str, Any]:
    """Return the metadata of one registered model.

    Raises:
        ModelNotFoundError: The version is not registered; names the nearest. (A `KeyError`.)
        CorruptFileError: The registry cannot be parsed.
    """
    path = open_file(registry_path)
    registry = read_registry_file(path)
    if (model := registry.get(model_version)) is not None:
        return model
    near = nearest(str(model_version), [model["model_version"] for model in registry.models])
    raise ModelNotFoundError(f"{path}: no model {truncated_repr(model_version)}. Nearest: {near}.")


def is_registered(
    metadata: Mapping[str, Any],
    registry_path: Location = DEFAULT_PATH,
    *,
    registered: Mapping[str, Mapping[str, Any]] | None = None,
) -> bool:
    """Return whether the registry has an entry equal to `metadata`.

    Args:
        metadata: The contents of the model's metadata.json.
        registry_path: The registry.
        registered: What `find_models` returned for this version; read if `None`.

    Raises:
        ModelVersionConflict: The version is registered with other content.
        CorruptFileError: The registry cannot be parsed, or was edited.
    """
    path = open_file(registry_path)
    if registered is None:
        registered = find_models([metadata["model_version"]], path)
    return _is_listed(registered, metadata, path)


def find_models(
    versions: Iterable[str], registry_path: Location = DEFAULT_PATH
) -> dict[str, dict[str, Any]]:
    """Return the entries of those `versions` that are registered, and possibly further entries.

    Raises:
        CorruptFileError: The registry cannot be parsed, or was edited.
    """
    registry = read_registry_file(open_file(registry_path))
    registry.check_form()
    return registry.find(versions)


def check_registry(artifacts: Artifacts) -> None:
    """Check that the registry was not deleted or emptied; reads its start if it has an entry.

    A model is evaluated after it was registered. So a registry without entries is a new one only
    if no model has an evaluation.

    Raises:
        RegistryLostError: A model has an evaluation, and the registry has no entries.
        CorruptFileError: The registry cannot be parsed.
        OSError: The registry or the folder of the evaluations cannot be read.
    """
    if _has_entries(artifacts.registry):
        return
    evaluations = artifacts.evaluations
    versions = filter(is_version, evaluations.folders())
    evaluated = next((v for v in versions if (evaluations / v / EVALUATION_FILE).stat()), None)
    # The registry may have been written meanwhile, by the run that made this evaluation.
    if evaluated is None or _has_entries(artifacts.registry):
        return
    raise RegistryLostError(
        f"{artifacts.registry}: no entries, but {evaluated!r} has an evaluation, so the file was "
        "deleted or emptied. Nothing was changed. Restore it from a backup, or run "
        f"`llm-train rebuild-registry --artifacts-dir {quote(str(artifacts.root))}`."
    )


def _has_entries(path: StorePath) -> bool:
    # The start of the file usually has an entry; the whole file is read only if it has none, or if
    # another writer replaced the file meanwhile.
    with suppress(FileNotFoundError, FileChangedError), path.open() as file:
        start = bytearray(START_SIZE)
        if has_entry_lines(start[: file.readinto(memoryview(start))]):
            return True
    data = path.read(REGISTRY_LIMIT)
    return data is not None and not is_blank(data) and bool(RegistryFile(data, path).models)


def _register(metadata: Mapping[str, Mapping[str, Any]], path: StorePath) -> list[bool]:
    """Append entries; keys label them in errors."""
    for label, each in metadata.items():
        check_metadata(each, label)
    # A round trip gives each entry the types that it has when the registry is read again.
    entries = [parse_json(canonical_json(dict(each)), path) for each in metadata.values()]

    def append(data: bytes | None) -> Update[list[bool]]:
        registry = parse_registry(data, path)
        registry.check_form()
        listed = registry.find([entry["model_version"] for entry in entries])
        added, new = [], []
        for entry in entries:
            is_new = not _is_listed(listed, entry, path)
            added.append(is_new)
            if is_new:
                listed[entry["model_version"]] = entry
                new.append(entry)
        if not new:
            return Update(added)
        contents, checksum = registry.with_entries(new)
        # The memo is a digest of valid bytes, so it stays correct if this update fails. Written
        # before the update returns, it is available to the next writer.
        if checksum is not None:
            write_memo(path.memo(), checksum.encode())
        return Update(added, contents)

    return path.update(append)


def _is_listed(
    listed: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, Any], source: StorePath
) -> bool:
    version = metadata["model_version"]
    if version not in listed:
        return False
    if details := conflict_details(listed[version], metadata):
        raise ModelVersionConflict(
            version,
            source,
            details,
            "A version never changes: choose another model_version, or restore the entry if it "
            "was edited.",
        )
    return True


def read_registry_file(path: StorePath) -> RegistryFile:
    """Read and check the registry; see `parse_registry`. There may be no file."""
    return parse_registry(path.read(REGISTRY_LIMIT), path)


def parse_registry(data: bytes | None, path: StorePath) -> RegistryFile:
    """Parse and check the registry, unless the memo says that these bytes were checked.

    Args:
        data: The bytes of the file; `None` if there is no file.
        path: The file.

    Raises:
        CorruptFileError: The data is not a registry.
    """
    memo = path.memo()
    known = (read_memo(memo) or b"").decode(errors="replace")
    registry = RegistryFile(data, path, valid_sha256=known or None)
    if registry.sha256 not in (None, known):
        write_memo(memo, str(registry.sha256).encode())
    return registry
