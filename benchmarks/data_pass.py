"""How fast a data.jsonl is counted and hashed, against what else does that.

    python -m benchmarks.data_pass [--gigabytes 2] [--rounds 5]

Prints a Markdown table: medians of rounds in which all take turns, on a file in the page cache.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from src.training.dataset import count_and_hash

__all__ = ["main"]

LINE = b'{"id": "date-%06d", "input": "Which date falls 256 days after 8 January 1999?"}\n'


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.jsonl")
        lines = _make(path, int(options.gigabytes * 1e9))
        contenders: dict[str, Callable[[], object]] = {
            "openssl dgst -sha256 (the hash alone)": _command("openssl", "dgst", "-sha256", path),
            "count_and_hash": lambda: count_and_hash(path),
            "sha256sum, then wc -l": _both(_command("sha256sum", path), _command("wc", "-l", path)),
        }
        if count_and_hash(path)[0] != lines:  # which also warms the page cache
            sys.exit("count_and_hash miscounts.")
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name, contender in contenders.items():
                started = time.perf_counter()
                contender()
                seconds[name].append(time.perf_counter() - started)
        _print(path, seconds)


def _make(path: Path, size: int) -> int:
    block = b"".join(LINE % number for number in range(10_000))
    with open(path, "wb") as file:
        for _ in range(max(1, size // len(block))):
            file.write(block)
    return path.stat().st_size // len(LINE % 0)


def _command(*words: str | Path) -> Callable[[], object]:
    if shutil.which(str(words[0])) is None:
        sys.exit(f"{words[0]} is not installed.")
    return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _both(*commands: Callable[[], object]) -> Callable[[], object]:
    return lambda: [command() for command in commands]


def _print(path: Path, seconds: dict[str, list[float]]) -> None:
    size = path.stat().st_size
    floor = statistics.median(next(iter(seconds.values())))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{size / 1e9:.2f} GB in the page cache, {os.cpu_count()} cores, {sys.platform}\n")
    print("| | seconds, median (least to most) | MB/s | ratio |")
    print("|---|---|---|---|")
    for name, measured in seconds.items():
        median = statistics.median(measured)
        spread = f"{min(measured):.2f} to {max(measured):.2f}"
        rate = size / median / 1e6
        print(f"| {name} | {median:.2f} ({spread}) | {rate:.0f} | {median / floor:.2f} |")
    print(f"\nPeak memory of this process: {peak:.0f} MiB.")


if __name__ == "__main__":
    main()
