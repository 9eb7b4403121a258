"""The plain script: the five steps, one after the other, without a cache."""

import sys

from benchmarks.peers import steps


def train(path: str) -> None:
    """Run the five steps for one config."""
    config = steps.load_config(path)
    dataset = steps.resolve_dataset(config)
    metadata = steps.register(steps.write_metadata(config, dataset))
    steps.evaluate(metadata)


def main() -> None:
    """Run them for every config given as an argument."""
    for path in sys.argv[1:]:
        train(path)
