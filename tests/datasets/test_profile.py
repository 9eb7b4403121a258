"""Profiles of datasets."""

import json
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.datasets import profile
from src.datasets.profile import Lengths, profile_dataset
from src.storage import open_file


@pytest.fixture
def profile_of(tmp_path):
    """Profile some data; return its JSON form."""

    def profile_of(data, **options):
        (tmp_path / "f").write_bytes(data)
        return profile_dataset(open_file(tmp_path / "f"), **options).to_dict()

    return profile_of


def test_a_profile_has_fields_types_lengths_and_first_lines(profile_of):
    data = b'{"a": "xyz", "n": 1}\n{"a": "\xc3\xa9", "n": null}\r\n{"a": "", "b": [1]}\n{"n": 2.5}'
    assert profile_of(data, first_lines=2) == {
        "num_lines": 4,
        "num_invalid_lines": 0,
        "first_invalid_line": None,
        "line_bytes": {"min": 10, "median": 19, "max": 22},
        "fields": {
            "a": {
                "lines": 3,
                "types": {"text": 3},
                "characters": {"min": 0, "median": 1, "max": 3},
            },
            "n": {
                "lines": 3,
                "types": {"number": 2, "null": 1},
                "characters": None,
            },
            "b": {"lines": 1, "types": {"list": 1}, "characters": None},
        },
        "further_field_occurrences": 0,
        "first_lines": ['{"a": "xyz", "n": 1}', '{"a": "é", "n": null}'],
    }


def test_lines_that_are_no_objects_are_counted(profile_of):
    found = profile_of(b'{"a": 1}\n\n[1]\n\xff\n')
    assert (found["num_lines"], found["num_invalid_lines"], found["first_invalid_line"]) == (
        4,
        3,
        2,
    )
    assert found["first_lines"] == ['{"a": 1}', "", "[1]"]


def test_an_empty_dataset_has_a_profile(profile_of):
    found = profile_of(b"")
    assert (found["num_lines"], found["fields"], found["first_lines"]) == (0, {}, [])
    assert found["line_bytes"] == {"min": 0, "median": 0, "max": 0}


def test_fields_are_bounded(profile_of, monkeypatch):
    monkeypatch.setattr(profile, "MAX_FIELDS", 2)
    lines = [json.dumps({f"key{number}": 1, "a": 1}) for number in range(5)]
    found = profile_of("\n".join(lines).encode())
    assert set(found["fields"]) == {"key0", "a"}
    assert found["fields"]["a"]["lines"] == 5
    assert found["further_field_occurrences"] == 4


def test_a_field_with_a_long_name_is_counted_and_not_kept(profile_of):
    found = profile_of(json.dumps({"x" * 1000: 1, "y" * 1001: 1}).encode())
    assert set(found["fields"]) == {"x" * 1000}
    assert found["further_field_occurrences"] == 1


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_the_median_is_exact_to_three_digits(values):
    lengths = Lengths()
    for value in values:
        lengths.add(value)
    assert (lengths.least, lengths.most) == (min(values), max(values))
    low = sorted(values)[(len(values) - 1) // 2]
    assert abs(lengths.median - low) <= low / 200
    if max(values) <= 1000 and len(values) % 2:
        assert lengths.median == median(values)


def test_few_lengths_are_remembered():
    lengths = Lengths()
    for value in range(200_000):
        lengths.add(value)
    assert len(lengths._short) + len(lengths._long) < 5000
