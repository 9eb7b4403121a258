"""The plain script: the five steps, one after the other, nothing kept."""

import sys

from benchmarks.peers import steps


def train(path: str) -> None:
    """Take one config through the five steps."""
    config = steps.load_config(path)
    dataset = steps.resolve_dataset(config)
    metadata = steps.register(steps.write_metadata(config, dataset))
    steps.evaluate(metadata)


def main() -> None:
    """Take every config that is named through them."""
    for path in sys.argv[1:]:
        train(path)
