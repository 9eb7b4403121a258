"""Sparklines: values as one line of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rendering.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.3, 4.0, 3.0, 2.5, 2.11], "5.30 █▅▃▂▁ 2.11"),
        ([1.0, 2.0], "1.00 ▁█ 2.00"),
        ([0.0213], "0.0213 ▄ 0.0213"),
        ([0.5, 0.5, 0.5], "0.500 ▄▄▄ 0.500"),
        ([123.0, 1234.5, 0], "123 ▂█▁ 0.00"),
        ([-1.5e308, 1.5e308], "-1.50e+308 ▁█ 1.50e+308"),
        (list(range(1, 1001)), "1.00 ▁▂▂▃▄▄▅▅▆▇▇█ 1.00e+03"),
    ],
)
def test_a_sparkline_has_the_first_value_bars_and_the_last_value(values, expected):
    assert sparkline(values) == expected


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_every_sparkline_is_printable_and_has_at_most_twelve_bars(values):
    line = sparkline(values)
    assert line.isprintable()
    _, bars, _ = line.split(" ")
    assert len(bars) == min(len(values), 12)
    assert set(bars) <= set("▁▂▃▄▅▆▇█")
