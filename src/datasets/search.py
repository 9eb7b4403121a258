"""Search for records in the datasets: which versions hold them, in which lines."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from src.datasets.lines import InvalidLinesError, parse_object, read_lines, sorted_json
from src.progress import ignore_progress
from src.records.canonical import is_same_json
from src.storage import StorePath

__all__ = ["Hit", "parse_records", "search_records"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A line that holds a record.

    Attributes:
        record: The position of the record among those searched for, from 0.
        line: The number of the line, from 1.
        is_same_text: Whether the bytes are equal, too; otherwise the values are, but not the order
            of the keys, the spaces or the escapes.
    """

    record: int
    line: int
    is_same_text: bool


def parse_records(data: bytes, place: str) -> list[bytes]:
    """Return the records in some text: one JSON object per line, or one in several lines.

    Args:
        data: The text.
        place: The file that it comes from; used in errors.

    Raises:
        InvalidLinesError: There is no record, or a line is not a JSON object.
    """
    if parse_object(data) is not None:
        return [data.strip()]
    lines = [line.strip() for line in data.split(b"\n")]
    found = [line for line in lines if line]
    for number, line in enumerate(lines, start=1):
        if line and parse_object(line) is None:
            raise InvalidLinesError(f"{place}:{number}: not a JSON object.")
    if not found:
        raise InvalidLinesError(f"{place}: empty. Expected JSON objects, one per line.")
    return found


def search_records(
    records: list[bytes], data: StorePath, progress: Callable[[int], None] = ignore_progress
) -> Iterator[Hit]:
    """Yield the lines of a data.jsonl that hold one of some records. Reads the file once.

    A line holds a record if it is the same JSON value: 1, 1.0 and true are three values, and the
    order of keys does not count.

    Args:
        records: JSON objects.
        data: The file.
        progress: Called after each read with its size in bytes.

    Raises:
        InvalidLinesError: A line of the file is too long.
        OSError, CorruptFileError: The file cannot be read.
    """
    wanted: dict[bytes, list[int]] = {}
    for position, record in enumerate(records):
        wanted.setdefault(_normal_form(orjson.loads(record)), []).append(position)
    for number, line in read_lines(data, progress):
        if (values := parse_object(line)) is None:
            continue
        for position in wanted.get(_normal_form(values), ()):
            record = records[position]
            is_same_text = line.strip() == record
            if is_same_text or _is_same(record, line):
                yield Hit(record=position, line=number, is_same_text=is_same_text)


def _normal_form(values: Mapping[str, Any]) -> bytes:
    """Return text that is equal for equal values, but also for some others.

    It is equal for integers that differ beyond 64 bits, and for values that are nested very deeply.
    """
    return sorted_json(values) or b""


def _is_same(one: bytes, other: bytes) -> bool:
    """Return whether two objects with one normal form are the same, with integers of any size."""
    try:
        return is_same_json(json.loads(one), json.loads(other))
    except (ValueError, RecursionError):  # integers of thousands of digits, or nested very deeply
        return False
