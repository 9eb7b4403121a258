"""The invocation of a step: the worker that started its process."""

import pytest

from tasks import invocation


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, None),
        ("", None),
        (" ", None),
        ("ProcessWorker 3", "ProcessWorker 3"),
        ("a\nb", None),
        ("x" * 300, "x" * 200),
    ],
)
def test_the_name_of_a_worker_is_printable_and_short(value, name, monkeypatch):
    monkeypatch.delenv("PREFECT__WORKER_NAME", raising=False)
    if value is not None:
        monkeypatch.setenv("PREFECT__WORKER_NAME", value)
    assert invocation._worker() == name
