"""What `run_training_pipeline` costs as a process of its own, beside a plain script.

    python -m benchmarks.core [--rounds 15]

Both take a new config and a dataset of 10,000 lines through the same five steps. The script
promises nothing: it syncs and checks nothing, and keeps no provenance.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.measure import (
    Row,
    Sample,
    each,
    environment,
    in_turns,
    instructions,
    report,
    run,
    workshop,
)
from benchmarks.project import Project

FLOOR = "plain script"
UNSYNCED = "the same, without its `fsync`"
OURS = """
import sys
from pathlib import Path
from src.training.pipeline import run_training_pipeline
run_training_pipeline(sys.argv[1], Path(sys.argv[1]).stem)
"""
CONTENDERS = {
    FLOOR: "from benchmarks.peers.plain import main; main()",
    "`run_training_pipeline`": OURS,
    UNSYNCED: f"import os; synced = []; os.fsync = synced.append{OURS}print(len(synced))",
}
ABOUT = "One new config, in a new process that imports what it needs. Floor: the plain script."


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with workshop() as folder:
        env = environment(folder)
        projects = {name: Project(folder / f"{n}") for n, name in enumerate(CONTENDERS)}

        def command(name: str) -> list[str]:
            return [sys.executable, "-c", CONTENDERS[name], projects[name].config()]

        def train(name: str) -> Sample:
            return run(command(name), cwd=projects[name].folder, env=env)

        taken = in_turns({name: partial(train, name) for name in CONTENDERS}, rounds)
        counts = {
            name: instructions(command(name), cwd=projects[name].folder, env=env)
            for name in CONTENDERS
        }
        report("Core", ABOUT, list(_rows(taken, counts)), folder=folder)


def _rows(taken: dict[str, list[Sample]], counts: dict[str, list[float]]) -> Iterator[Row]:
    notes = {UNSYNCED: f"{taken[UNSYNCED][0].said.strip()} calls of it"}
    for what, title in (("cpu", "CPU"), ("wall", "wall")):
        for name, samples in taken.items():
            yield Row(
                name=f"{name}: {title}",
                values=each(samples, what),
                unit="ms",
                floor=each(taken[FLOOR], what),
                note=notes.get(name, ""),
            )
    for name, count in counts.items():
        yield Row(
            name=f"{name}: instructions",
            values=count,
            unit="million",
            floor=counts[FLOOR],
            note="" if count else "not counted: valgrind is not installed",
        )


if __name__ == "__main__":
    main()
