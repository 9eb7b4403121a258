"""The registry: one list of all models, and the commit point of a training run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.storage import CorruptFileError, canonical_json, parse_json, read, shown, update
from src.versions import (
    REGISTRY_NAME,
    ModelVersionConflict,
    check_metadata,
    differences,
    nearest,
)

__all__ = ["ModelNotFoundError", "get_model", "list_models", "register_model"]

logger = logging.getLogger(__name__)

DEFAULT_PATH = f"artifacts/models/{REGISTRY_NAME}"


class ModelNotFoundError(KeyError):
    """A model version that is not in the registry."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr of its message


def register_model(metadata: Mapping[str, Any], registry_path: str | Path = DEFAULT_PATH) -> bool:
    """Append a model to the registry; nothing, if it is there already.

    Afterwards the entry is on the disk for good. Entries and fields that other releases wrote
    stay as they are. `<registry_path>.lock` stays beside the registry.

    Args:
        metadata: What the model's metadata.json holds.
        registry_path: The registry; made, with its folder, where there is none.

    Returns:
        Whether this call added the entry.

    Raises:
        ModelVersionConflict: The version is registered with other content.
        CorruptFileError: The registry cannot be read; it is left as found.
        ValueError: `metadata` is not a model's metadata.
        TimeoutError: The registry's lock was held by others for too long.
        OSError: The registry cannot be written; it is as before.
    """
    path = Path(registry_path)
    check_metadata(metadata, "metadata")
    entry = parse_json(canonical_json(dict(metadata)), path)  # as it will be read back
    added = False

    def append(data: bytes | None) -> bytes | None:
        nonlocal added
        registry = _parse(data, path)
        added = not is_registered(entry, registry["models"], path)
        return _with_entry(data, registry, entry) if added else None

    update(path, append, root=path.parent)
    logger.info("%s: %s %s.", path, entry["model_version"], "added" if added else "there already")
    return added


def list_models(registry_path: str | Path = DEFAULT_PATH) -> list[dict[str, Any]]:
    """Give the metadata of all registered models, in the order of registration.

    Raises:
        CorruptFileError: The registry cannot be read. (Where there is none, the list is empty.)
    """
    path = Path(registry_path)
    models: list[dict[str, Any]] = _parse(read(path), path)["models"]
    return models


def get_model(model_version: str, registry_path: str | Path = DEFAULT_PATH) -> dict[str, Any]:
    """Give the metadata of one registered model.

    Raises:
        ModelNotFoundError: It is not registered; names the nearest versions. (A `KeyError`.)
        CorruptFileError: The registry cannot be read.
    """
    known = []
    for model in list_models(registry_path):
        if model["model_version"] == model_version:
            return model
        known.append(model["model_version"])
    near = nearest(str(model_version), known)
    raise ModelNotFoundError(f"{registry_path}: no model {shown(model_version)}. Nearest: {near}.")


def is_registered(metadata: Mapping[str, Any], models: list[dict[str, Any]], source: Path) -> bool:
    """Tell whether `models` holds `metadata`.

    Raises:
        ModelVersionConflict: They hold its version with other content.
    """
    version = metadata["model_version"]
    for model in models:
        if model["model_version"] == version:
            if details := differences(recorded=model, new=metadata):
                raise ModelVersionConflict(version, source, details)
            return True
    return False


def _with_entry(data: bytes | None, registry: dict[str, Any], entry: dict[str, Any]) -> bytes:
    """Give the bytes of a registry with one more entry.

    In the form in which this software writes it, the new entry is put in before the last two
    brackets, so that the cost of a registration is not that of writing all the others anew.
    """
    models = registry["models"]
    if data and models and list(registry) == ["models"] and data.endswith(b"\n    }" + _END):
        lines = canonical_json(entry).splitlines()
        return (
            data.removesuffix(_END) + b",\n" + b"\n".join(b"    " + line for line in lines) + _END
        )
    return canonical_json({**registry, "models": [*models, entry]})


_END = b"\n  ]\n}\n"


def _parse(data: bytes | None, source: Path) -> dict[str, Any]:
    if data is None:
        return {"models": []}
    registry = parse_json(data, source)
    models = registry.get("models")
    if not isinstance(models, list):
        raise CorruptFileError(f"{source}: models: expected a list. Left as found.")
    seen: set[str] = set()
    for index, model in enumerate(models):
        place = f"{source}: models[{index}]"
        if not isinstance(model, dict):
            raise CorruptFileError(
                f"{place}: expected an object, found {shown(model)}. Left as found."
            )
        try:
            version = check_metadata(model, place)
        except ValueError as error:
            raise CorruptFileError(f"{error} Left as found.") from error
        if version in seen:
            raise CorruptFileError(f"{place}: {shown(version)} is listed twice. Left as found.")
        seen.add(version)
    return registry
