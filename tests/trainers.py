"""A project whose configs name a trainer and an evaluator, written in plain Python."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.examples import CONFIG

__all__ = ["CONFIG_PATH", "MODULE", "calls", "statement", "trained", "write_config", "write_module"]

CONFIG_PATH = "configs/training/own.yaml"

MODULE = '''
"""A trainer that moves a number by the learning rate, and an evaluator that measures it."""
import json, time
from pathlib import Path

def train(run):
    with open("calls", "a") as calls:
        calls.write("train\\n")
    path = run.checkpoints / "state.json"
    state = {"step": 0, "weight": run.seed}
    if path.exists():
        state = json.loads(path.read_text())
    steps = run.options.get("steps", 3)
    while state["step"] < steps:
        state["step"] += 1
        state["weight"] += run.config.learning_rate * state["step"] / 3
        time.sleep(run.options.get("seconds", 0))
        run.log(state["step"], loss=1 / (1 + state["weight"]), total_steps=steps)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(state))
        partial.replace(path)
    (run.output / "adapter").mkdir()
    (run.output / "adapter/weights.json").write_text(json.dumps(state))
    (run.output / "samples.txt").write_text(str(run.dataset.num_samples))

def evaluate(run):
    with open("calls", "a") as calls:
        calls.write("evaluate\\n")
    state = json.loads((run.model / "adapter/weights.json").read_text())
    return {"loss": 1 / (1 + state["weight"]), "seconds": time.perf_counter()}

evaluate.measured = ["seconds"]
evaluate.better = {"loss": "lower"}
'''


def write_module(text: str = MODULE, name: str = "mine.py") -> None:
    """Write a module of trainers and evaluators to the working directory."""
    Path(name).write_text(text)


def write_config(
    trainer: dict[str, Any] | None = None,
    evaluator: dict[str, Any] | None = None,
    path: str = CONFIG_PATH,
) -> str:
    """Write a config that names a trainer and an evaluator; return its path."""
    components = {"trainer": trainer, "evaluator": evaluator}
    named = {key: value for key, value in components.items() if value is not None}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(CONFIG + (yaml.safe_dump(named) if named else ""))
    return path


def trained(**options: Any) -> str:
    """Write the module, and a config of its trainer and evaluator; return the config's path."""
    write_module()
    return write_config(
        {"use": "mine:train", "seed": 7, "options": options}, {"use": "mine:evaluate"}
    )


def calls() -> list[str]:
    """Return the names of the trainers and evaluators that were called, in order."""
    path = Path("calls")
    return path.read_text().split() if path.exists() else []


def statement(folder: str) -> dict[str, Any]:
    """Return the statement in a folder below `artifacts/`."""
    value: dict[str, Any] = json.loads(Path("artifacts", folder, "provenance.json").read_bytes())
    return value
