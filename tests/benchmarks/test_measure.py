"""The tables of the benchmarks show what was measured."""

from benchmarks.measure import Row, Sample, figures, markdown, run_in_turns

HEAD = "| | median (min to max) | ratio to the floor | |\n|---|---|---|---|\n"


def test_a_figure_is_the_median_with_minimum_and_maximum():
    row = Row(name="pass", values=[3.0, 1.0, 2.0], unit="s", note="cold")
    assert markdown([row]) == f"{HEAD}| pass | 2.00 s (1.00 to 3.00) |  | cold |\n"


def test_a_ratio_is_computed_round_by_round():
    row = Row(name="ours", values=[20.0, 90.0, 40.0], unit="ms", floor=[10.0, 30.0, 40.0])
    table = f"{HEAD}| ours | 40.0 ms (20.0 to 90.0) | 2.00 x (1.00 to 3.00) |  |\n"
    assert markdown([row]) == table


def test_the_row_of_the_floor_is_marked():
    row = Row(name="copy", values=[5.0], unit="ms", floor=[5.0])
    assert markdown([row]) == f"{HEAD}| copy | 5.00 ms | floor |  |\n"


def test_a_row_without_values_has_no_figure():
    row = Row(name="Kedro", values=[], unit="/s", note="not installed")
    assert markdown([row]) == f"{HEAD}| Kedro |  |  | not installed |\n"


def test_a_number_has_three_digits_or_all_before_the_decimal_point():
    rows = [Row(name="", values=[value], unit="") for value in (0.01234, 1.0, 99.96, 1234.5)]
    numbers = [line.split("|")[2].strip() for line in markdown(rows).splitlines()[2:]]
    assert numbers == ["0.0123", "1.00", "100", "1,234"]


def test_contenders_take_turns_and_the_first_round_does_not_count():
    turns: list[str] = []

    def turn(name: str) -> int:
        turns.append(name)
        return len(turns)

    results = run_in_turns({"a": lambda: turn("a"), "b": lambda: turn("b")}, rounds=2)
    assert turns == ["a", "b"] * 3
    assert results == {"a": [3, 5], "b": [4, 6]}


def test_times_are_in_milliseconds_unless_a_scale_is_given():
    samples = [Sample(wall=0.5, cpu=0.25)]
    assert (figures(samples, "wall"), figures(samples, "cpu", 1)) == ([500.0], [0.25])
