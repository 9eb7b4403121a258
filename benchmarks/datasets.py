"""Speed and memory of the commands that read all data of a dataset.

    python -m benchmarks.datasets [--gigabytes 1] [--rounds 3]

The files are in the page cache. The floor is a plain script that does the work of `dataset add`:
parses every line with `json`, hashes and copies the file, and syncs the copy.
"""

import argparse
import json
import shutil
import sys
from functools import partial
from pathlib import Path

from benchmarks.measure import (
    ROOT,
    Row,
    Sample,
    environment,
    figures,
    report,
    run,
    run_in_turns,
    working_folder,
)

__all__ = ["main"]

FLOOR = "plain script"
SCRIPT = """
import hashlib, json, os, sys

digest, count = hashlib.sha256(), 0
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as copy:
    for line in source:
        if not isinstance(json.loads(line), dict):
            sys.exit(f"line {count + 1}")
        digest.update(line)
        copy.write(line)
        count += 1
    copy.flush()
    os.fsync(copy.fileno())
print(count, digest.hexdigest())
"""
LLM_TRAIN = "from cli.entry import main; main()"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with working_folder() as folder:
        one, other = folder / "one.jsonl", folder / "other.jsonl"
        record = _write_data(one, other, int(options.gigabytes * 1e9))
        env = environment(folder, LLM_TRAIN_ARTIFACTS=str(folder / "artifacts"))
        python = partial(run, cwd=ROOT, env=env)

        def llm_train(*arguments: str | Path) -> Sample:
            return python([sys.executable, "-c", LLM_TRAIN, *arguments])

        def add() -> Sample:
            shutil.rmtree(folder / "artifacts/datasets/one", ignore_errors=True)
            return llm_train("dataset", "add", one, "one")

        (folder / "artifacts").mkdir()
        llm_train("dataset", "add", other, "other")
        samples = run_in_turns(
            {
                FLOOR: lambda: python([sys.executable, "-c", SCRIPT, one, folder / "copy.jsonl"]),
                "`dataset add`": add,
                "`dataset show`": lambda: llm_train("dataset", "show", "one"),
                "`dataset diff`, of two datasets": lambda: llm_train(
                    "dataset", "diff", "one", "other"
                ),
                "`trace --line`, in two datasets": lambda: llm_train("trace", "--line", record),
            },
            options.rounds,
        )
        floor = figures(samples[FLOOR], "wall")
        rows = [
            Row(
                name=name,
                values=figures(each, "wall"),
                unit="ms",
                floor=floor,
                note=f"{max(sample.peak for sample in each):,.0f} MiB",
            )
            for name, each in samples.items()
        ]
        size = one.stat().st_size / 1e9
        about = f"{size:.2f} GB in lines of about 300 bytes, in the page cache; peak memory."
        report("Datasets", about, rows, folder=folder)


def _write_data(one: Path, other: Path, size: int) -> str:
    """Write two files of about `size` bytes that differ in one line of 1,000; return a record."""
    lines = size // 300
    with open(one, "w") as first, open(other, "w") as second:
        for number in range(lines):
            record = {"id": number, "input": f"{number} " * 20, "output": "word " * (number % 40)}
            first.write(json.dumps(record) + "\n")
            if number % 1000 == 0:
                record["output"] = "another"
            second.write(json.dumps(record) + "\n")
    return json.dumps({"output": "another", "id": 0, "input": "0 " * 20})


if __name__ == "__main__":
    main()
