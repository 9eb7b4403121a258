"""Differences between two trainings: the first step, the environment."""

from hypothesis import given
from hypothesis import strategies as st

from src.lineage.verify.divergence import (
    changed_names,
    environment_differences,
    first_step_difference,
)
from tests.strategies import json_values


def points(*values, name="loss", **others):
    return [{"step": step, name: value, **others} for step, value in enumerate(values, start=1)]


def test_equal_histories_have_no_difference():
    assert first_step_difference(points(3.0, 2.0), points(3.0, 2.0)) == ""
    assert first_step_difference([], []) == ""


def test_the_first_step_with_another_loss_is_named_with_both_values():
    found = first_step_difference(points(3.0, 2.0, 1.0), points(3.0, 2.5, 1.5))
    assert found == "step 2: loss 2.0 recorded, 2.5 now"


def test_the_lines_of_the_batch_are_named_if_they_are_the_same():
    found = first_step_difference(points(3.0, lines=[4, 17]), points(3.5, lines=[4, 17]))
    assert found == "step 1: loss 3.0 recorded, 3.5 now; lines 4, 17 of data.jsonl"


def test_other_lines_in_a_batch_are_a_difference():
    found = first_step_difference(points(3.0, lines=[4]), points(3.5, lines=[5]))
    assert found == "step 1: loss 3.0 recorded, 3.5 now; lines [4] recorded, [5] now"


def test_many_lines_are_cut():
    lines = list(range(1, 101))
    found = first_step_difference(points(3.0, lines=lines), points(3.5, lines=lines))
    assert found.endswith(f"lines {', '.join(map(str, range(1, 33)))}, ... of data.jsonl")


def test_another_loss_at_a_later_step_is_preferred_to_another_time_at_an_earlier_one():
    one = [{"step": 1, "loss": 2.0, "seconds": 1}, {"step": 2, "loss": 1.0, "seconds": 1}]
    other = [{"step": 1, "loss": 2.0, "seconds": 2}, {"step": 2, "loss": 1.5, "seconds": 2}]
    assert first_step_difference(one, other).startswith("step 2: loss 1.0 recorded, 1.5 now")


def test_without_another_loss_any_other_value_is_named():
    found = first_step_difference(points(1, name="seconds"), points(2, name="seconds"))
    assert found == "step 1: seconds 1 recorded, 2 now"


def test_a_step_that_only_one_history_has_is_named():
    assert first_step_difference(points(3.0, 2.0), points(3.0)) == (
        "step 2: recorded, but not trained again"
    )
    assert first_step_difference(points(3.0), points(3.0, 2.0)) == (
        "step 2: trained again, but not recorded"
    )


def test_long_values_are_cut():
    found = first_step_difference(points("x" * 10_000), points("y" * 10_000))
    assert len(found) < 300


histories = st.lists(
    st.dictionaries(st.sampled_from(["loss", "seconds"]), json_values), max_size=5
).map(lambda values: [value | {"step": step} for step, value in enumerate(values)])


def test_a_value_that_is_null_differs_from_none_at_all():
    found = first_step_difference([{"step": 0}], [{"loss": None, "step": 0}])
    assert found == "step 0: loss none recorded, null now"


@given(histories, histories)
def test_there_is_a_difference_if_and_only_if_the_histories_differ(one, other):
    assert bool(first_step_difference(one, other)) == (one != other)


def test_environments_differ_by_the_dotted_names_of_their_facts():
    recorded = {"cpu": "A", "torch": {"cpu_capability": "AVX512", "threads": 1}, "variables": {}}
    new = {
        "cpu": "A",
        "torch": {"cpu_capability": "AVX2", "threads": 1},
        "variables": {"ATEN_CPU_CAPABILITY": "avx2"},
    }
    assert environment_differences(recorded, new) == [
        "torch.cpu_capability: AVX512 recorded, AVX2 now",
        "variables.ATEN_CPU_CAPABILITY: none recorded, avx2 now",
    ]


def test_the_names_of_two_mappings_that_differ_are_sorted():
    assert changed_names({"a": 1, "b": 2, "d": 4}, {"b": 3, "c": 4, "d": 4}) == ["a", "b", "c"]
