"""The progress of a training, from the points of its history."""

from contextlib import contextmanager

import pytest

import tasks.progress
from tasks.progress import training_progress


@pytest.fixture
def calls(monkeypatch):
    """The arguments of a progress artifact, and the steps by which it advanced."""
    calls = []

    @contextmanager
    def artifact(total, unit, key, *, done_before):
        calls.append((total, unit, key, done_before))
        yield calls.append

    monkeypatch.setattr(tasks.progress, "progress_artifact", artifact)
    return calls


def advance(*steps):
    with training_progress("v1") as on_point:
        for step in steps:
            on_point({"step": step, "total_steps": 100})


def test_the_progress_of_a_training_that_continues_begins_at_its_first_point(calls):
    advance(81, 82, 85)
    assert calls == [(100, "steps", "training-progress-v1", 81), 0, 1, 3]


def test_a_step_that_is_reported_again_is_no_progress(calls):
    advance(3, 1, 3, 4)
    assert calls == [(100, "steps", "training-progress-v1", 3), 0, 1]


def test_a_training_has_no_more_progress_than_its_total(calls):
    advance(99, 200)
    assert calls == [(100, "steps", "training-progress-v1", 99), 0, 1]
