"""What the benchmarks print is what they measured."""

from benchmarks.measure import Row, Sample, each, in_turns, markdown

HEAD = "| | median (least to most) | ratio to the floor | |\n|---|---|---|---|\n"


def test_a_figure_is_the_median_with_the_least_and_the_most():
    row = Row(name="pass", values=[3.0, 1.0, 2.0], unit="s", note="cold")
    assert markdown([row]) == f"{HEAD}| pass | 2.00 s (1.00 to 3.00) |  | cold |\n"


def test_a_ratio_is_taken_round_by_round():
    row = Row(name="ours", values=[20.0, 90.0, 40.0], unit="ms", floor=[10.0, 30.0, 40.0])
    table = f"{HEAD}| ours | 40.0 ms (20.0 to 90.0) | 2.00 x (1.00 to 3.00) |  |\n"
    assert markdown([row]) == table


def test_the_floor_is_called_so():
    row = Row(name="copy", values=[5.0], unit="ms", floor=[5.0])
    assert markdown([row]) == f"{HEAD}| copy | 5.00 ms | floor |  |\n"


def test_what_was_not_measured_has_no_figure():
    row = Row(name="Kedro", values=[], unit="/s", note="not installed")
    assert markdown([row]) == f"{HEAD}| Kedro |  |  | not installed |\n"


def test_a_number_has_three_digits_or_all_before_the_point():
    rows = [Row(name="", values=[value], unit="") for value in (0.01234, 1.0, 99.96, 1234.5)]
    figures = [line.split("|")[2].strip() for line in markdown(rows).splitlines()[2:]]
    assert figures == ["0.0123", "1.00", "100", "1,234"]


def test_all_take_turns_and_the_first_round_does_not_count():
    turns: list[str] = []

    def turn(name: str) -> int:
        turns.append(name)
        return len(turns)

    taken = in_turns({"a": lambda: turn("a"), "b": lambda: turn("b")}, rounds=2)
    assert turns == ["a", "b"] * 3
    assert taken == {"a": [3, 5], "b": [4, 6]}


def test_times_are_in_milliseconds_unless_another_scale_is_given():
    samples = [Sample(wall=0.5, cpu=0.25)]
    assert (each(samples, "wall"), each(samples, "cpu", 1)) == ([500.0], [0.25])
