"""HTML of text from outside, read back by the parser of the standard library."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given

from src.rendering import html
from tests.strategies import json_values, texts


class _Parser(HTMLParser):
    """Collects elements with their attributes, and the text inside."""

    def __init__(self):
        super().__init__()
        self.elements, self.text = [], ""

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def parsed(source):
    parser = _Parser()
    parser.feed(source)
    parser.close()
    return parser


@given(json_values)
def test_data_of_a_script_has_no_markup_and_parses_back_equal(value):
    source = html.json_data(value)
    assert source.isascii()
    assert set(source) & set("<>&") == set()
    assert json.loads(source) == value


@given(json_values)
def test_data_of_a_script_ends_only_with_its_element(value):
    page = parsed(f'<script type="application/json">{html.json_data(value)}</script><p>after</p>')
    assert [name for name, _ in page.elements] == ["script", "p"]
    assert page.text == html.json_data(value) + "after"


def test_markup_and_line_separators_in_data_are_escapes():
    assert html.json_data("</script>&\u2028\u2029") == (
        '"\\u003c/script\\u003e\\u0026\\u2028\\u2029"'
    )


def test_half_of_a_character_in_data_parses_back_equal():
    assert json.loads(html.json_data(["\udc80"])) == ["\udc80"]


def test_a_number_that_is_not_finite_is_no_data():
    with pytest.raises(ValueError, match="JSON compliant"):
        html.json_data(float("nan"))


@given(texts)
def test_text_is_one_piece_of_text_and_of_an_attribute(text):
    source = html.text(text)
    assert set(source) & set("<>\"'") == set()
    page = parsed(f'<p title="{source}"></p>')
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert [name for name, _ in page.elements] == ["p"]
    assert page.elements[0][1]["title"].replace("\r\n", "\n").replace("\r", "\n") == expected


def test_markup_in_text_is_escaped():
    assert html.text("<img onerror='x' a=\"b\"> & c") == (
        "&lt;img onerror=&#x27;x&#x27; a=&quot;b&quot;&gt; &amp; c"
    )


@pytest.mark.parametrize("source", ["a</script>", "'</SCRIPT", "x<!--", "'<script>'"])
def test_a_script_that_would_end_its_element_is_refused(source):
    with pytest.raises(ValueError, match="ends a script element"):
        html.script(source)


def test_another_script_is_unchanged():
    assert html.script("if (a < b && c > d) e();") == "if (a < b && c > d) e();"
