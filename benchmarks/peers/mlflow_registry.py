"""MLflow's model registry on SQLite, with all versions under one name.

Reads commands from standard input and answers each with its duration in seconds.
"""

import sys
import time
from collections.abc import Callable

from mlflow import MlflowClient

NAME = "finetune"


def main() -> None:
    """Serve `fill N` (up to N versions), `register` and `get` until the input ends."""
    client = MlflowClient("sqlite:///mlflow.db")
    client.create_registered_model(NAME)
    num_versions = 0

    def register() -> None:
        nonlocal num_versions
        tags = {
            "model_version": f"m{num_versions:06}",
            "base_model": "mistral-7b",
            "dataset_version": "dataset_v1",
            "training_config": "{'learning_rate': 2e-05, 'epochs': 3, 'batch_size': 16}",
            "num_training_samples": "10000",
        }
        client.create_model_version(NAME, "file:///none", tags=tags)
        num_versions += 1

    commands: dict[str, Callable[[], object]] = {
        "register": register,
        "get": lambda: client.get_model_version(NAME, str(num_versions // 2)),
    }
    for line in sys.stdin:
        command, _, count = line.strip().partition(" ")
        started = time.perf_counter()
        if command == "fill":
            while num_versions < int(count):
                register()
        else:
            commands[command]()
        print(time.perf_counter() - started, flush=True)
