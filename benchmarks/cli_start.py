"""How much CPU `llm-train models` takes on 1,000 models, beside an interpreter that imports YAML.

python -m benchmarks.cli_start
"""

import sys
from functools import partial

from benchmarks.measure import ROOT, Row, each, environment, in_turns, report, run, workshop
from benchmarks.project import metadata
from src.artifacts import Artifacts
from src.evaluation.evaluator import evaluation_of
from src.storage import canonical_json

MODELS = 1000
ROUNDS = 11
FLOOR = "`python -c 'import yaml'`"
COMMANDS = {
    FLOOR: ["import yaml"],
    "`llm-train --help`": ["from cli.main import main; main()", "--help"],
    "`llm-train models`": ["from cli.main import main; main()", "models"],
    "`llm-train models --json`": ["from cli.main import main; main()", "models", "--json"],
}
ABOUT = f"CPU of whole processes, {MODELS:,} models. Floor: an interpreter that imports YAML."


def main() -> None:
    """Measure, and print the table."""
    with workshop() as folder:
        artifacts = Artifacts(folder / "artifacts")
        _make_models(artifacts)
        env = environment(folder, LLM_TRAIN_ARTIFACTS=str(artifacts.root))
        commands = {
            name: partial(run, [sys.executable, "-c", *code], cwd=ROOT, env=env)
            for name, code in COMMANDS.items()
        }
        taken = in_turns(commands, ROUNDS)
        floor = each(taken[FLOOR], "cpu")
        rows = [
            Row(name=name, values=each(samples, "cpu"), unit="ms", floor=floor)
            for name, samples in taken.items()
        ]
        report("Command line", ABOUT, rows, folder=folder)


def _make_models(artifacts: Artifacts) -> None:
    models = [metadata(number) for number in range(MODELS)]
    for model in models:
        folder = artifacts.evaluations / model["model_version"]
        folder.mkdir(parents=True)
        (folder / "evaluation.json").write_bytes(evaluation_of(model))
    artifacts.models.mkdir()
    artifacts.registry.write_bytes(canonical_json({"models": models}))


if __name__ == "__main__":
    main()
