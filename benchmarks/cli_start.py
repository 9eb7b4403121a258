"""How much CPU `llm-train models` takes on 1,000 models, beside an interpreter that imports YAML.

python -m benchmarks.cli_start
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from src.artifacts import Artifacts
from src.evaluation.evaluator import evaluation_of
from src.storage import canonical_json

MODELS = 1000
RUNS = 11
COMMANDS = {
    "python -c 'import yaml'": ["import yaml"],
    "llm-train --help": ["from cli.main import main; main()", "--help"],
    "llm-train models": ["from cli.main import main; main()", "models"],
    "llm-train models --json": ["from cli.main import main; main()", "models", "--json"],
}


def _make_models(artifacts: Artifacts) -> None:
    entries = []
    for number in range(MODELS):
        version = f"mistral-7b-dataset_v1-{number:012}"
        config = {
            "base_model": "mistral-7b",
            "dataset_version": "dataset_v1",
            "learning_rate": 2e-5,
            "epochs": 1 + number % 9,
            "batch_size": 16,
        }
        entry = {
            "model_version": version,
            "base_model": "mistral-7b",
            "dataset_version": "dataset_v1",
            "training_config": config,
            "num_training_samples": 1000,
        }
        entries.append(entry)
        folder = artifacts.evaluations / version
        folder.mkdir(parents=True)
        (folder / "evaluation.json").write_bytes(evaluation_of(entry))
    artifacts.models.mkdir()
    artifacts.registry.write_bytes(canonical_json({"models": entries}))


def _cpu_seconds(code: list[str], env: dict[str, str]) -> float:
    def used() -> float:
        usage = getrusage(RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    figures = []
    for _ in range(1 + RUNS):
        before = used()
        subprocess.run(
            [sys.executable, "-c", *code], env=env, stdout=subprocess.DEVNULL, check=True
        )
        figures.append(used() - before)
    return statistics.median(figures[1:])  # the first one compiles


def main() -> None:
    """Print the CPU time of each command, the median of some runs, and its ratio to the first."""
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Artifacts(Path(folder) / "artifacts")
        _make_models(artifacts)
        env = os.environ | {
            "LLM_TRAIN_ARTIFACTS": str(artifacts.root),
            "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
        }
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        figures = {name: _cpu_seconds(code, env) for name, code in COMMANDS.items()}
    reference = next(iter(figures.values()))
    for name, seconds in figures.items():
        print(f"{1000 * seconds:5.0f} ms  {seconds / reference:4.1f} x  {name}")


if __name__ == "__main__":
    main()
