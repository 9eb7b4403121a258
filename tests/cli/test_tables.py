"""Tests of tables, in a pipe and on a terminal."""

import pytest

from cli import tables
from tests.cli.terminal import lines, on_terminal

PRINT = """
from cli.tables import print_table
print_table(("a text", "a number"), [(" ".join(["word"] * 8), 1), ("x" * 20, None)])
"""
PRINT_NAMES = """
from cli.tables import print_table
print_table(("base_model", "num_training_samples"), [("mistral-7b-instruct", 12345)])
"""


def test_on_a_terminal_text_is_folded_to_its_width():
    output = on_terminal(PRINT, columns=24)
    assert "\x1b[1m" in output
    assert lines(output) == [
        "a text          a number",
        "word word word         1",
        "word word word",
        "word word",
        "xxxxxxxxxxxxxx         -",
        "xxxxxx",
    ]


def test_on_a_wide_terminal_nothing_is_folded():
    output = on_terminal(PRINT_NAMES, columns=41)
    assert "\x1b[1m" in output
    assert lines(output) == [
        "base_model           num_training_samples",
        "mistral-7b-instruct                 12345",
    ]


def test_on_a_narrow_terminal_a_column_name_is_folded_after_an_underscore():
    assert lines(on_terminal(PRINT_NAMES, columns=25)) == [
        "                     num_",
        "                training_",
        "base_model        samples",
        "mistral-7b-i        12345",
        "nstruct",
    ]


def test_on_the_narrowest_terminal_that_fits_every_word_of_a_column_name_is_a_line():
    assert lines(on_terminal(PRINT_NAMES, columns=19)) == [
        "               num_",
        "base_     training_",
        "model       samples",
        "mistral-      12345",
        "7b-instr",
        "uct",
    ]


def test_a_column_that_does_not_fit_is_left_out_and_named_with_the_value_of_all_rows():
    assert lines(on_terminal(PRINT_NAMES, columns=18)) == [
        "Left out, as the terminal is too narrow: num_training_samples (12345). --json has all.",
        "base_model",
        "mistral-7b-instruc",
        "t",
    ]


def test_the_least_important_columns_are_left_out_first_and_then_the_last_ones():
    code = """
from cli.tables import print_table
head = ("name", "batch_size", "base_model", "latency_ms", "quality_score")
print_table(head, [("x" * 19, 16, "a", 1, 2), ("y", 32, "b", 1, 3)], least=["base_model"])
"""
    columns = (38, 31)
    assert [lines(on_terminal(code, columns=each))[0] for each in columns] == [
        "Left out, as the terminal is too narrow: base_model. --json has all.",
        "Left out, as the terminal is too narrow: base_model, quality_score. --json has all.",
    ]


def test_a_table_of_many_rows_leaves_out_what_does_not_fit_unfolded():
    rows = tables.MAX_FITTED_ROWS + 1
    code = f"from cli.tables import print_table; print_table(['a', 'b'], [['x' * 50] * 2] * {rows})"
    assert on_terminal(code).splitlines()[1:] == ["a", *["x" * 50] * rows]


def test_at_80_columns_the_models_are_shown_with_their_settings_and_metrics(models):
    code = 'from cli.main import main; main(["models"])'
    note, *table = lines(on_terminal(code, columns=80))
    assert note == (
        "Left out, as the terminal is too narrow: dataset_version (dataset_v1), "
        "num_training_samples (3). --json has all."
    )
    assert max(map(len, table)) <= 80
    [row] = [line.split() for line in table if "model_v1" in line]
    assert row[2:] == ["16", "3", "2e-05", "0.015", "92", "0.9031"]


@pytest.mark.parametrize("columns", [1, 7])
def test_on_a_terminal_too_narrow_for_the_first_column_nothing_is_folded(columns):
    assert on_terminal(PRINT_NAMES, columns=columns).splitlines() == [
        "base_model           num_training_samples",
        "mistral-7b-instruct                 12345",
    ]


def test_on_a_terminal_too_narrow_for_the_numbers_nothing_is_folded():
    code = "from cli.tables import print_table; print_table(['n'], [[123456789]])"
    assert lines(on_terminal(code, columns=9)) == ["        n", "123456789"]
    assert "\x1b" in on_terminal(code, columns=9)
    assert on_terminal(code, columns=8) == "        n\n123456789\n"


@pytest.mark.parametrize("columns", [94, 95, 97, 107, 120, 141, 151])
def test_a_folded_table_fits_the_terminal_and_folds_no_number(models, columns):
    code = 'from cli.main import main; main(["models", "--limit", "1"])'
    output = lines(on_terminal(code, columns=columns))
    assert max(map(len, output)) <= columns
    assert ["3", "16", "4", "2e-05", "0.017", "82", "0.9"] in [line.split()[3:] for line in output]


def test_markup_and_control_characters_of_a_value_are_printed_as_text():
    value = "[bold]x[/bold] :smile: \\x1b[31m"
    code = f"from cli.tables import print_table; print_table(['name'], [['{value}']])"
    assert lines(on_terminal(code)) == ["name", '"[bold]x[/bold] :smile: \\u001b[31m"']


def test_control_characters_of_a_column_name_are_printed_as_text():
    code = r"from cli.tables import print_table; print_table(['a\x1b[2K\x9b'], [['\u202eb']])"
    assert lines(on_terminal(code)) == ['"a\\u001b[2K\\u009b"', '"\\u202eb"']


@pytest.mark.parametrize("rows", [1, tables.MAX_FITTED_ROWS + 1])
def test_in_a_pipe_a_row_is_one_line(capsys, rows):
    tables.print_table(["one", "two"], [["a" * 300, 1.5]] * rows)
    assert capsys.readouterr().out == (f"one{' ' * 299}two\n" + f"{'a' * 300}  1.5\n" * rows)


def test_many_rows_are_not_folded_because_that_takes_seconds():
    rows = tables.MAX_FITTED_ROWS
    code = f"from cli.tables import print_table; print_table(['n'], [['x' * 90]] * {rows + 1})"
    assert on_terminal(code) == "n\n" + f"{'x' * 90}\n" * (rows + 1)
    code = f"from cli.tables import print_table; print_table(['n'], [['x' * 90]] * {rows})"
    assert lines(on_terminal(code)) == ["n", *["x" * 80, "x" * 10] * rows]
