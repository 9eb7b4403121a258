"""Markdown of text from outside, read back by a parser of CommonMark and GFM."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from src.rendering import markdown
from src.rendering.markdown import Markdown
from src.rendering.text import as_text

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# What GFM makes a link of, in the text of a parsed page: https://github.github.com/gfm/#autolinks
AUTOLINK = re.compile(r"://|www\.|[\w.+-]@[\w-]", re.IGNORECASE)
HOSTILE = [
    *(
        "![x](http://e.example/x.png)",
        "[pay](http://e.example)",
        "<img src=x>",
        "<!-- x",
        "</code>",
    ),
    *("`code`", "``` x", "a`", "x|y", "x\\|y", "\\", "\\\\|", "*a* **b**", "_a_ __b__", "x._b_.y"),
    *(
        "~~a~~",
        "~~~",
        "~a~",
        "&lt;",
        "&amp;lt;",
        "&#39;",
        "&copy;",
        "# a",
        "a #",
        "- a",
        "-",
        "+ a",
    ),
    *("1. a", "12) a", "1.", "> a", "---", "===", "***", "[^1]: a", "[a]: b", "[ ] a", "| a | b |"),
    *(
        "http://e.example",
        "WWW.e.example",
        "a@e.example",
        "mailto:a@e.example",
        "a@@b.c",
        "`a@b`@c",
    ),
    *(
        "$x$",
        "    code",
        "a  \nb",
        "a\\\nb",
        "a\n\nb",
        "\t",
        "\0",
        "\u202e",
        "model_v1",
        "_",
        "!",
        "",
    ),
]
pieces = st.sampled_from(
    [*HOSTILE, *"\\`*_{}[]()<>#+-.!|~&:;@$=^'\"/ 1aé\n", "www.", "http://", "  "]
)
texts = st.text(st.characters()) | st.lists(pieces, max_size=8).map("".join)


def parse(source: str) -> tuple[list[str], list[str]]:
    """Return the tags of a page without the paragraph, and its texts without line ends."""
    tags, found = [], [""]
    for block in PARSER.parse(source):
        for token in [block, *(block.children or [])]:
            if token.type == "text":
                found[-1] += token.content
            elif token.type == "code_inline":
                found += [token.content, ""]
            elif token.type not in ("inline", "paragraph_open", "paragraph_close"):
                tags.append(token.type)
    return tags, found


def cells(source: str) -> list[list[str]]:
    """Return the texts of the cells of a page that is one table."""
    tags, rows = [], []
    for block in PARSER.parse(source):
        tags.append(block.type)
        if block.type == "tr_open":
            rows.append([])
        if block.type == "inline":
            rows[-1].append("".join(parse(block.content)[1]) if block.content else "")
    assert {tag.partition("_")[0] for tag in tags} <= {
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "inline",
    }
    assert tags.count("table_open") == 1
    return rows


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("model_v1", "model_v1"),
        ("org/llama-3.1-8b", "org/llama-3.1-8b"),
        ("6.0.3", "6.0.3"),
        (0.5, "0.5"),
        ("x|y", "x\\|y"),
        ("x\\|y", "x\\\\\\|y"),
        ("- x", "\\- x"),
        ("1. x", "1\\. x"),
        ("_x_", "\\_x\\_"),
        ("see www.e.example now", "see `www.e.example` now"),
        ("a\n<b>", '"a\\\\n\\<b>"'),
    ],
)
def test_a_character_is_escaped_only_where_it_has_a_meaning(value, source):
    assert markdown.text(value) == source


@given(texts)
def test_a_parser_reads_text_as_it_was(text):
    tags, found = parse(markdown.text(text))
    assert tags == []
    assert "".join(found) == as_text(text)


@given(texts)
def test_no_text_between_code_looks_like_an_address(text):
    _, found = parse(markdown.text(text))
    assert [each for each in found[::2] if AUTOLINK.search(each)] == []


@given(texts)
def test_a_parser_reads_code_as_it_was(text):
    tags, found = parse(markdown.code(text))
    assert tags == []
    assert "".join(found) == as_text(text)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_text_in_a_heading_a_list_and_a_sentence_is_read_as_it_was(text):
    for prefix, kind in [("# ", "heading"), ("- ", "list"), ("Model ", "paragraph")]:
        source = f"{prefix}{markdown.text(text)}\nx {markdown.code(text)}\n"
        shown = "".join(parse(source)[1]).removeprefix("Model ")
        assert shown == f"{as_text(text)}x {as_text(text)}"
        assert PARSER.parse(source)[0].type.startswith(kind) or kind == "list"


@given(st.lists(st.tuples(texts, texts), max_size=4))
def test_a_parser_reads_the_cells_of_a_table_as_they_were(rows):
    source = markdown.table(("text", "code"), [(one, markdown.code(two)) for one, two in rows])
    assert cells(source) == [["text", "code"], *([as_text(one), as_text(two)] for one, two in rows)]


def test_a_cell_is_escaped_unless_it_is_markdown():
    source = markdown.table(("a", "b"), [("**x**", Markdown("**y**")), (None, {"z": True})])
    assert source == '| a | b |\n| --- | --- |\n| \\*\\*x\\*\\* | **y** |\n| - | {"z": true} |\n'


@given(texts.filter(as_text), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_link_has_its_label_as_text_and_its_path_as_target(label, path):
    [inline] = [token for token in PARSER.parse(markdown.link(label, f"/{path}")) if token.children]
    start, *between, end = inline.children
    assert (start.type, end.type) == ("link_open", "link_close")
    assert {token.type for token in between} == {"text"}
    assert "".join(token.content for token in between) == as_text(label)
    assert unquote(start.attrs["href"]) == f"/{path}"


@given(texts)
def test_every_line_of_a_text_is_shown_between_line_breaks(text):
    lines = markdown.lines(text)
    assert "\n" not in lines
    assert [("".join(parse(line)[1])) for line in lines.split("<br>")] == [
        as_text(line.strip()) for line in text.split("\n")
    ]


def test_a_block_of_code_is_indented():
    assert markdown.code_block("one \\\n    two") == "    one \\\n        two\n"
    [block] = PARSER.parse(markdown.code_block("one \\\n    two"))
    assert (block.type, block.content) == ("code_block", "one \\\n    two\n")
