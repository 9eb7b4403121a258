"""What a dataset version holds: its fields, the lengths of its values, and its first lines."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from src.datasets.lines import parse_object, read_lines
from src.progress import ignore_progress
from src.storage import StorePath

__all__ = ["DatasetProfile", "FieldProfile", "Lengths", "profile_dataset"]

MAX_FIELDS = 1000
EXACT_LENGTHS = 1000  # longer ones are rounded to three digits, so that few differ

_KINDS = {
    str: "text",
    bool: "true or false",
    int: "number",
    float: "number",
    dict: "object",
    list: "list",
    type(None): "null",
}


class Lengths:
    """Counts lengths in bounded memory."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.least, self.most = 0, 0

    def add(self, length: int) -> None:
        """Count a length."""
        if not self._counts:
            self.least = length
        self.least, self.most = min(self.least, length), max(self.most, length)
        if length > EXACT_LENGTHS:
            digits = len(str(length)) - 3
            length = round(length, -digits)
        self._counts[length] += 1

    @property
    def median(self) -> int:
        """The median; above 1,000, to three digits."""
        rest = sum(self._counts.values()) / 2
        for length, count in sorted(self._counts.items()):
            rest -= count
            if rest <= 0:
                return length
        return 0

    def to_dict(self) -> dict[str, int]:
        """Return the JSON form."""
        return {"min": self.least, "median": self.median, "max": self.most}


@dataclass(slots=True)
class FieldProfile:
    """A field of the objects of a dataset.

    Attributes:
        count: The number of lines that have it.
        kinds: The number of its values by type, e.g. `text`.
        lengths: The numbers of characters of its texts.
    """

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    lengths: Lengths = field(default_factory=Lengths)

    def add(self, value: object) -> None:
        """Count a value."""
        self.count += 1
        self.kinds[_KINDS[type(value)]] += 1
        if isinstance(value, str):
            self.lengths.add(len(value))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        lengths = self.lengths.to_dict() if "text" in self.kinds else None
        return {"lines": self.count, "types": dict(self.kinds), "characters": lengths}


@dataclass(slots=True)
class DatasetProfile:
    """What the lines of a dataset hold.

    Attributes:
        num_lines: The number of lines.
        num_invalid: The number of lines that are not JSON objects.
        first_invalid: The number of the first of these; `None` if there is none.
        lengths: The lengths of the lines in bytes, without line ends.
        fields: The fields in order of appearance, at most 1,000.
        num_more_fields: The number of occurrences of further fields.
        first_lines: The first lines.
    """

    num_lines: int = 0
    num_invalid: int = 0
    first_invalid: int | None = None
    lengths: Lengths = field(default_factory=Lengths)
    fields: dict[str, FieldProfile] = field(default_factory=dict)
    num_more_fields: int = 0
    first_lines: list[bytes] = field(default_factory=list)

    def add(self, values: Mapping[str, Any]) -> None:
        """Count the fields of one object."""
        for name, value in values.items():
            if name in self.fields or len(self.fields) < MAX_FIELDS:
                self.fields.setdefault(name, FieldProfile()).add(value)
            else:
                self.num_more_fields += 1

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "num_lines": self.num_lines,
            "num_invalid_lines": self.num_invalid,
            "first_invalid_line": self.first_invalid,
            "line_bytes": self.lengths.to_dict(),
            "fields": {name: each.to_dict() for name, each in self.fields.items()},
            "further_field_occurrences": self.num_more_fields,
            "first_lines": [line.decode(errors="backslashreplace") for line in self.first_lines],
        }


def profile_dataset(
    data: StorePath, *, first_lines: int = 3, progress: Callable[[int], None] = ignore_progress
) -> DatasetProfile:
    """Read a data.jsonl once, in constant memory, and return its profile.

    Args:
        data: The file.
        first_lines: The number of lines to keep.
        progress: Called after each read with its size in bytes.

    Raises:
        InvalidLinesError: A line is too long to be read.
        OSError, CorruptFileError: The file cannot be read.
    """
    profile = DatasetProfile()
    for number, line in read_lines(data, progress):
        profile.num_lines = number
        profile.lengths.add(len(line))
        if number <= first_lines:
            profile.first_lines.append(line)
        if (values := parse_object(line)) is not None:
            profile.add(values)
        else:
            profile.num_invalid += 1
            profile.first_invalid = profile.first_invalid or number
    return profile
