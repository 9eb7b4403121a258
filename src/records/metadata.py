"""metadata.json of a model version: its five fields, and how two of them differ."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from src.errors import CorruptFileError, truncated_repr
from src.names import check_version
from src.records.canonical import MAX_DEPTH, is_deep, is_same_json, parse_json

__all__ = [
    "Difference",
    "ModelVersionConflict",
    "all_conflict_details",
    "all_differences",
    "check_metadata",
    "conflict_details",
    "differences",
    "parse_metadata",
]

_FIELDS: dict[str, tuple[type, str]] = {
    "model_version": (str, "text"),
    "base_model": (str, "text"),
    "dataset_version": (str, "text"),
    "training_config": (dict, "an object"),
    "num_training_samples": (int, "an integer"),
}

NEW_VERSION = "A version never changes: choose another model_version."


class Difference(NamedTuple):
    """One field with two values.

    Attributes:
        field: Dotted path of the field, e.g. `training_config.epochs`.
        one: Its first value; `None` if the field is absent.
        other: Its second value; `None` if the field is absent.
    """

    field: str
    one: Any
    other: Any

    def text(self, one: str, other: str) -> str:
        """Return the difference as text, e.g. `epochs: recorded 3, now 4`."""
        if self.one is None and self.other is None:
            return f"{self.field}: null in one of the two, absent in the other"
        return (
            f"{self.field}: {one} {truncated_repr(self.one)}, {other} {truncated_repr(self.other)}"
        )


class ModelVersionConflict(ValueError):
    """Raised when a model version already exists with other content.

    Attributes:
        model_version: The version.
        details: The differing fields, one line each.
    """

    def __init__(
        self, model_version: str, source: object, details: list[str], action: str = NEW_VERSION
    ) -> None:
        self.model_version = model_version
        self.details = details
        super().__init__(
            f"{source}: model version {model_version!r} already exists with other content:\n"
            + "".join(f"  {detail}\n" for detail in details)
            + f"Nothing was changed. {action}"
        )


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the fields of `other` whose value differs in `one` as JSON; nested objects by field.

    Fields that only `one` has are skipped: a newer release may have written them.
    """
    for key, value in other.items():
        found = one.get(key)
        if isinstance(value, Mapping) and isinstance(found, Mapping):
            for nested in differences(found, value):
                yield nested._replace(field=f"{key}.{nested.field}")
        elif key not in one or not is_same_json(found, value):
            yield Difference(key, found, value)


def all_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Return `differences`, and one for each field that only `one` has."""
    found = {each.field: each for each in differences(one, other)}
    for each in differences(other, one):
        found.setdefault(each.field, Difference(each.field, each.other, each.one))
    return list(found.values())


def conflict_details(recorded: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return `differences` as lines for a `ModelVersionConflict`."""
    return [each.text("recorded", "now") for each in differences(recorded, new)]


def all_conflict_details(recorded: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return `all_differences` as lines for a `ModelVersionConflict`."""
    return [each.text("recorded", "now") for each in all_differences(recorded, new)]


def check_metadata(metadata: Mapping[str, Any], source: object) -> str:
    """Check that `metadata` has the five fields of a model's metadata.json, each of its type.

    Further fields are allowed: a newer release may have written them.

    Returns:
        The model version.

    Raises:
        ValueError: A field is missing or has the wrong type; names `source` and the field.
    """
    for key, (kind, words) in _FIELDS.items():
        value = metadata.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            found = truncated_repr(value) if key in metadata else "nothing"
            raise ValueError(f"{source}: {key}: expected {words}, found {found}.")
    if is_deep(metadata):
        raise ValueError(f"{source}: nested in more than {MAX_DEPTH} levels.")
    check_version(f"{source}: dataset_version", metadata["dataset_version"])
    return check_version(f"{source}: model_version", metadata["model_version"])


def parse_metadata(
    data: bytes, source: object, *, model_version: str | None = None
) -> dict[str, Any]:
    """Parse a model's metadata.json.

    Args:
        data: The bytes of the file.
        source: The file the bytes came from; used in errors.
        model_version: The version that the file must name; any if `None`.

    Raises:
        CorruptFileError: The data is not the metadata of that version.
    """
    metadata = parse_json(data, source)
    try:
        found = check_metadata(metadata, source)
    except ValueError as error:
        raise CorruptFileError(f"{error} Left as found.") from error
    if model_version not in (None, found):
        raise CorruptFileError(
            f"{source}: model_version: expected {model_version!r}, found {found!r}. Left as found."
        )
    return metadata
