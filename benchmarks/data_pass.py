"""How fast a data.jsonl is counted and hashed, beside what else does that.

    python -m benchmarks.data_pass [--gigabytes 2] [--rounds 5]

The file is in the page cache. The floor, OpenSSL, hashes and does not count.
"""

import argparse
import os
import resource
import sys
from functools import partial
from pathlib import Path

from benchmarks.measure import Row, Sample, each, in_turns, report, run, timed, workshop
from src.training.dataset import count_and_hash
from tasks.hashes import remembering

__all__ = ["main"]

LINE = b'{"id": "date-%06d", "input": "Which date falls 256 days after 8 January 1999?"}\n'
FLOOR = "`openssl dgst -sha256`"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with workshop() as folder:
        path = folder / "data.jsonl"
        lines = _make(path, int(options.gigabytes * 1e9))
        if count_and_hash(path)[0] != lines:  # which also warms the page cache
            sys.exit("count_and_hash miscounts.")

        remembered = remembering(folder / "memory")

        def shell(line: str) -> Sample:
            return run(["sh", "-c", line, "", str(path)], cwd=folder, env=os.environ)

        taken = in_turns(
            {
                FLOOR: partial(shell, 'openssl dgst -sha256 "$1"'),
                "`count_and_hash`": partial(timed, partial(count_and_hash, path)),
                "by the flow, again": partial(timed, partial(remembered, path)),
                "`sha256sum`, then `wc -l`": partial(shell, 'sha256sum "$1" && wc -l "$1"'),
            },
            options.rounds,
        )
        floor = each(taken[FLOOR], "wall")
        rows = [
            Row(name=name, values=each(samples, "wall"), unit="ms", floor=floor)
            for name, samples in taken.items()
        ]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(Row(name="`count_and_hash`: peak memory", values=[peak], unit="MiB"))
        size = path.stat().st_size / 1e9
        about = f"{size:.2f} GB in the page cache. Floor: OpenSSL, which does not count."
        report("Data pass", about, rows, folder=folder)


def _make(path: Path, size: int) -> int:
    block = b"".join(LINE % number for number in range(10_000))
    with open(path, "wb") as file:
        for _ in range(max(1, size // len(block))):
            file.write(block)
    return path.stat().st_size // len(LINE % 0)


if __name__ == "__main__":
    main()
