import pytest
from prefect.states import Failed

from tasks.caching import is_transient, results_below


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OSError(28, "No space left on device"), True),
        (TimeoutError("the lock is held"), True),
        (FileNotFoundError("no such file"), False),
        (ValueError("bad input"), False),
        (KeyError("a bug"), False),
    ],
)
def test_only_an_io_error_other_than_a_missing_file_may_pass(error, transient):
    assert is_transient(None, None, Failed(data=error)) is transient


def test_results_are_kept_for_the_steps_of_a_flow_only():
    with pytest.raises(RuntimeError, match="call it within a flow"), results_below("artifacts"):
        pass
