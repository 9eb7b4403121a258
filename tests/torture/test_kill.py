"""Processes that are killed at any point of their work, and what they leave behind."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.torture.harness import (
    KILLED,
    LONG,
    Worker,
    copy,
    drafts,
    faults,
    make_place,
    outcome,
    working,
)

RANDOM_KILLS = 400 if LONG else 15
SEED = 20_240_229


class Torture:
    """One place to work in, what an undisturbed run leaves there, and a count of the dead."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker = worker
        self.folder = folder
        self.start, configs = make_place(folder)
        self.pool: list[tuple[str, str | None]] = [
            (config, version)
            for index, config in enumerate(configs)
            for version in (None, f"model-{index}")
        ]
        self.root = folder / "root"
        self.log = folder / "log"
        self.kills = self.mid_write = 0

    def begin(self, start: Path) -> None:
        copy(start, self.root)
        self.log.unlink(missing_ok=True)

    def task(self, pool: list[tuple[str, str | None]], seed: int, step: int) -> dict[str, Any]:
        return {
            "task": "run",
            "root": str(self.root),
            "log": str(self.log),
            "pool": pool,
            "seed": seed,
            "step": step,
        }

    def undisturbed(self, pool: list[tuple[str, str | None]], seed: int = 0) -> float:
        """Do all of the work; give the seconds it took."""
        began = time.monotonic()
        self.worker.results(self.task(pool, seed, 0))
        return time.monotonic() - began

    def disturbed(
        self,
        pool: list[tuple[str, str | None]],
        seed: int,
        step: int = 0,
        kill_after: float | None = None,
    ) -> bool:
        """Begin the work, and tell whether it was killed in the middle; check what it left."""
        before = len(self.events())
        [code] = self.worker.do(self.task(pool, seed, step), kill_after=kill_after)
        events = self.events()
        where = f"seed {seed}, step {step}, killed after {kill_after} s, events {events[before:]}"
        assert code in {0, KILLED}, f"{where}: exit code {code}: {self.worker.error()}"
        killed = ["began"] in events[before:] and events[-1] != ["done"]
        if killed:
            self.kills += 1
            self.mid_write += bool(drafts(self.root))
        assert faults(self.root) == [], where
        entered = list(self.entered())
        added = [event[1] for event in events if event[0] == "acknowledged" and event[2]]
        assert [version for version in entered if version in added] == added, where
        known = {event[1] for event in events if event[0] == "acknowledged"}
        assert known <= set(entered), where
        return killed

    def events(self) -> list[list[Any]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def entered(self) -> Iterator[str]:
        path = self.root / "models/registry.json"
        if path.exists():
            for model in json.loads(path.read_bytes())["models"]:
                yield model["model_version"]

    def summary(self, what: str) -> None:
        line = f"{what}: {self.kills} kills in the middle of work, {self.mid_write} of a write"
        print(line)  # noqa: T201  # for `pytest -rP`: what the test was worth


@pytest.fixture
def torture(tmp_path: Path) -> Iterator[Torture]:
    with working(tmp_path) as worker:
        yield Torture(worker, tmp_path)


def test_a_run_killed_at_a_random_moment_loses_nothing_acknowledged_and_can_be_run_again(torture):
    draw = random.Random(SEED)
    torture.begin(torture.start)
    seconds = torture.undisturbed(torture.pool)
    expected = outcome(torture.root)
    assert len(expected[1]) == len(torture.pool)
    attempts = 0
    while torture.kills < RANDOM_KILLS:
        torture.begin(torture.start)
        # Each run after the first takes over what the one before it left.
        for _ in range(draw.randint(1, 5)):
            attempts += 1
            # More often soon than late: a run that takes over has less to do.
            kill_after = draw.uniform(0, seconds) * draw.random()
            torture.disturbed(torture.pool, draw.randrange(1 << 32), kill_after=kill_after)
        torture.undisturbed(torture.pool, draw.randrange(1 << 32))
        assert faults(torture.root) == [], f"seed {SEED}, attempt {attempts}"
        assert outcome(torture.root) == expected, f"seed {SEED}, attempt {attempts}"
        assert attempts < 100 * RANDOM_KILLS, "hardly any kill hit the work"
    torture.summary("at random moments")


@pytest.mark.parametrize("others", [0, 1, 2] if LONG else [0])
def test_a_run_killed_at_any_one_of_its_steps_can_be_run_again(torture, others):
    pool, before = torture.pool[1:2], torture.pool[2 : 2 + others]
    kill_all_steps(torture, pool, before, then=1)
    torture.summary(f"at each step, {others} models there before")
    assert torture.kills >= 60
    assert torture.mid_write >= 20


@pytest.mark.skipif(not LONG, reason="takes a minute; TORTURE=long")
def test_a_run_killed_again_while_it_takes_over_from_a_killed_one_can_be_run_again(torture):
    kill_all_steps(torture, torture.pool[1:2], torture.pool[2:3], then=3)
    torture.summary("at each step, and again at another")
    assert torture.kills >= 150


def kill_all_steps(
    torture: Torture,
    pool: list[tuple[str, str | None]],
    before: list[tuple[str, str | None]],
    then: int,
) -> None:
    """Kill a run at its first step, then one at its second, ...; the last one lives.

    Each that was killed is run again `then` times, all but the last of these killed as well.
    """
    draw = random.Random(SEED)
    torture.begin(torture.start)
    if before:
        torture.undisturbed(before)
    start = copy(torture.root, torture.folder / "before")
    torture.undisturbed(pool)
    expected = outcome(torture.root)
    step, killed = 0, True
    while killed:
        step += 1
        torture.begin(start)
        killed = torture.disturbed(pool, SEED, step)
        for _ in range(then - 1):
            torture.disturbed(pool, SEED, draw.randint(1, 60))
        torture.undisturbed(pool, SEED)
        assert faults(torture.root) == [], f"step {step}"
        assert outcome(torture.root) == expected, f"step {step}"
