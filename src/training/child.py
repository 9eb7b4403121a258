"""Program: describe or run a trainer that is written in Python; see `src.components.child`."""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from collections.abc import Callable
from threading import Lock
from typing import Any

from src.components.child import plain_number, serve, write_json
from src.components.hardware import environment
from src.records.dataset_version import DatasetVersion
from src.training.contract import TrainingRun
from src.training.history import History, parse_point
from src.training.settings import TrainingConfig

__all__ = ["main"]


def main() -> None:
    """Run the trainer that the file of the run names."""
    serve("trainer", _train)


def _train(trainer: Callable[..., Any], run: dict[str, Any], points: int) -> None:
    history, lock = History(Path(run["history"])), Lock()

    def log(step: int, **values: Any) -> None:
        numbers = {name: plain_number(value) for name, value in {"step": step, **values}.items()}
        try:
            line = json.dumps(numbers, sort_keys=True)
            point = parse_point(line)
        except (TypeError, ValueError):  # no form in JSON
            line, point = repr(numbers), None
        if point is None:
            sys.stderr.write(f"log: not a point, not recorded: {line[:200]}\n")
            return
        with lock:  # a trainer may log from several threads
            history.append(point)
            os.write(points, line.encode() + b"\n")

    trainer(
        TrainingRun(
            config=TrainingConfig(**run["config"]),
            options=run["options"],
            seed=run["seed"],
            dataset=DatasetVersion(**run["dataset_version"]),
            model_version=run["model_version"],
            output=Path(run["output"]),
            checkpoints=Path(run["checkpoints"]),
            settings=run["settings"],
            log=log,
        )
    )
    write_json(run["environment"], environment())


if __name__ == "__main__":
    main()
