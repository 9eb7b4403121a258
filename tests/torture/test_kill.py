"""Processes that are killed at any point of their work, and the files that they leave."""

import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.torture.harness import (
    KILLED,
    LONG,
    Worker,
    comparable,
    copy_root,
    faults,
    make_project,
    running_worker,
    temporary_files,
)

RANDOM_KILLS = 400 if LONG else 15
SEED = 20_240_229

Pool = list[tuple[str, str | None]]


class Torture:
    """An artifacts root, the work to do in it, and a count of the kills."""

    def __init__(self, worker: Worker, folder: Path, memos: Path) -> None:
        self.worker = worker
        self.folder = folder
        self.memos = memos
        self.start, configs = make_project(folder)
        self.pool: Pool = [
            (config, version)
            for index, config in enumerate(configs)
            for version in (None, f"model-{index}")
        ]
        self.root = folder / "root"
        self.log = folder / "log"
        self.kills = self.kills_mid_write = 0

    def begin(self, start: Path) -> None:
        copy_root(start, self.root)
        self.log.unlink(missing_ok=True)

    def task(self, pool: Pool, seed: int, step: int) -> dict[str, Any]:
        return {
            "task": "run",
            "root": str(self.root),
            "log": str(self.log),
            "pool": pool,
            "seed": seed,
            "step": step,
        }

    def undisturbed(self, pool: Pool, seed: int = 0) -> float:
        """Do all of the work; return the duration in seconds."""
        began = time.monotonic()
        self.worker.results(self.task(pool, seed, 0))
        return time.monotonic() - began

    def disturbed(
        self,
        pool: Pool,
        seed: int,
        step: int = 0,
        kill_after: float | None = None,
    ) -> bool:
        """Start the work, check what it left, and return whether it was killed in the middle."""
        before = len(self.events())
        [code] = self.worker.run(self.task(pool, seed, step), kill_after=kill_after)
        events = self.events()
        where = f"seed {seed}, step {step}, killed after {kill_after} s, events {events[before:]}"
        assert code in {0, KILLED}, f"{where}: exit code {code}: {self.worker.error()}"
        is_killed = ["began"] in events[before:] and events[-1] != ["done"]
        if is_killed:
            self.kills += 1
            self.kills_mid_write += bool(temporary_files(self.root))
        assert faults(self.root) == [], where
        registered = list(self.registered())
        added = [event[1] for event in events if event[0] == "acknowledged" and event[2]]
        assert [version for version in registered if version in added] == added, where
        acknowledged = {event[1] for event in events if event[0] == "acknowledged"}
        assert acknowledged <= set(registered), where
        return is_killed

    def events(self) -> list[list[Any]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def registered(self) -> Iterator[str]:
        path = self.root / "models/registry.json"
        if path.exists():
            for model in json.loads(path.read_bytes())["models"]:
                yield model["model_version"]

    def summary(self, title: str) -> None:
        line = f"{title}: {self.kills} kills, {self.kills_mid_write} in the middle of a write"
        print(line)  # noqa: T201  # shown by `pytest -rP`


@pytest.fixture
def torture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Torture]:
    # The checks use the memos of the killed processes.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "memos"))
    with running_worker(tmp_path) as worker:
        yield Torture(worker, tmp_path, tmp_path / "memos")


def test_a_run_killed_at_a_random_moment_loses_nothing_acknowledged_and_can_be_repeated(torture):
    draw = random.Random(SEED)
    torture.begin(torture.start)
    seconds = torture.undisturbed(torture.pool)
    expected = comparable(torture.root)
    assert len(expected[1]) == len(torture.pool)
    attempts = 0
    while torture.kills < RANDOM_KILLS:
        torture.begin(torture.start)
        # Each run after the first takes over from the previous one.
        for _ in range(draw.randint(1, 5)):
            attempts += 1
            # Early more often than late: a run that takes over has less to do.
            kill_after = draw.uniform(0, seconds) * draw.random()
            torture.disturbed(torture.pool, draw.randrange(1 << 32), kill_after=kill_after)
        torture.undisturbed(torture.pool, draw.randrange(1 << 32))
        assert faults(torture.root) == [], f"seed {SEED}, attempt {attempts}"
        assert comparable(torture.root) == expected, f"seed {SEED}, attempt {attempts}"
        assert attempts < 100 * RANDOM_KILLS, "hardly any kill hit the work"
    torture.summary("at random moments")


@pytest.mark.skipif(not LONG, reason="training/test_pipeline.py has a short form; TORTURE=long")
@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_run_killed_at_any_step_can_be_repeated(torture, others):
    pool, before = torture.pool[1:2], torture.pool[2 : 2 + others]
    kill_at_all_steps(torture, pool, before, repeats=1)
    torture.summary(f"at each step, after {others} other models")
    assert torture.kills >= 60
    assert torture.kills_mid_write >= 20


@pytest.mark.skipif(not LONG, reason="takes a minute; TORTURE=long")
def test_a_run_killed_while_it_takes_over_from_a_killed_one_can_be_repeated(torture):
    kill_at_all_steps(torture, torture.pool[1:2], torture.pool[2:3], repeats=3)
    torture.summary("at each step, and again at another")
    assert torture.kills >= 150


def kill_at_all_steps(torture: Torture, pool: Pool, before: Pool, repeats: int) -> None:
    """Kill a run at its first step, another at its second, ... until one survives.

    Each killed run is repeated `repeats` times; all repetitions but the last are killed as well.
    """
    draw = random.Random(SEED)
    torture.begin(torture.start)
    if before:
        torture.undisturbed(before)
    start = copy_root(torture.root, torture.folder / "before")
    torture.undisturbed(pool)
    expected = comparable(torture.root)
    step, is_killed = 0, True
    while is_killed:
        step += 1
        torture.begin(start)
        shutil.rmtree(torture.memos, ignore_errors=True)  # so that their creation is killed too
        is_killed = torture.disturbed(pool, SEED, step)
        for _ in range(repeats - 1):
            torture.disturbed(pool, SEED, draw.randint(1, 60))
        torture.undisturbed(pool, SEED)
        assert faults(torture.root) == [], f"step {step}"
        assert comparable(torture.root) == expected, f"step {step}"
