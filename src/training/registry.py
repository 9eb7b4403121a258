"""The registry: one list of all models, and the commit point of a training run."""

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from src.storage import (
    Contents,
    CorruptFileError,
    canonical_json,
    parse_json,
    read_sealed,
    sha256,
    shown,
    update,
)
from src.versions import (
    REGISTRY_NAME,
    ModelVersionConflict,
    check_metadata,
    differences,
    nearest,
)

__all__ = [
    "ModelNotFoundError",
    "get_model",
    "is_registered",
    "list_models",
    "register_model",
    "register_models",
]

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
    [added] = _register({"metadata": metadata}, Path(registry_path))
    version = metadata["model_version"]
    logger.info("%s: %s %s.", registry_path, version, "added" if added else "there already")
    return added


def register_models(
    metadata: Iterable[Mapping[str, Any]], registry_path: str | Path = DEFAULT_PATH
) -> list[bool]:
    """Append many models to the registry in one write, as `register_model` does one by one.

    All or none: whatever is raised, for whichever of them, leaves the registry as it was.

    Returns:
        Whether this call added the entry, for each; `False` also for one given before it.

    Raises:
        ModelVersionConflict, CorruptFileError, ValueError, TimeoutError, OSError: As
            `register_model`. A conflict may also be one between two of `metadata`.
    """
    added = _register(
        {f"metadata[{index}]": each for index, each in enumerate(metadata)}, Path(registry_path)
    )
    logger.info("%s: %d of %d models added.", registry_path, sum(added), len(added))
    return added


def list_models(registry_path: str | Path = DEFAULT_PATH) -> list[dict[str, Any]]:
    """Give the metadata of all registered models, in the order of registration.

    Raises:
        CorruptFileError: The registry cannot be read. (Where there is none, the list is empty.)
    """
    return _read(Path(registry_path)).models


def get_model(model_version: str, registry_path: str | Path = DEFAULT_PATH) -> dict[str, Any]:
    """Give the metadata of one registered model.

    Raises:
        ModelNotFoundError: It is not registered; names the nearest versions. (A `KeyError`.)
        CorruptFileError: The registry cannot be read.
    """
    registry = _read(Path(registry_path))
    for version, model in registry.find([model_version]).items():
        if version == model_version:
            return model
    near = nearest(str(model_version), [model["model_version"] for model in registry.models])
    raise ModelNotFoundError(f"{registry_path}: no model {shown(model_version)}. Nearest: {near}.")


def is_registered(metadata: Mapping[str, Any], registry_path: str | Path = DEFAULT_PATH) -> bool:
    """Tell whether the registry holds `metadata`.

    Raises:
        ModelVersionConflict: It holds its version with other content.
        CorruptFileError: The registry cannot be read.
    """
    path = Path(registry_path)
    return _is_among(_read(path).find([metadata["model_version"]]), metadata, path)


def _register(metadata: Mapping[str, Mapping[str, Any]], path: Path) -> list[bool]:
    """Append what is given by the name that an error shall call it."""
    for source, each in metadata.items():
        check_metadata(each, source)
    # As they will be read back:
    entries = [parse_json(canonical_json(dict(each)), path) for each in metadata.values()]
    added: list[bool] = []

    def append(data: bytes | None, seal: bytes | None) -> Contents | None:
        registry = _Registry(path, data, seal)
        listed = registry.find([entry["model_version"] for entry in entries])
        new = []
        for entry in entries:
            added.append(not _is_among(listed, entry, path))
            if added[-1]:
                listed[entry["model_version"]] = entry
                new.append(entry)
        return registry.with_entries(new) if new else None

    update(path, append, root=path.parent)
    return added


def _is_among(
    listed: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, Any], source: Path
) -> bool:
    version = metadata["model_version"]
    if version not in listed:
        return False
    if details := differences(recorded=listed[version], new=metadata):
        raise ModelVersionConflict(version, source, details)
    return True


def _read(path: Path) -> "_Registry":
    return _Registry(path, *read_sealed(path))


_VERSION = b'\n      "model_version": "%s"'
_ANY_VERSION = re.compile(_VERSION % b'([^"]+)')
_EMPTY = b'{\n  "models": []\n}\n'
_END = b"\n  ]\n}\n"


class _Registry:
    """A registry as it was read. What its seal vouches for is not checked again.

    The seal is the SHA-256 of the bytes. It is only put on the canonical JSON of entries that were
    checked, with nothing beside them. There, the indentation of a line tells what it is part of:
    text has no line breaks of its own. Any other bytes are checked in full.
    """

    def __init__(self, path: Path, data: bytes | None, seal: bytes | None) -> None:
        self._path, self._seal = path, seal
        self._data = _EMPTY if data is None else data
        self._kept = memoryview(self._data)[: -len(_END)]
        self._sealed = bool(seal) and seal == self._seal_of(self._data[-len(_END) :])

    @cached_property
    def _content(self) -> dict[str, Any]:
        if self._sealed:
            return parse_json(self._data, self._path, trusted=True)
        return _parse(self._data, self._path)

    @property
    def models(self) -> list[dict[str, Any]]:
        """All entries."""
        models: list[dict[str, Any]] = self._content["models"]
        return models

    def find(self, versions: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Give the entries of `versions`, those that there are, perhaps among others."""
        found = map(self._entry, self._places(versions)) if self._sealed else self.models
        return {model["model_version"]: model for model in found}

    def _places(self, versions: Iterable[str]) -> Iterator[int]:
        """Give where the lines begin that name one of `versions`."""
        wanted = {str(version).encode(errors="replace") for version in versions}
        if len(wanted) == 1:  # several times as fast
            place = self._data.find(_VERSION % wanted.pop())
            if place >= 0:
                yield place
        else:
            for line in _ANY_VERSION.finditer(self._data):
                if line[1] in wanted:
                    yield line.start()

    def _entry(self, place: int) -> dict[str, Any]:
        """Read the entry with the line that begins at `place`."""
        start, end = self._data.rindex(b"\n    {", 0, place), self._data.index(b"\n    }", place)
        return parse_json(self._data[start : end + 6], self._path)

    def with_entries(self, entries: list[dict[str, Any]]) -> Contents:
        """Give the contents of the registry with more entries.

        Where it is in the form in which this software writes it, they are put in before the last
        two brackets, so that a registration does not cost writing all the others anew.
        """
        if self._sealed or self._looks_as_written():
            more = b"".join(b",\n" + _indented(entry) for entry in entries) + _END
            return [self._kept, more], self._seal_of(more) if self._sealed else None
        content = {**self._content, "models": [*self.models, *entries]}
        data = canonical_json(content)
        return [data], sha256(data).encode() if content.keys() == {"models"} else None

    def _looks_as_written(self) -> bool:
        """Tell whether entries can be put in, though this will not be sealed."""
        return (
            self._seal is None  # no seal can be kept: do not write all anew to get one
            and list(self._content) == ["models"]
            and self._data.endswith(b"\n    }" + _END)
        )

    def _seal_of(self, end: bytes) -> bytes:
        """Give the seal of all but the last two brackets, and `end` in their place."""
        digest = self._digest.copy()
        digest.update(end)
        return digest.hexdigest().encode()

    @cached_property
    def _digest(self) -> "hashlib._Hash":
        return hashlib.sha256(self._kept)


def _indented(entry: dict[str, Any]) -> bytes:
    return b"\n".join(b"    " + line for line in canonical_json(entry).splitlines())


def _parse(data: bytes, source: Path) -> dict[str, Any]:
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
