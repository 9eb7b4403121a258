"""Tests of tables that fit a page: no column is lost beyond its right edge."""

from hypothesis import given
from hypothesis import strategies as st

from flows.tables import PAGE_WIDTH, FittedTable, fit_table, fold, short_digests, shorten
from src.rendering.markdown import Markdown

LINK = Markdown('[a-very-long-version-nam…0123456789ab](/artifacts/key/x "a-very-long")')


def row(number, **columns):
    return {"model_version": f"model_v{number}", "epochs": number, **columns}


def pixels(table: FittedTable) -> float:
    """Return a width that a table has at least in the UI, where a cell is one line."""
    return sum(
        24
        + 6
        * max(len(str(line).replace("\\", "")) for row in table.rows for line in (name, row[name]))
        for name in table.rows[0]
    )


def test_columns_in_which_all_rows_are_equal_are_said_once_above():
    table = fit_table(
        [row(1, batch_size=16, base_model="m"), row(2, batch_size=16, base_model="m")]
    )
    assert table.rows == [{"model": "model_v1", "epochs": 1}, {"model": "model_v2", "epochs": 2}]
    assert table.caption == "The same in every row: batch_size 16, base_model m."


def test_a_table_of_one_row_has_all_columns_that_fit():
    table = fit_table([row(1, batch_size=16, path="x" * 34, other="y" * 34, third="z" * 34)])
    assert list(table.rows[0]) == ["model", "epochs", "batch_size", "path"]
    assert table.caption == f"The same in every row: other {'y' * 34}, third {'z' * 34}."


def test_the_last_columns_that_do_not_fit_are_named_above():
    table = fit_table([row(n, **{f"column_{c:024}": n for c in range(5)}) for n in (1, 2)])
    assert list(table.rows[0]) == ["model", "epochs", *(f"column_{c:024}" for c in range(2))]
    assert table.caption == (
        f"On the page of each model: column_{2:024}, column_{3:024}, column_{4:024}."
    )


def test_a_column_that_only_some_rows_have_is_shown():
    table = fit_table([row(1), row(2, accuracy=0.5)])
    assert [each["accuracy"] for each in table.rows] == [None, 0.5]


def test_a_link_counts_with_its_label_only():
    columns = {"model_version": LINK, **{f"setting_{number}": "x" * 10 for number in range(4)}}
    assert len(fit_table([columns]).rows[0]) == 5


@given(
    st.lists(st.dictionaries(st.text("abcdef_", min_size=1), st.text() | st.integers()), min_size=1)
)
def test_every_table_of_short_names_fits_a_page(rows):
    table = fit_table([{"model_version": f"model_v{n}", **each} for n, each in enumerate(rows)])
    assert pixels(table) <= PAGE_WIDTH or len(table.rows[0]) == 1


def test_text_of_outside_in_a_caption_is_text():
    rows = [row(n, name="[a](http://e.example) <b>") for n in (1, 2)]
    assert fit_table(rows).caption == "The same in every row: name `[a](http://e.example)` \\<b>."


def test_a_number_that_a_browser_would_round_is_text():
    rows = [{"a": 2**53 - 1, "b": 2**53 + 1, "c": 1e300, "d": [1], "e\n": "model_v1"}]
    assert fit_table(rows).rows == [
        {"a": 2**53 - 1, "b": "9007199254740993", "c": 1e300, "d": "\\[1\\]", "e\\n": "model_v1"}
    ]


def test_long_text_is_shown_without_its_middle():
    assert shorten("meta-llama-Llama-3.1-8B-Instruct-dataset_v1-b573ac817c32") == (
        "meta-llama-Llama-3.1-…b573ac817c32"
    )
    assert shorten("mistral-7b-dataset_v1-af1caf267490") == "mistral-7b-dataset_v1-af1caf267490"
    assert shorten("mistral-7b-dataset_v1-af1caf267490", 15) == "mistral…f267490"


def test_digests_and_commits_have_twelve_digits():
    assert short_digests(f"sha256 {'0a' * 32}; commit {'1b' * 20}. {'2' * 39}") == (
        f"sha256 0a0a0a0a0a0a; commit 1b1b1b1b1b1b. {'2' * 39}"
    )


def test_folded_text_keeps_its_lines_and_is_text():
    assert fold("one two\nthree <b>", 5) == "one<br>two<br>three<br>\\<b>"
