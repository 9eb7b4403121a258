"""What a version is: a name that is one path component, bound for ever to one content."""

import re
from bisect import bisect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from src.storage import LOCK_SUFFIX, CorruptFileError, parse_json, read, shown

__all__ = [
    "REGISTRY_NAME",
    "ModelVersionConflict",
    "check_metadata",
    "check_version",
    "differences",
    "nearest",
    "read_metadata",
]

MAX_LENGTH = 128
REGISTRY_NAME = "registry.json"

_METADATA_FIELDS: dict[str, tuple[type, str]] = {
    "model_version": (str, "text"),
    "base_model": (str, "text"),
    "dataset_version": (str, "text"),
    "training_config": (dict, "an object"),
    "num_training_samples": (int, "a whole number"),
}
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_LENGTH - 1}}}")
_RESERVED = {REGISTRY_NAME, REGISTRY_NAME + LOCK_SUFFIX}


class ModelVersionConflict(ValueError):
    """A model version that is already bound to other content."""

    def __init__(self, model_version: str, source: Path, details: list[str]) -> None:
        self.model_version = model_version
        self.details = details
        super().__init__(
            f"{source}: model version {model_version!r} is already bound to other content:\n"
            + "".join(f"  {detail}\n" for detail in details)
            + "Nothing was changed. A version never changes: choose another model_version."
        )


def check_version(field: str, name: object) -> str:
    """Give `name` back if it may name a version.

    Args:
        field: What it names, e.g. `model_version`; for the error.
        name: One path component of letters, digits, `.`, `_` and `-`, the first of them a letter
            or digit, at most 128 long, and not the name of the registry's own files.

    Raises:
        ValueError: It may not.
    """
    if isinstance(name, str) and _NAME.fullmatch(name) and name.lower() not in _RESERVED:
        return name
    raise ValueError(
        f"{field}: expected a name of at most {MAX_LENGTH} letters, digits, '.', '_' and '-' that "
        f"starts with a letter or digit and is not {REGISTRY_NAME!r}, found {shown(name)}."
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Name up to three of the `known` names, those most like `name` first; for an error.

    Of more than a hundred, those that begin most like it are looked at.
    """
    from difflib import get_close_matches  # only an error has a use for it

    names = sorted(known)
    place = bisect(names, name)
    likely = names[max(0, place - 100) : place + 100]
    return ", ".join(get_close_matches(name, likely, n=3, cutoff=0) or ["none"])


def differences(recorded: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List what differs, one line a field, e.g. `training_config.epochs: recorded 3, now 4`.

    Fields that only `recorded` has do not count: a newer release may have written them.
    """
    lines: list[str] = []
    for key, value in new.items():
        found = recorded.get(key)
        if isinstance(value, Mapping) and isinstance(found, Mapping):
            lines += [f"{key}.{line}" for line in differences(found, value)]
        elif found != value or type(found) is not type(value):
            lines.append(f"{key}: recorded {shown(found)}, now {shown(value)}")
    return lines


def check_metadata(metadata: Mapping[str, Any], source: str) -> str:
    """Check that `metadata` has the five fields of a model's metadata.json, each of its type.

    Further fields are let pass: a newer release may have written them.

    Returns:
        The model version it is of.

    Raises:
        ValueError: It does not; names `source` and the field.
    """
    for key, (kind, words) in _METADATA_FIELDS.items():
        value = metadata.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            found = shown(value) if key in metadata else "nothing"
            raise ValueError(f"{source}: {key}: expected {words}, found {found}.")
    check_version(f"{source}: dataset_version", metadata["dataset_version"])
    return check_version(f"{source}: model_version", metadata["model_version"])


def read_metadata(model_version: str, models_dir: Path) -> dict[str, Any]:
    """Read `<models_dir>/<model_version>/metadata.json`.

    Raises:
        FileNotFoundError: No such model version; names the file.
        CorruptFileError: The file does not hold this version's metadata.
        ValueError: `model_version` is not a name.
    """
    path = models_dir / check_version("model_version", model_version) / "metadata.json"
    data = read(path)
    if data is None:
        raise FileNotFoundError(
            f"{path}: no such file, so there is no model version {model_version!r} here. "
            "Train it first."
        )
    metadata = parse_json(data, path)
    try:
        named = check_metadata(metadata, str(path))
    except ValueError as error:
        raise CorruptFileError(f"{error} Left as found.") from error
    if named != model_version:
        raise CorruptFileError(
            f"{path}: model_version: expected {model_version!r}, found {named!r}. Left as found."
        )
    return metadata
