"""Words of a command, as a shell and as Prefect read them."""

import json
import os
import shlex
import subprocess
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.cli._utilities import load_json_key_values

from src.rendering.shell import prefect_parameter, quote

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
names = st.sampled_from(
    ["123", "1e5", "true", "null", "-", "a b", "[x", "{x", '"x"', "\\n", "9" * 5000]
)


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("configs/training/base-1.yaml", "configs/training/base-1.yaml"),
        ("x$(touch M).yaml", "'x$(touch M).yaml'"),
        ("it's", "'it'\"'\"'s'"),
        ("", "''"),
        ("a\n\x1b", "$'\\141\\012\\033'"),
        ("a\udcff", "$'\\141\\377'"),
        ("x&#39;y", "'x'\\&'#39;y'"),
    ],
)
def test_a_word_is_quoted_where_a_shell_would_change_it(word, quoted):
    assert quote(word) == quoted


@given(texts)
def test_a_quoted_word_is_one_line_of_printable_text(word):
    assert quote(word).isprintable()


@given(texts.filter(str.isprintable))
def test_a_shell_reads_printable_text_as_it_was(word):
    assert shlex.split(quote(word)) == [word]


@settings(max_examples=50)
@given(st.lists(texts, min_size=1, max_size=20))
def test_bash_reads_every_text_as_it_was(words):
    command = f"printf '%s\\0' {' '.join(map(quote, words))}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in words)


@given(texts)
def test_a_quoted_word_has_no_character_reference_that_a_page_could_decode(word):
    assert unescape(quote(word)) == quote(word)


@pytest.mark.parametrize(
    ("value", "option"),
    [
        ("model_v1", "-p name=model_v1"),
        ("123", "-p 'name=\"123\"'"),
        ("a b.yaml", "-p 'name=a b.yaml'"),
        ("a\nb", "-p 'name=\"a\\nb\"'"),
    ],
)
def test_a_parameter_that_prefect_would_parse_is_json(value, option):
    assert prefect_parameter("name", value) == option


@given(texts | names)
def test_prefect_reads_a_parameter_as_the_text_that_it_was(value):
    flag, word = shlex.split(prefect_parameter("name", value))
    assert flag == "-p"
    assert load_json_key_values([word], "parameter") == {"name": value}


def test_a_parameter_is_one_line_of_printable_text():
    assert json.dumps("\u202e\n") in prefect_parameter("name", "\u202e\n")
