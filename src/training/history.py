"""The history of a training: one JSON object per line, in the order of the steps.

A training that continues from a checkpoint reports some steps again. A point replaces every point
of its step and of later ones, so that the history is that of a training without interruption.
"""

import json
import math
import os
from array import array
from collections.abc import Mapping
from io import BytesIO, FileIO
from itertools import islice
from pathlib import Path
from typing import Any

from src.errors import with_filename
from src.names import is_metric_name
from src.records.evaluation import MAX_METRICS, is_metric
from src.records.layout import HISTORY_LIMIT
from src.storage import FolderStore, StorePath

__all__ = [
    "MAX_POINT_BYTES",
    "History",
    "losses",
    "parse_point",
    "planned_steps",
    "point_loss",
    "read_history",
]

MAX_POINT_BYTES = 1 << 16
MAX_STEP = 2**53 - 1
MAX_STEPS = 10**12  # of a whole training
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class History:
    """The history of one training, in a file that stays open.

    Args:
        path: The file; its folder exists. The points that it has already are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._steps = array("q")  # of each point
        self._ends = array("q")  # where the line of each point ends

    def append(self, point: dict[str, Any]) -> None:
        """Write a point, which replaces those of the same step and of later ones.

        Args:
            point: As `parse_point` returns it. One that would make the file larger than
                `HISTORY_LIMIT` is not written.

        Raises:
            CorruptFileError: There is something other than a regular file, or the file is larger
                than `HISTORY_LIMIT`.
            OSError: The file cannot be read or written; names the file.
        """
        if self._file is None:
            self._file = self._open()
        steps, ends, step = self._steps, self._ends, point["step"]
        if steps and steps[-1] >= step:
            while steps and steps[-1] >= step:
                steps.pop()
                ends.pop()
            size = ends[-1] if ends else 0
            self._file.truncate(size)
            self._file.seek(size)
        line = json.dumps(point, sort_keys=True, allow_nan=False).encode() + b"\n"
        start = ends[-1] if ends else 0
        if start + len(line) > HISTORY_LIMIT:
            return
        written = 0
        with with_filename(self._path):
            while written < len(line):  # on a full disk, a part is written before the error
                written += self._file.write(line[written:]) or 0
        steps.append(step)
        ends.append(start + len(line))

    def _open(self) -> FileIO:
        """Open the file, with its whole points alone."""
        store, name, end = FolderStore(self._path.parent), self._path.name, 0
        data = store.read(name, HISTORY_LIMIT) or b""
        for line in BytesIO(data):
            point = parse_point(line)
            if point is None or not line.endswith(b"\n"):  # cut off: its writer was killed
                break
            end += len(line)
            self._steps.append(point["step"])
            self._ends.append(end)
        # A file that has another name, by a hard link, is not written to, but replaced.
        if self._path.exists() and self._path.lstat().st_nlink > 1:
            self._path.unlink()
        store.replace(name, data[:end])
        file = FileIO(os.open(self._path, _FLAGS), "r+")
        file.seek(end)
        return file

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def read_history(path: StorePath) -> list[dict[str, Any]]:
    """Read the history of a training; empty if there is no file.

    Args:
        path: The file; of a model version, its `history_path`.

    Raises:
        CorruptFileError: It is not a regular file, or too large.
        OSError: It cannot be read.
    """
    data = path.read(HISTORY_LIMIT) or b""
    return [point for line in data.splitlines() if (point := parse_point(line)) is not None]


def losses(data: bytes, limit: int) -> list[tuple[int, float]]:
    """Return the loss by step of a training.jsonl, in the order of the lines.

    Args:
        data: The bytes of the file.
        limit: The most points to return. If there are more lines, lines at equal distances are
            parsed, and the first and the last one that has a loss.

    Returns:
        Steps and losses, without the points whose `loss` is missing or no finite number.
    """
    found: list[tuple[int, float]] = []
    skipped: list[bytes] = []
    every = -(-data.count(b"\n") // max(limit - 1, 1))
    for line in BytesIO(data):
        if found and len(skipped) + 1 < every:
            skipped.append(line)
        elif (point := _parsed_loss(line)) is not None:
            found.append(point)
            skipped.clear()
    found += islice(filter(None, map(_parsed_loss, reversed(skipped))), 1)
    return found


def _parsed_loss(line: bytes) -> tuple[int, float] | None:
    return point_loss(parse_point(line) or {})


def point_loss(point: Mapping[str, Any]) -> tuple[int, float] | None:
    """Return step and loss of a point; `None` if its `loss` is missing or no finite number."""
    loss = point.get("loss")
    return (point["step"], float(loss)) if is_metric(loss) else None


def parse_point(line: bytes | str) -> dict[str, Any] | None:
    """Parse a line that a trainer printed.

    Returns:
        The point: a `step`, which is an integer from 0, and at most `MAX_METRICS` further values by
        names of `is_metric_name`. A number that is not finite is `None`, as JSON has no such
        number. `None` if the line is not a point.
    """
    if len(line) > MAX_POINT_BYTES or line[:1] not in (b"{", "{"):
        return None
    try:
        value = json.loads(line, parse_float=_finite, parse_constant=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # fails on half of a character
    except (ValueError, RecursionError):
        return None
    step = value.get("step")
    is_step = isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= MAX_STEP
    has_names = len(value) <= MAX_METRICS + 1 and all(map(is_metric_name, value))
    return value if is_step and has_names else None


def planned_steps(point: Mapping[str, Any]) -> int | None:
    """Return the number of steps of the whole training, as a point says it in `total_steps`."""
    total = point.get("total_steps")
    if isinstance(total, int) and not isinstance(total, bool) and 0 < total <= MAX_STEPS:
        return total
    return None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
