"""CPU time of `llm-train models` with 1,000 models, compared with an interpreter that imports YAML.

python -m benchmarks.cli_start
"""

import sys
from functools import partial

from benchmarks.measure import (
    ROOT,
    Row,
    environment,
    figures,
    report,
    run,
    run_in_turns,
    working_folder,
)
from benchmarks.project import metadata
from src.artifacts import Artifacts
from src.evaluation.evaluator import evaluation_path, serialize_evaluation
from src.records.canonical import canonical_json

MODELS = 1000
ROUNDS = 11
FLOOR = "`python -c 'import yaml'`"
COMMANDS = {
    FLOOR: ["import yaml"],
    "`llm-train --help`": ["from cli.entry import main; main()", "--help"],
    "`llm-train models`": ["from cli.entry import main; main()", "models"],
    "`llm-train models --json`": ["from cli.entry import main; main()", "models", "--json"],
}
ABOUT = f"CPU of whole processes, {MODELS:,} models. Floor: an interpreter that imports YAML."


def main() -> None:
    """Run the benchmark and print its table."""
    with working_folder() as folder:
        artifacts = Artifacts.open(folder / "artifacts")
        _write_models(artifacts)
        env = environment(folder, LLM_TRAIN_ARTIFACTS=str(artifacts.root))
        commands = {
            name: partial(run, [sys.executable, "-c", *code], cwd=ROOT, env=env)
            for name, code in COMMANDS.items()
        }
        samples = run_in_turns(commands, ROUNDS)
        floor = figures(samples[FLOOR], "cpu")
        rows = [
            Row(name=name, values=figures(samples[name], "cpu"), unit="ms", floor=floor)
            for name in COMMANDS
        ]
        report("Command line", ABOUT, rows, folder=folder)


def _write_models(artifacts: Artifacts) -> None:
    models = [metadata(number) for number in range(MODELS)]
    for model in models:
        path = evaluation_path(model["model_version"], artifacts.evaluations)
        path.replace(serialize_evaluation(model))
    artifacts.registry.replace(canonical_json({"models": models}))


if __name__ == "__main__":
    main()
