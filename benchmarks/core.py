"""Cost of `run_training_pipeline` in a new process, compared with a plain script.

    python -m benchmarks.core [--rounds 15]

Both run the same five steps with a new config and a dataset of 10,000 lines. The script has no
guarantees: no `fsync`, no checks and no provenance.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.measure import (
    Row,
    Sample,
    count_instructions,
    environment,
    figures,
    report,
    run,
    run_in_turns,
    working_folder,
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
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with working_folder() as folder:
        env = environment(folder)
        projects = {name: Project(folder / f"{n}") for n, name in enumerate(CONTENDERS)}

        def command(name: str) -> list[str]:
            return [sys.executable, "-c", CONTENDERS[name], projects[name].config()]

        def train(name: str) -> Sample:
            return run(command(name), cwd=projects[name].folder, env=env)

        samples = run_in_turns({name: partial(train, name) for name in CONTENDERS}, rounds)
        counts = {
            name: count_instructions(command(name), cwd=projects[name].folder, env=env)
            for name in CONTENDERS
        }
        report("Core", ABOUT, list(_rows(samples, counts)), folder=folder)


def _rows(samples: dict[str, list[Sample]], counts: dict[str, list[float]]) -> Iterator[Row]:
    notes = {UNSYNCED: f"{samples[UNSYNCED][0].stdout.strip()} calls of it"}
    for attribute, title in (("cpu", "CPU"), ("wall", "wall")):
        for name in CONTENDERS:
            yield Row(
                name=f"{name}: {title}",
                values=figures(samples[name], attribute),
                unit="ms",
                floor=figures(samples[FLOOR], attribute),
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
