"""A straightforward Prefect flow: the config is always read, other steps are cached on inputs."""

import sys
from typing import Any

from prefect import flow, task
from prefect.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE

from benchmarks.peers import steps

KEPT: dict[str, Any] = {"cache_policy": INPUTS + TASK_SOURCE, "persist_result": True}

load_config = task(cache_policy=NO_CACHE)(steps.load_config)
resolve_dataset = task(**KEPT)(steps.resolve_dataset)
write_metadata = task(**KEPT)(steps.write_metadata)
register = task(**KEPT)(steps.register)
evaluate = task(**KEPT)(steps.evaluate)


@flow
def train(path: str) -> dict[str, float]:
    """Run the five steps for one config."""
    config = load_config(path)
    dataset = resolve_dataset(config)
    metadata = register(write_metadata(config, dataset))
    return evaluate(metadata)


def main() -> None:
    """Run them for the config given as an argument."""
    train(sys.argv[1])
