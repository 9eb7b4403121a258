"""A step for a batch of configs: which of them are tried again, and what is logged."""

from itertools import count

import pytest
from prefect import flow

from src.supervision.errors import CommandStartError
from src.training.batches import Outcome
from tasks import batches
from tasks.batches import Batch, run_batch
from tasks.register import register
from tests.flows.runs import logged


@pytest.fixture
def steps(monkeypatch):
    """The steps of batches by name; none waits before it is tried again."""
    for step in batches._TASKS.values():
        monkeypatch.setattr(step, "retry_delay_seconds", 0)
    steps = {}
    monkeypatch.setattr(batches, "_STEPS", steps)
    return steps


def run(step, count):
    """Run a step for `count` configs in a flow; return their outcomes."""
    batch = Batch(
        register, "a batch", [f"c{n}.yaml" for n in range(count)], [(n,) for n in range(count)]
    )
    return flow(lambda: run_batch(batch), name="a flow")()


def test_only_configs_that_may_succeed_are_tried_again(steps):
    calls = []

    def step(arguments):
        calls.append(arguments)
        return [
            Outcome(error=ValueError("invalid"))
            if n == 0
            else Outcome(error=OSError("busy"))
            if n == 1 and len(calls) < 3
            else Outcome(n, is_new=True)
            for (n,) in arguments
        ]

    steps["register"] = step
    invalid, busy, done = run(register, 3)
    assert calls == [[(0,), (1,), (2,)], [(1,)], [(1,)]]
    assert (str(invalid.error), busy, done) == (
        "invalid",
        Outcome(1, is_new=True),
        Outcome(2, is_new=True),
    )


def test_a_transient_error_that_stays_is_that_of_its_config(steps):
    tries = count()

    def step(arguments):
        next(tries)
        return [Outcome(n) if n else Outcome(error=OSError("busy")) for (n,) in arguments]

    steps["register"] = step
    busy, done = run(register, 2)
    assert (str(busy.error), done) == ("busy", Outcome(1))
    assert next(tries) == 4


@pytest.mark.parametrize(
    "error", [ValueError("invalid"), FileNotFoundError("none"), CommandStartError("none")]
)
def test_an_error_of_the_whole_step_that_stays_is_that_of_every_config(steps, error):
    tries = count()

    def step(_):
        next(tries)
        raise error

    steps["register"] = step
    assert run(register, 2) == [Outcome(error=error)] * 2
    assert next(tries) == 1


def test_another_error_ends_the_run(steps):
    def step(_):
        raise KeyError("a bug")

    steps["register"] = step
    with pytest.raises(KeyError, match="a bug"):
        run(register, 2)


def test_the_log_counts_configs_and_names_those_that_failed(steps):
    steps["register"] = lambda _: [
        Outcome(1, is_new=True),
        Outcome(2),
        Outcome(error=ValueError("c2.yaml:3: epochs: expected 1 or more.")),
    ]
    with logged("prefect.task_runs") as records:
        run(register, 3)
    assert [record.getMessage() for record in records][:2] == [
        "epochs: expected 1 or more (c2.yaml:3)",
        "Configs: 1 written, 1 found in the record, 1 failed.",
    ]
