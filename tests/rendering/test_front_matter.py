"""YAML front matter, read by two parsers: PyYAML, and the YAML 1.2 of training configs."""

import re

import pytest
import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from hypothesis import given
from hypothesis import strategies as st

from src.rendering.front_matter import front_matter
from tests.strategies import json_values, texts

WORDS = ["no", "null", "1e5", "0o17", "---", "a\n---\nb", "...", "# a", "a: b", "- a", "1_000", "~"]


def test_text_is_quoted_only_where_it_could_be_read_as_something_else():
    values = {"base_model": "org/name-1.0", "tags": ["no", "1e5"], "value": 1e-05, "empty": ""}
    assert front_matter(values) == (
        '---\nbase_model: org/name-1.0\ntags:\n- \'no\'\n- "1e5"\nvalue: 1.0e-05\nempty: ""\n---\n'
    )


@pytest.mark.parametrize("word", WORDS)
def test_no_word_is_read_as_another_type_by_yaml_1_2(word):
    [line] = front_matter({"a": word}).splitlines()[1:-1]
    assert line[3] in "\"'"


@given(st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), json_values | texts))
def test_every_value_is_read_back_as_it_was_and_is_in_the_block(values):
    source = front_matter(values)
    assert source.isascii()
    block = REGEX_YAML_BLOCK.search(source + "\n# Text\n")
    assert block[0] == source
    assert yaml.safe_load(block[2]) == values
    assert not re.search(r"^---", block[2], re.MULTILINE)
