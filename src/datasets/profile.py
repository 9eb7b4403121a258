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
MAX_NAME = 1000  # characters of the name of a field
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
    """Counts lengths in bounded memory: those above 1,000 to three digits."""

    def __init__(self) -> None:
        self._short: Counter[int] = Counter()
        self._long: Counter[int] = Counter()
        self._least_long = self._most_long = 0

    def add(self, length: int) -> None:
        """Count a length."""
        if length <= EXACT_LENGTHS:
            self._short[length] += 1
            return
        self._least_long = min(self._least_long or length, length)
        self._most_long = max(self._most_long, length)
        self._long[round(length, 3 - len(str(length)))] += 1

    @property
    def least(self) -> int:
        """The least length; 0 if there is none."""
        return min(self._short, default=self._least_long)

    @property
    def most(self) -> int:
        """The greatest length; 0 if there is none."""
        return self._most_long or max(self._short, default=0)

    @property
    def median(self) -> int:
        """The median; above 1,000, to three digits."""
        counts = self._short + self._long
        rest = counts.total() / 2
        for length, count in sorted(counts.items()):
            rest -= count
            if rest <= 0:
                return length
        return 0

    def to_dict(self) -> dict[str, int]:
        """Return the JSON form."""
        return {"min": self.least, "median": self.median, "max": self.most}


class FieldProfile:
    """A field of the objects of a dataset.

    Attributes:
        lengths: The numbers of characters of its texts.
    """

    def __init__(self) -> None:
        self._types: Counter[type] = Counter()
        self.lengths = Lengths()

    def add(self, value: object) -> None:
        """Count a value."""
        self._types[type(value)] += 1
        if isinstance(value, str):
            self.lengths.add(len(value))

    @property
    def count(self) -> int:
        """The number of lines that have the field."""
        return self._types.total()

    @property
    def kinds(self) -> Counter[str]:
        """The number of its values by kind, e.g. `text`."""
        kinds: Counter[str] = Counter()
        for each, count in self._types.items():
            kinds[_KINDS[each]] += count
        return kinds

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        kinds = self.kinds
        lengths = self.lengths.to_dict() if _KINDS[str] in kinds else None
        return {"lines": self.count, "types": dict(kinds), "characters": lengths}


@dataclass(slots=True)
class DatasetProfile:
    """What the lines of a dataset hold.

    Attributes:
        num_lines: The number of lines.
        num_invalid: The number of lines that are not JSON objects.
        first_invalid: The number of the first of these; `None` if there is none.
        lengths: The lengths of the lines in bytes, without line ends.
        fields: The fields in order of appearance, at most 1,000 with names of at most 1,000
            characters.
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
            profile = self.fields.get(name)
            if profile is None:
                if len(self.fields) == MAX_FIELDS or len(name) > MAX_NAME:
                    self.num_more_fields += 1
                    continue
                profile = self.fields[name] = FieldProfile()
            profile.add(value)

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
