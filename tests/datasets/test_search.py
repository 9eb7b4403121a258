"""Searching records in data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.datasets.lines import InvalidLinesError
from src.datasets.search import Hit, parse_records, search_records
from src.storage import open_file
from tests.strategies import json_objects


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """Return the hits of some records in some data."""
    path = tmp_path_factory.mktemp("search") / "f"

    def search(records, data):
        path.write_bytes(data)
        return list(search_records(records, open_file(path)))

    return search


def test_a_record_is_found_in_each_line_that_holds_it(search):
    data = b'{"a": 1}\nnot JSON\n{"b": 1}\r\n{"a": 1}'
    assert search([b'{"a": 1}', b'{"b": 1}'], data) == [
        Hit(record=0, line=1, is_same_text=True),
        Hit(record=1, line=3, is_same_text=True),
        Hit(record=0, line=4, is_same_text=True),
    ]


@pytest.mark.parametrize(
    "line", [b'{"a":"\xc3\xa9","b":[1,2.5]}', b'  {"b": [1, 25e-1], "a": "\\u00e9"}  ']
)
def test_order_of_keys_spaces_and_escapes_do_not_count(search, line):
    record = '{"a": "é", "b": [1, 2.5]}'.encode()
    assert search([record], line) == [Hit(record=0, line=1, is_same_text=False)]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (b'{"a": 1}', b'{"a": 1.0}'),
        (b'{"a": 1}', b'{"a": true}'),
        (b'{"a": 1}', b'{"a": "1"}'),
        (b'{"a": 1}', b'{"a": 1, "b": null}'),
        (b'{"a": 100000000000000000000}', b'{"a": 100000000000000000001}'),
        (b'{"a": [1, 2]}', b'{"a": [2, 1]}'),
    ],
)
def test_other_values_are_not_found(search, record, line):
    assert search([record], line) == []


def test_lines_that_are_nested_deeply_are_compared_by_text_and_hide_no_other_line(search):
    deep, other = (b'{"a": %s}' % (b"[" * depth + b"]" * depth) for depth in (900, 901))
    assert search([deep, b'{"b": 1}'], b"\n".join([other, deep, b'{"b": 1}'])) == [
        Hit(record=0, line=2, is_same_text=True),
        Hit(record=1, line=3, is_same_text=True),
    ]


def test_a_record_given_twice_is_found_twice(search):
    assert [hit.record for hit in search([b"{}", b"{ }"], b"{}")] == [0, 1]


@given(json_objects, st.lists(json_objects, max_size=3))
def test_each_line_of_a_file_is_found_in_it_in_any_notation(search, wanted, others):
    data = "\n".join(json.dumps(each) for each in [*others, wanted]).encode()
    compact = json.dumps(wanted, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(others) + 1 in [hit.line for hit in search([compact], data)]


def test_records_are_one_object_or_one_per_line():
    assert parse_records(b' {"a": 1}\n', "f") == [b'{"a": 1}']
    assert parse_records(b'{\n"a": 1\n}', "f") == [b'{\n"a": 1\n}']
    assert parse_records(b'{"a": 1}\r\n\n{"b": 1}\n', "f") == [b'{"a": 1}', b'{"b": 1}']


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f: empty. Expected JSON objects, one per line."),
        (b"\n \n", "f: empty. Expected JSON objects, one per line."),
        (b'{"a": 1}\n[1]\n', "f:2: not a JSON object."),
        (b"\xff", "f:1: not a JSON object."),
    ],
)
def test_text_without_records_is_refused(data, message):
    with pytest.raises(InvalidLinesError) as caught:
        parse_records(data, "f")
    assert str(caught.value) == message
