"""The difference of two data.jsonl: the lines that were added, removed or changed.

Lines are compared by digest, in a temporary database on disk, so that memory is bounded.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from src.datasets.lines import parse_object, read_lines, sorted_json
from src.progress import ignore_progress
from src.storage import StorePath

__all__ = ["DatasetDifference", "LineDifference", "diff_datasets"]

DIGEST_BYTES = 16
CACHE_KIB = 1 << 16  # of the database, in memory
# Copies of a line are numbered, so that only those that one side has more of differ.
_DIFFERING = """
create table differing as
    select side, key, number from (
        select side, digest, key, number,
            row_number() over (partition by side, digest order by number) as copy from lines)
    group by digest, copy having count(*) = 1;
drop table lines;
create table keyed as
    select side, key, number,
        row_number() over (partition by side, key order by number) as copy
    from differing where key is not null;
create index keyed_by_key on keyed (key, copy, side);
create table pairs as
    select one.number as a, other.number as b from keyed as one join keyed as other
        on one.key = other.key and one.copy = other.copy
    where one.side = 'a' and other.side = 'b';
"""
_QUERIES = {  # by kind
    "changed": "select a, b from pairs order by a",
    "removed": "select number, null from differing where side = 'a' "
    "except select a, null from pairs order by 1",
    "added": "select null, number from differing where side = 'b' "
    "except select null, b from pairs order by 2",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LineDifference:
    """A line that differs.

    Attributes:
        kind: `added`, `removed` or `changed`.
        a: Its number in the first dataset, from 1; `None` if it was added.
        b: Its number in the second dataset, from 1; `None` if it was removed.
    """

    kind: str
    a: int | None
    b: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetDifference:
    """How a dataset differs from another one.

    Attributes:
        equal: The number of lines of the first dataset that are in the second one, too.
        added: The number of lines that only the second one has.
        removed: The number of lines that only the first one has.
        changed: The number of lines that differ from the one that corresponds to them.
        examples: The first lines of each kind.
    """

    equal: int
    added: int
    removed: int
    changed: int
    examples: tuple[LineDifference, ...]

    @property
    def is_different(self) -> bool:
        """Whether a line was added, removed or changed."""
        return bool(self.added or self.removed or self.changed)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def diff_datasets(
    a: StorePath,
    b: StorePath,
    *,
    key: str | None = None,
    max_examples: int = 10,
    progress: Callable[[int], None] = ignore_progress,
) -> DatasetDifference:
    """Compare two data.jsonl by the digests of their lines; their order does not count.

    Memory is bounded; a temporary file takes up to about 150 bytes per line.

    Args:
        a: The first file.
        b: The second file.
        key: A field; a line that only `a` has and one that only `b` has with the same value of
            this field are one changed line. If `None`, those with the same line number are.
        max_examples: The number of examples of each kind.
        progress: Called after each read with its size in bytes.

    Raises:
        InvalidLinesError: A line is too long.
        OSError, CorruptFileError: A file cannot be read, or the temporary file not be written.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as database:  # a temporary file
        try:
            return _diff(database, {"a": a, "b": b}, key, max_examples, progress)
        except sqlite3.OperationalError as error:  # for example, the disk is full
            raise OSError(f"the temporary database of the comparison: {error}.") from error


def _diff(
    database: sqlite3.Connection,
    sides: dict[str, StorePath],
    key: str | None,
    max_examples: int,
    progress: Callable[[int], None],
) -> DatasetDifference:
    database.executescript(
        f"pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -{CACHE_KIB};"
        "create table lines (side text, digest blob, key blob, number integer); begin"
    )
    totals = {}
    for side, path in sides.items():
        rows = _rows(side, path, key, progress)
        cursor = database.executemany("insert into lines values (?, ?, ?, ?)", rows)
        totals[side] = max(cursor.rowcount, 0)
    database.executescript(_DIFFERING)
    counts, examples = {}, []
    for kind, query in _QUERIES.items():
        rows = database.execute(query)
        first = [LineDifference(kind=kind, a=a, b=b) for a, b in islice(rows, max_examples)]
        examples += first
        counts[kind] = len(first) + sum(1 for _ in rows)
    equal = totals["a"] - counts["removed"] - counts["changed"]
    return DatasetDifference(equal=equal, **counts, examples=tuple(examples))


def _rows(
    side: str, path: StorePath, key: str | None, progress: Callable[[int], None]
) -> Iterator[tuple[str, bytes, bytes | None, int]]:
    for number, line in read_lines(path, progress):
        yield side, _digest(line), _key(line, number, key), number


def _key(line: bytes, number: int, key: str | None) -> bytes | None:
    """Return bytes that are equal for corresponding lines; `None` if no line corresponds."""
    if key is None:
        return number.to_bytes(8)
    values = parse_object(line)
    if values is None or key not in values:
        return None
    value = sorted_json(values[key])
    return value and _digest(value)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
