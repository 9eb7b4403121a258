"""Text from outside on a terminal, in a log and in an image."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rendering.text import (
    as_text,
    counted,
    message,
    one_line,
    printable,
    reason_first,
    truncated_list,
)

characters = st.characters()  # all of Unicode, also surrogates
texts = st.text(characters)
CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")
CSI, OVERRIDE = "\x9b", "\u202e"  # a control sequence introducer of one byte; right to left


@given(texts)
def test_no_control_character_and_no_surrogate_passes(text):
    assert {unicodedata.category(each) for each in one_line(text)} & set(CONTROLS) == set()
    assert one_line(text).isprintable()
    assert printable(text).replace("\n", "").isprintable()
    assert as_text(text).isprintable()


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S"])))
def test_printable_text_is_unchanged(text):
    assert [printable(text), one_line(text), message(text), as_text(text)] == [text] * 4


@given(texts, texts)
def test_texts_of_different_values_differ_unless_one_is_quoted(one, other):
    if as_text(one) == as_text(other) and one != other:
        assert '"' in one + other


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        (f"{CSI}31m", "\\x9b31m"),
        (f"a{OVERRIDE}b", "a\\u202eb"),
        ("\r2 models: 2 MATCH", "\\r2 models: 2 MATCH"),
        ("a\udcff", "a\\udcff"),
        ("\U000e0001", "\\U000e0001"),
        ("\0\x7f\t", "\\x00\\x7f\\t"),
    ],
)
def test_a_character_that_is_not_printable_is_shown_as_an_escape(text, shown):
    assert (printable(text), one_line(text), message(text)) == (shown, shown, shown)


def test_a_line_end_is_kept_escaped_or_followed_by_an_indentation():
    assert printable("one\ntwo") == "one\ntwo"
    assert one_line("one\ntwo") == "one\\ntwo"
    assert message("one\ntwo\n\nthree\n") == "one\n  two\n\n  three\n"


@given(texts)
def test_the_reason_of_an_error_is_one_printable_line(text):
    assert reason_first(ValueError(text)).isprintable()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("configs/a b.yaml: no such config."), "no such config (configs/a b.yaml)"),
        (ValueError("bad.yaml:5: epochs: expected 1."), "epochs: expected 1 (bad.yaml:5)"),
        (ValueError("model_version: expected a name."), "model_version: expected a name."),
        (
            ValueError(
                "bad.yaml:1: unknown key 'epoch'?\nbad.yaml: no key 'a'.\nbad.yaml: no 'b'."
            ),
            "unknown key 'epoch'? (line 1); no key 'a'; no 'b' (bad.yaml)",
        ),
        (
            ValueError("data/v1: does not match:\n  rows: 1, 2\n  size: 3, 4\nRestore the data."),
            "does not match: rows: 1, 2; size: 3, 4; Restore the data (data/v1)",
        ),
        (
            ValueError("2 of 3 configs failed:\na.yaml:2: bad.\nb.yaml: no such config."),
            "2 of 3 configs failed: bad (a.yaml:2); no such config (b.yaml)",
        ),
        (OSError(28, "No space left on device", "a/b.json"), "No space left on device (a/b.json)"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (TimeoutError("a/b.json: locked."), "locked (a/b.json)"),
        (ValueError(""), ""),
    ],
)
def test_the_reason_of_an_error_comes_first_and_its_path_last(error, line):
    assert reason_first(error) == line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (2e-05, "2e-05"),
        (False, "false"),
        ("", ""),
        ("naïve", "naïve"),
        (" outer space", '" outer space"'),
        ("two\nlines \x1b[31m", '"two\\nlines \\u001b[31m"'),
        ({"b": 1, "a": [2]}, '{"a": [2], "b": 1}'),
        (10**400, f"1{'0' * 400}"),
    ],
)
def test_the_text_of_a_value_is_one_line_without_terminal_commands(value, text):
    assert as_text(value) == text


def test_the_text_of_a_deeply_nested_value_is_truncated():
    value = []
    for _ in range(100_000):
        value = [value]
    assert as_text(value) == "[[[[[[[...]]]]]]]"


def test_a_noun_is_singular_after_one_alone():
    assert [counted(number, "model") for number in (0, 1, 2, 1000)] == [
        "0 models",
        "1 model",
        "2 models",
        "1,000 models",
    ]


def test_only_the_first_names_are_listed():
    assert truncated_list("abcde") == "a, b, c, d, e"
    assert truncated_list("abcdefg") == "a, b, c, d, e and 2 more"
    assert truncated_list([]) == ""
