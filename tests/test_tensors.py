"""Comparison of safetensors files, which the tests write without their library."""

import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src import tensors
from src.errors import CorruptFileError
from src.tensors import compare_tensors

F32 = np.array([1.0, 2.0, -3.5], "<f4")


def write(
    path: Path, values: dict[str, tuple[str, np.ndarray]], metadata: dict[str, str] | None = None
) -> Path:
    """Write a safetensors file with the tensors in the order given."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, array) in values.items():
        end = len(data) + array.nbytes
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), end],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def compared(tmp_path, one, other):
    return compare_tensors(write(tmp_path / "one", one), write(tmp_path / "other", other))


def test_equal_tensors_under_another_header_are_equal(tmp_path):
    values = {"a": ("F32", F32), "b": ("I64", np.arange(4, dtype="<i8").reshape(2, 2))}
    one = write(tmp_path / "one", values, {"format": "pt", "x": "1"})
    other = write(tmp_path / "other", dict(reversed(values.items())), {"x": "1", "format": "pt"})
    comparison = compare_tensors(one, other)
    assert comparison.is_equal
    assert str(comparison) == "the same 2 tensors, in files with different headers"


def test_equal_tensors_with_other_metadata_are_not_equal(tmp_path):
    one = write(tmp_path / "one", {"a": ("F32", F32)}, {"alpha": "16"})
    other = write(tmp_path / "other", {"a": ("F32", F32)}, {"alpha": "32"})
    comparison = compare_tensors(one, other)
    assert not comparison.is_equal
    assert str(comparison) == "the same 1 tensors, with other metadata"


def test_the_name_of_a_tensor_is_shown_on_one_line_and_truncated(tmp_path):
    name = "a\n\x1b[2J" + "n" * 1_000_000
    comparison = compared(tmp_path, {name: ("F32", F32)}, {name: ("F32", F32 + 1)})
    assert str(comparison) == (
        "1 of 1 tensors differ, by at most 1. The first: a\\n\\x1b[2J"
        + "n" * 194
        + "...: 3 of 3 values differ, by at most 1"
    )


def test_a_tensor_that_differs_is_named_with_its_greatest_difference(tmp_path):
    changed = F32 + np.array([0, 0.25, -1.5], "<f4")
    comparison = compared(
        tmp_path,
        {"same": ("F32", F32), "w": ("F32", F32)},
        {"same": ("F32", F32), "w": ("F32", changed)},
    )
    assert str(comparison) == (
        "1 of 2 tensors differ, by at most 1.5. The first: w: 2 of 3 values differ, by at most 1.5"
    )


@pytest.mark.parametrize(
    ("dtype", "one", "other", "greatest"),
    [
        ("F64", np.array([1.0, 2.0]), np.array([1.0, 2.5]), 0.5),
        ("F16", np.array([1.0, 2.0], "<f2"), np.array([1.0, 4.0], "<f2"), 2.0),
        ("BF16", np.array([0x3F80, 0], "<u2"), np.array([0x4040, 0], "<u2"), 2.0),
        ("I8", np.array([-128], "i1"), np.array([127], "i1"), 255.0),
        ("U16", np.array([0], "<u2"), np.array([65535], "<u2"), 65535.0),
        ("BOOL", np.array([0, 1], "u1"), np.array([1, 1], "u1"), 1.0),
        ("F32", np.array([math.nan], "<f4"), np.array([1], "<f4"), math.inf),
        ("F8_E4M3", np.array([3], "u1"), np.array([4], "u1"), None),
    ],
)
def test_the_greatest_difference_is_computed_for_every_type_with_arithmetic(
    tmp_path, dtype, one, other, greatest
):
    [difference] = compared(tmp_path, {"w": (dtype, one)}, {"w": (dtype, other)}).differences
    assert (difference.different, difference.greatest) == (1, greatest)


def test_values_that_are_not_numbers_are_equal_if_their_bits_are(tmp_path):
    values = np.array([math.nan, math.inf], "<f4")
    assert compared(tmp_path, {"w": ("F32", values)}, {"w": ("F32", values)}).differences == ()


def test_positive_and_negative_zero_differ_by_zero(tmp_path):
    one, other = np.array([0.0], "<f4"), np.array([-0.0], "<f4")
    [difference] = compared(tmp_path, {"w": ("F32", one)}, {"w": ("F32", other)}).differences
    assert str(difference) == "w: 1 of 1 values differ, by at most 0"


def test_a_tensor_of_another_form_or_in_one_file_only_differs(tmp_path):
    comparison = compared(
        tmp_path,
        {"a": ("F32", F32), "b": ("F32", F32)},
        {"a": ("F32", F32.reshape(1, 3)), "c": ("F32", F32)},
    )
    assert list(map(str, comparison.differences)) == [
        "a: F32 [3] recorded, F32 [1, 3] now",
        "b: recorded, not in the new file",
        "c: new, not recorded",
    ]


def test_a_tensor_that_is_larger_than_a_piece_is_compared_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "PIECE_BYTES", 16)
    values = np.arange(1001, dtype="<f4")
    other = values.copy()
    other[[0, 500, 1000]] += [1, 2, 4]
    [difference] = compared(tmp_path, {"w": ("F32", values)}, {"w": ("F32", other)}).differences
    assert (difference.count, difference.different, difference.greatest) == (1001, 3, 4.0)


floats = st.lists(st.floats(width=32), max_size=20)


@given(one=floats, other=floats)
def test_two_tensors_are_equal_if_and_only_if_their_bytes_are(tmp_path_factory, one, other):
    a, b = np.array(one, "<f4"), np.array(other, "<f4")
    folder = tmp_path_factory.mktemp("x")
    differences = compared(folder, {"w": ("F32", a)}, {"w": ("F32", b)}).differences
    assert (not differences) == (a.tobytes() == b.tobytes())


def header(value: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected 8 bytes or more, found 0"),
        (b"\x01\x02", "expected 8 bytes or more, found 2"),
        (header({}, length=2**63), "expected a safetensors file with a header"),
        (header({}, length=1000), "expected a safetensors file with a header"),
        (header(b"[]"), "expected .*object"),
        (header(b"{]"), "not valid JSON"),
        (header(b'{"a": 1, "a": 1}'), "duplicate"),
        (header({"w": 1}), "expected dtype, shape and data_offsets, found 1"),
        (header({"w": entry(dtype="F31")}, bytes(4)), "'dtype': 'F31'"),
        (header({"w": entry(shape=[-1])}, bytes(4)), "expected dtype"),
        (header({"w": entry(shape=[True])}, bytes(4)), "expected dtype"),
        (header({"w": entry(shape=[10**30])}, bytes(4)), "expected dtype"),
        (header({"w": entry(shape=[1] * 65)}, bytes(4)), "expected dtype"),
        (header({"w": entry(offsets=(0,))}, bytes(4)), "expected 4 bytes of F32"),
        (header({"w": entry(offsets=(0, 8))}, bytes(8)), "expected 4 bytes of F32"),
        (header({"w": entry(offsets=(4, 8))}, bytes(8)), "overlap others, or leave a gap"),
        (header({"a": entry(), "b": entry()}, bytes(8)), "overlap others, or leave a gap"),
        (header({"w": entry()}, bytes(3)), r"expected \d+ bytes, found"),
        (header({"w": entry()}, bytes(5)), r"expected \d+ bytes, found"),
    ],
)
def test_a_file_that_is_not_of_the_format_is_refused_by_name(tmp_path, content, reason):
    bad, good = tmp_path / "bad", write(tmp_path / "good", {"w": ("F32", F32)})
    bad.write_bytes(content)
    with pytest.raises(CorruptFileError, match=reason) as error:
        compare_tensors(good, bad)
    assert str(bad) in str(error.value)


def test_a_link_or_a_fifo_is_not_read(tmp_path):
    good = write(tmp_path / "good", {"w": ("F32", F32)})
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(good)
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="link"):
        compare_tensors(link, good)
    with pytest.raises((OSError, CorruptFileError)):
        compare_tensors(fifo, good)
