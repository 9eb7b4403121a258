import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.storage.readback import Outcome, outcome_of_swap


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (b"mine", Outcome.WRITTEN),
        (b"other", Outcome.OVERTAKEN),
        (None, Outcome.NOT_WRITTEN),
    ],
)
def test_after_a_failed_create_the_bytes_that_are_there_decide(found, outcome):
    assert outcome_of_swap(None, b"mine", found) is outcome


@pytest.mark.parametrize(
    ("before", "found", "outcome"),
    [
        (b"old", b"mine", Outcome.WRITTEN),
        (b"old", b"old", Outcome.NOT_WRITTEN),
        (b"old", b"other", Outcome.OVERTAKEN),
        (b"old", None, Outcome.OVERTAKEN),
        (None, b"mine", Outcome.WRITTEN),
        (None, None, Outcome.NOT_WRITTEN),
    ],
)
def test_after_a_failed_swap_the_bytes_that_are_there_decide(before, found, outcome):
    assert outcome_of_swap(before, b"mine", found) is outcome


contents = st.none() | st.binary(max_size=2)


@given(before=contents, new=st.binary(max_size=2), found=contents)
def test_a_write_counts_as_written_exactly_if_its_bytes_are_there(before, new, found):
    outcome = outcome_of_swap(before, new, found)
    assert (outcome is Outcome.WRITTEN) == (found == new)
    assert (outcome is Outcome.NOT_WRITTEN) == (found == before and found != new)
