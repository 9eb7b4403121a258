import base64
import re
from hashlib import sha256
from html.parser import HTMLParser

from src.report.content import page_content
from src.report.page import render_page
from src.report.reading import RecordFiles

LIBRARY = "window.vegaEmbed = null;"


class _Parser(HTMLParser):
    """Collects elements: name, attributes, and the text up to the next tag."""

    def __init__(self):
        super().__init__()
        self.elements, self.is_inside = [], False

    def handle_starttag(self, name, attributes):
        self.elements.append([name, dict(attributes), ""])
        self.is_inside = True

    def handle_endtag(self, name):
        self.is_inside = False

    def handle_data(self, data):
        if self.is_inside:
            self.elements[-1][2] += data


def elements(root="artifacts"):
    """Return the elements of a page without models: name, attributes and text."""
    content = page_content(RecordFiles(root=root, models=()), "2026-11-24T08:00:00.000Z")
    parser = _Parser()
    parser.feed(render_page(content, {"scatter": {"mark": "</script>"}}, LIBRARY))
    return parser.elements


def test_the_policy_of_the_page_allows_its_own_scripts_and_style_alone():
    [policy] = [each["content"] for name, each, _ in elements() if "http-equiv" in each]
    assert re.sub("'sha256-[^']{44}'", "HASH", policy) == (
        "default-src 'none'; script-src HASH HASH; style-src HASH; img-src data:"
    )
    sources = [
        text
        for name, each, text in elements()
        if name == "style" or (name == "script" and each.get("type") != "application/json")
    ]
    hashes = [base64.b64encode(sha256(text.encode()).digest()).decode() for text in sources]
    assert sorted(re.findall("sha256-([^']+)", policy)) == sorted(hashes)


def test_the_page_names_no_other_file():
    for _, attributes, _ in elements():
        assert "src" not in attributes
        assert attributes.get("href", "data:,") == "data:,"


def test_the_scripts_of_the_page_make_no_html_from_text():
    [script] = [text for name, each, text in elements() if each.get("type") == "module"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script
    assert LIBRARY in [text for _, _, text in elements()]


def test_a_root_with_markup_in_its_name_adds_no_element():
    names = [name for name, _, _ in elements()]
    assert [name for name, _, _ in elements("</title></script><b>&")] == names
    [title] = [text for name, _, text in elements("<b>&") if name == "title"]
    assert title == "Models in <b>&"
