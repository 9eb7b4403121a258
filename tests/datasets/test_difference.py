"""Differences of datasets."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.datasets import difference
from src.datasets.difference import LineDifference, diff_datasets
from src.storage import open_file

small_lines = st.lists(st.sampled_from([b'{"k":1}', b'{"k":2}', b'{"k":2,"v":0}', b"{}", b""]))


@pytest.fixture(scope="module")
def diff(tmp_path_factory):
    """Return the difference of two lists of lines."""
    folder = tmp_path_factory.mktemp("diff")

    def diff(a, b, **options):
        paths = []
        for name, lines in (("a", a), ("b", b)):
            (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
            paths.append(open_file(folder / name))
        return diff_datasets(*paths, **options)

    return diff


def counts(found):
    return found.added, found.removed, found.changed, found.equal


def line(kind, a, b):
    return LineDifference(kind=kind, a=a, b=b)


def test_equal_data_has_no_difference(diff):
    found = diff([b"{}", b"1"], [b"{}", b"1"])
    assert counts(found) == (0, 0, 0, 2)
    assert (found.examples, found.is_different) == ((), False)


def test_an_inserted_line_is_one_added_line(diff):
    found = diff([b"1", b"2", b"3"], [b"0", b"1", b"2", b"3"])
    assert counts(found) == (1, 0, 0, 3)
    assert found.examples == (line("added", None, 1),)


def test_lines_that_differ_at_one_place_are_a_changed_line(diff):
    found = diff([b"1", b"2", b"3", b"9"], [b"1", b"two", b"3"])
    assert counts(found) == (0, 1, 1, 2)
    assert found.examples == (line("changed", 2, 2), line("removed", 4, None))


def test_order_and_line_ends_do_not_count(diff):
    assert counts(diff([b"1\r", b"2"], [b"2", b"1"])) == (0, 0, 0, 2)


def test_surplus_copies_are_added_or_removed(diff):
    found = diff([b"1", b"1", b"2"], [b"2", b"1", b"1", b"1"])
    assert counts(found) == (1, 0, 0, 3)
    assert found.examples == (line("added", None, 4),)


def test_with_a_key_a_changed_line_may_be_at_another_place(diff):
    a = [json.dumps({"id": number, "text": "x"}).encode() for number in range(4)]
    b = [b'{"id": 9}', *reversed(a)]
    b[-1] = b'{"id": 0, "text": "y"}'
    found = diff(a, b, key="id")
    assert counts(found) == (1, 0, 1, 3)
    assert found.examples == (line("changed", 1, 5), line("added", None, 1))


def test_a_key_of_equal_value_is_equal_in_any_notation(diff):
    found = diff(
        [b'{"id": {"a": 1, "b": 2}, "t": 0}'], [b'{"t": 1, "id": {"b":2,"a":1}}'], key="id"
    )
    assert counts(found) == (0, 0, 1, 0)
    assert counts(diff([b'{"id": 1}'], [b'{"id": 1.0}'], key="id")) == (1, 1, 0, 0)


def test_lines_without_the_key_are_added_or_removed(diff):
    assert counts(diff([b"[1]", b"{}"], [b"[2]", b'{"a": 1}'], key="id")) == (2, 2, 0, 0)


def test_a_key_that_is_nested_deeply_is_no_key(diff):
    a, b = (b'{"id": %s}' % (b"[" * depth + b"]" * depth) for depth in (900, 901))
    assert counts(diff([a, b"{}"], [b, b"{}"], key="id")) == (1, 1, 0, 1)


def test_examples_are_the_first_of_each_kind(diff):
    found = diff([], [b"%d" % number for number in range(1000)], max_examples=2)
    assert counts(found) == (1000, 0, 0, 0)
    assert found.examples == (line("added", None, 1), line("added", None, 2))


@given(small_lines, small_lines, st.sampled_from([None, "k"]))
def test_the_difference_is_that_of_the_multisets_of_lines(diff, a, b, key):
    found = diff(a, b, key=key)
    removed = (Counter(a) - Counter(b)).total()
    added = (Counter(b) - Counter(a)).total()
    assert found.removed + found.changed == removed
    assert found.added + found.changed == added
    assert found.equal == len(a) - removed
    back = diff(b, a, key=key)
    assert counts(back) == (found.removed, found.added, found.changed, found.equal)


def test_a_full_disk_is_an_error_that_names_the_temporary_database(diff, monkeypatch):
    monkeypatch.setattr(difference, "_DIFFERING", "pragma max_page_count = 1; create table x (y);")
    with pytest.raises(OSError, match=r"^the temporary database of the comparison: .* full"):
        diff([b"%d" % number for number in range(1000)], [])
