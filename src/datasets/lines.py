"""The lines of a data.jsonl: read them one by one, and check that each is a JSON object.

A line has at most `MAX_LINE_BYTES` bytes, so that memory is bounded.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import takewhile
from typing import Any

import orjson

from src.errors import truncated_repr
from src.progress import ignore_progress
from src.rendering.text import counted
from src.storage import StorePath

__all__ = [
    "MAX_FAULTS",
    "MAX_LINE_BYTES",
    "PIECE_BYTES",
    "InvalidLinesError",
    "LineCheck",
    "parse_object",
    "read_lines",
    "read_numbered",
    "read_pieces",
    "sorted_json",
]

PIECE_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 24
MAX_FAULTS = 20
MAX_NUMBERS = 5  # line numbers that are remembered for a note

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_INTO = "> data.jsonl`, then add that file."
_FROM_CSV = (
    'python -c "import csv, json, sys; '
    '[print(json.dumps(row)) for row in csv.DictReader(sys.stdin)]"'
)


class InvalidLinesError(ValueError):
    """Raised when lines are not JSON objects; has one line of text for each, with its number."""


def read_pieces(
    path: StorePath, progress: Callable[[int], None] = ignore_progress
) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces.

    Args:
        path: The file.
        progress: Called after each read with its size in bytes.

    Raises:
        FileNotFoundError: There is no such file.
        CorruptFileError: It is not a regular file.
        FileChangedError: At the end: the file was written to meanwhile.
    """
    with path.open() as file:
        buffer = memoryview(bytearray(PIECE_BYTES))
        while read := file.readinto(buffer):
            progress(read)
            yield buffer[:read].tobytes()


def read_lines(
    path: StorePath, progress: Callable[[int], None] = ignore_progress
) -> Iterator[tuple[int, bytes]]:
    """Yield each line of a file: its number, from 1, and its bytes without the line end.

    Raises:
        InvalidLinesError: A line is too long; names the line.
        OSError, CorruptFileError: See `read_pieces`.
    """
    for number, line in enumerate(_split(read_pieces(path, progress)), start=1):
        if len(line) > MAX_LINE_BYTES:
            raise InvalidLinesError(f"{path}:{number}: {_fault(line)}")
        yield number, line.removesuffix(b"\r")


def read_numbered(path: StorePath, numbers: Collection[int]) -> dict[int, bytes]:
    """Return the lines of a file that have these numbers; see `read_lines`."""
    last = max(numbers, default=0)
    lines = takewhile(lambda each: each[0] <= last, read_lines(path)) if numbers else ()
    return {number: line for number, line in lines if number in numbers}


def parse_object(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line; `None` if it is not one, or too long."""
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def sorted_json(value: object) -> bytes | None:
    """Return JSON with sorted keys; `None` if the value is nested in more than about 250 levels."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return None


class LineCheck:
    """Checks, counts and hashes lines while their bytes pass.

    Args:
        place: The file that the lines come from; used in errors.

    Attributes:
        num_lines: The number of lines; the last one needs no line end.
        num_crlf: The number of lines that end with CR LF.
        first_crlf: The numbers of the first of these.
    """

    def __init__(self, place: str) -> None:
        self.num_lines = self.num_crlf = 0
        self.first_crlf: list[int] = []
        self._place = place
        self._digest = hashlib.sha256()
        self._faults: list[str] = []

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes that have passed, as 64 hexadecimal digits."""
        return self._digest.hexdigest()

    def checked(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces, unchanged.

        Raises:
            InvalidLinesError: At the end, or after `MAX_FAULTS` faults: there are no lines, or
                lines that are not a JSON object in UTF-8; names each. After the first line, if it
                shows that the file has another format.
        """
        passed: list[bytes] = []

        def passing() -> Iterator[bytes]:
            for piece in pieces:
                self._digest.update(piece)
                passed.append(piece)
                yield piece

        for line in _split(passing()):
            yield from passed
            passed.clear()
            self._check(line)
        yield from passed
        if not self.num_lines:
            self._faults.append(f"{self._place}: no lines. Expected one JSON object per line.")
        if self._faults:
            raise self._error(f"Found in {counted(self.num_lines, 'line')}.")

    def _check(self, line: bytes) -> None:
        self.num_lines += 1
        if parse_object(line) is None:
            if self.num_lines == 1 and (reason := _wrong_format(line)):
                self._faults.append(f"{self._place}: {reason}")
                raise self._error("Expected one JSON object per line.")
            self._faults.append(f"{self._place}:{self.num_lines}: {_fault(line)}")
            if len(self._faults) == MAX_FAULTS or len(line) > MAX_LINE_BYTES:
                raise self._error("Not read further.")
        if line.endswith(b"\r"):
            self.num_crlf += 1
            if len(self.first_crlf) < MAX_NUMBERS:
                self.first_crlf.append(self.num_lines)

    def _error(self, end: str) -> InvalidLinesError:
        return InvalidLinesError("\n".join([*self._faults, f"{end} Nothing was added."]))


def _wrong_format(line: bytes) -> str | None:
    """Return which other format a file has, by its first line, and what to do."""
    text = line.decode(errors="replace").strip()
    if line.startswith(_GZIP):
        return "compressed by gzip. Decompress it: `gunzip -k FILE`, then add that file."
    if line.startswith(_UTF_16):
        return f"in UTF-16. Convert it: `iconv -f UTF-16 -t UTF-8 FILE {_INTO}"
    if line.startswith(b"PAR1"):
        return "a Parquet file. Convert it to JSON lines, e.g. by `to_json(lines=True)` of pandas."
    if text.startswith("["):
        return f"begins as a JSON array. Write a line for each item: `jq -c '.[]' FILE {_INTO}"
    if text == "{":
        return f"has objects of several lines. Join them: `jq -c . FILE {_INTO}"
    if not text.startswith("{") and re.search(r"\w[,;\t]\w", text):
        return f"begins as CSV. Convert it: `{_FROM_CSV} < FILE {_INTO}"
    return None


def _fault(line: bytes) -> str:
    """Return why a line is not a JSON object, and what to do."""
    if len(line) > MAX_LINE_BYTES:
        return f"longer than {MAX_LINE_BYTES:,} bytes. Expected one JSON object per line."
    if line.startswith(_BYTE_ORDER_MARK):
        return "has a byte order mark. Save the file as UTF-8 without one."
    if not line.strip():
        return "blank. Remove the line."
    if (column := line.find(b"\0")) >= 0:
        return f"has a NUL byte, number {column + 1:,} of the line. Save the file as UTF-8."
    try:
        text = line.decode().strip(" \t\r")  # other spaces may be the fault
    except UnicodeDecodeError as error:
        return f"not UTF-8 text, byte {error.start + 1:,} of the line. Save the file as UTF-8."
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"column {error.colno:,}: not valid JSON, {error.msg}: {truncated_repr(text)}."
    return f"expected a JSON object, found {truncated_repr(value)}."


def _split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of data without their line feeds; the start of a line that is too long."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            yield rest
            return
    if rest:
        yield rest
