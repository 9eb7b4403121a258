"""Comparison of two safetensors files, tensor by tensor, without a tensor library.

The format (https://github.com/huggingface/safetensors#format): the size of the header as an integer
of 8 bytes, the header as JSON, and the values of all tensors, little-endian and without gaps. Equal
tensors can be in files of different bytes, because the order of the header is not defined.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from src.errors import CorruptFileError, truncated_repr, with_filename
from src.records.canonical import parse_json
from src.rendering.text import one_line

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TensorComparison", "TensorDifference", "compare_tensors"]

LENGTH_BYTES = 8
HEADER_LIMIT = 1 << 24  # some hundred thousand tensors
PIECE_BYTES = 1 << 22  # a multiple of the size of every value of whole bytes
MAX_DIMENSIONS, MAX_SIZE = 64, 2**53  # limits for headers from outside
MAX_NAME = 200  # characters of a name in a message
METADATA = "__metadata__"
BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""The bits of a value, by data type."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK  # follow no link; do not wait for the writer of a FIFO
_NUMPY = {
    "BOOL": "u1",
    **{name: f"<{name[0].lower()}{BITS[name] // 8}" for name in BITS if name[0] in "UI"},
    **{name: f"<f{BITS[name] // 8}" for name in ("F16", "F32", "F64")},
}
"""The types of numpy by data type. BF16 has arithmetic, too, but no type of numpy."""


class Tensor(NamedTuple):
    """One tensor of a file.

    Attributes:
        dtype: Its data type, e.g. `F32`.
        shape: Its dimensions.
        start: Where its values start in the file, in bytes.
        size: The size of its values in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def form(self) -> str:
        """Data type and shape, e.g. `F32 [8, 128]`."""
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorDifference:
    """A tensor that differs.

    Attributes:
        name: Its name.
        reason: Why its values are not compared: another form, or it is in one file only.
        count: Number of its values.
        different: Number of values with different bits; of types below 8 bits, number of bytes.
        greatest: The greatest absolute difference of two values, rounded to 53 bits; infinite if
            one is not a number, `None` for data types without arithmetic.
    """

    name: str
    reason: str = ""
    count: int = 0
    different: int = 0
    greatest: float | None = None

    def __str__(self) -> str:
        name = one_line(self.name[:MAX_NAME]) + ("..." if len(self.name) > MAX_NAME else "")
        if self.reason:
            return f"{name}: {self.reason}"
        text = f"{name}: {self.different:,} of {self.count:,} values differ"
        return text if self.greatest is None else f"{text}, by at most {self.greatest:.3g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorComparison:
    """The comparison of two safetensors files.

    Attributes:
        count: Number of tensors in both files together.
        differences: The tensors that differ, in the order of the recorded file.
        has_other_metadata: Whether the `__metadata__` of the files differ; their order does not.
    """

    count: int
    differences: tuple[TensorDifference, ...]
    has_other_metadata: bool = False

    @property
    def is_equal(self) -> bool:
        """Whether the files have the same tensors and the same metadata."""
        return not self.differences and not self.has_other_metadata

    def __str__(self) -> str:
        if self.has_other_metadata and not self.differences:
            return f"the same {self.count:,} tensors, with other metadata"
        if not self.differences:
            return f"the same {self.count:,} tensors, in files with different headers"
        text = f"{len(self.differences):,} of {self.count:,} tensors differ"
        known = [each.greatest for each in self.differences if each.greatest is not None]
        greatest = f", by at most {max(known):.3g}" if known else ""
        return f"{text}{greatest}. The first: {self.differences[0]}"


def compare_tensors(recorded: Path, new: Path) -> TensorComparison:
    """Compare two safetensors files. Reads at most a few megabytes at a time.

    Args:
        recorded: The recorded file.
        new: The file to compare with it, e.g. of another training from the same inputs.

    Raises:
        CorruptFileError: One of them is not a safetensors file; names the file.
        OSError: One of them cannot be read.
    """
    with _open(recorded) as first, _open(new) as second:
        (tensors, metadata), (others, other_metadata) = _read_header(first), _read_header(second)
        differences = []
        for name in dict.fromkeys([*tensors, *others]):
            a, b = tensors.get(name), others.get(name)
            if a is None or b is None:
                reason = "recorded, not in the new file" if b is None else "new, not recorded"
                differences.append(TensorDifference(name=name, reason=reason))
            elif (a.dtype, a.shape) != (b.dtype, b.shape):
                reason = f"{a.form} recorded, {b.form} now"
                differences.append(TensorDifference(name=name, reason=reason))
            elif (
                difference := _difference(name, a, _pieces(first, a), _pieces(second, b))
            ) is not None:
                differences.append(difference)
    return TensorComparison(
        count=len(tensors.keys() | others.keys()),
        differences=tuple(differences),
        has_other_metadata=metadata != other_metadata,
    )


# --- The format ----------------------------------------------------------------------------------


def _open(path: Path) -> FileIO:
    return FileIO(path, opener=lambda name, flags: os.open(name, flags | _FLAGS))


def _read_header(file: FileIO) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors of a file by name, in the order of their values, and its metadata."""
    path, size = file.name, os.fstat(file.fileno()).st_size
    length = int.from_bytes(_read(file, 0, LENGTH_BYTES), "little")
    if not 2 <= length <= min(HEADER_LIMIT, size - LENGTH_BYTES):
        raise CorruptFileError(
            f"{path}: expected a safetensors file with a header of at most {HEADER_LIMIT:,} "
            f"bytes, found {size:,} bytes with a header of {length:,}."
        )
    header = parse_json(_read(file, LENGTH_BYTES, length), path)
    metadata = header.pop(METADATA, None)
    start = LENGTH_BYTES + length
    tensors = {
        name: _parse_tensor(entry, start, f"{path}: {name}") for name, entry in header.items()
    }
    end = start
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].size)))
    for name, tensor in ordered.items():
        if tensor.start != end:
            raise CorruptFileError(f"{path}: {name}: its values overlap others, or leave a gap.")
        end = tensor.start + tensor.size
    if end != size:
        raise CorruptFileError(f"{path}: expected {end:,} bytes, found {size:,}.")
    return ordered, metadata


def _parse_tensor(entry: Any, start: int, place: str) -> Tensor:
    found: dict[str, Any] = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (found.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not (isinstance(dtype, str) and dtype in BITS and _are_sizes(shape) and _are_sizes(offsets)):
        raise CorruptFileError(
            f"{place}: expected dtype, shape and data_offsets, found {truncated_repr(entry)}."
        )
    bits = math.prod(shape) * BITS[dtype]
    if len(offsets) != 2 or (offsets[1] - offsets[0]) * 8 != bits:
        expected = f"{bits // 8:,} bytes of {dtype} {shape}"
        raise CorruptFileError(f"{place}: expected {expected}, found the offsets {offsets}.")
    return Tensor(dtype, tuple(shape), start + offsets[0], offsets[1] - offsets[0])


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= MAX_DIMENSIONS
        and all(type(each) is int and 0 <= each <= MAX_SIZE for each in value)
    )


# --- The values ----------------------------------------------------------------------------------


def _pieces(file: FileIO, tensor: Tensor) -> Iterator[bytes]:
    end = tensor.start + tensor.size
    for start in range(tensor.start, end, PIECE_BYTES):
        yield _read(file, start, min(PIECE_BYTES, end - start))


def _read(file: FileIO, start: int, size: int) -> bytes:
    data = bytearray()
    with with_filename(file.name):
        while len(data) < size:
            piece = os.pread(file.fileno(), size - len(data), start + len(data))
            if not piece:
                reason = f"expected {start + size:,} bytes or more, found {start + len(data):,}."
                raise CorruptFileError(f"{file.name}: {reason}")
            data += piece
    return bytes(data)


def _difference(
    name: str, tensor: Tensor, ones: Iterator[bytes], others: Iterator[bytes]
) -> TensorDifference | None:
    """Compare the values of two tensors of the same form; `None` if all are the same."""
    different, greatest = 0, 0.0
    for one, other in zip(ones, others, strict=True):
        if one != other:
            count, magnitude = _compare_piece(one, other, tensor.dtype)
            different += count
            greatest = max(greatest, magnitude)
    if not different:
        return None
    return TensorDifference(
        name=name,
        count=math.prod(tensor.shape),
        different=different,
        greatest=greatest if _has_arithmetic(tensor.dtype) else None,
    )


def _has_arithmetic(dtype: str) -> bool:
    return dtype in _NUMPY or dtype == "BF16"


def _compare_piece(one: bytes, other: bytes, dtype: str) -> tuple[int, float]:
    """Return how many values of two pieces differ, and by how much at most.

    The pieces differ. For a type without arithmetic, the greatest difference is 0.
    """
    import numpy as np  # slow to import, and needed only if there is a difference

    width = f"<u{max(BITS[dtype] // 8, 1)}"
    bits, other_bits = np.frombuffer(one, width), np.frombuffer(other, width)
    where = np.flatnonzero(bits != other_bits)
    if not _has_arithmetic(dtype):
        return len(where), 0.0
    with np.errstate(all="ignore"):
        distance = np.abs(_values(bits[where], dtype) - _values(other_bits[where], dtype))
    greatest = float(distance.max())
    return len(where), greatest if math.isfinite(greatest) else math.inf


def _values(bits: "np.ndarray[Any, Any]", dtype: str) -> "np.ndarray[Any, Any]":
    if dtype == "BF16":  # the upper half of an F32
        return (bits.astype("<u4") << 16).view("<f4").astype("f8")
    return bits.view(_NUMPY[dtype]).astype("f8")
