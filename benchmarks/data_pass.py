"""Speed of counting and hashing a data.jsonl, compared with other tools.

    python -m benchmarks.data_pass [--gigabytes 2] [--rounds 5]

The file is in the page cache. The floor, OpenSSL, hashes but does not count.
"""

import argparse
import os
import resource
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.measure import (
    Row,
    Sample,
    figures,
    report,
    run,
    run_in_turns,
    timed,
    working_folder,
)
from src.storage import StorePath, open_file
from src.training.hashing import count_and_hash, count_and_hash_once

__all__ = ["main"]

LINE = b'{"id": "date-%06d", "input": "Which date falls 256 days after 8 January 1999?"}\n'
FLOOR = "`openssl dgst -sha256`"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with working_folder() as folder:
        path = folder / "data.jsonl"
        num_lines = _write_data(path, int(options.gigabytes * 1e9))
        data = open_file(path)
        if count_and_hash(data)[0] != num_lines:  # also warms the page cache
            sys.exit("count_and_hash returned a wrong number of lines.")
        _write_memo(data)

        def shell(line: str) -> Sample:
            return run(["sh", "-c", line, "", str(path)], cwd=folder, env=os.environ)

        samples = run_in_turns(
            {
                FLOOR: partial(shell, 'openssl dgst -sha256 "$1"'),
                "`count_and_hash`": partial(timed, partial(count_and_hash, data)),
                "`count_and_hash_once`, with a memo": partial(
                    timed, partial(count_and_hash_once, data)
                ),
                "`sha256sum`, then `wc -l`": partial(shell, 'sha256sum "$1" && wc -l "$1"'),
            },
            options.rounds,
        )
        floor = figures(samples[FLOOR], "wall")
        rows = [
            Row(name=name, values=figures(each, "wall"), unit="ms", floor=floor)
            for name, each in samples.items()
        ]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(Row(name="`count_and_hash`: peak memory", values=[peak], unit="MiB"))
        size = path.stat().st_size / 1e9
        about = f"{size:.2f} GB in the page cache. Floor: OpenSSL, which does not count."
        report("Data pass", about, rows, folder=folder)


def _write_data(path: Path, size: int) -> int:
    """Write about `size` bytes; return the number of lines."""
    block = b"".join(LINE % number for number in range(10_000))
    with open(path, "wb") as file:
        for _ in range(max(1, size // len(block))):
            file.write(block)
    return path.stat().st_size // len(LINE % 0)


def _write_memo(data: StorePath) -> None:
    while (file := data.stat()) is not None and file.identity is None:
        time.sleep(0.1)  # no memo is written about a file that changed just now
    count_and_hash_once(data)
    memo = data.memo()
    if memo is None or not memo.exists():
        sys.exit(f"{data}: no memo was written.")


if __name__ == "__main__":
    main()
