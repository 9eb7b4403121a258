"""Speed of a trainer of small steps under this project, compared with the same trainer alone.

    python -m benchmarks.training [--rounds 9]

Both call the same function, whose steps take about 5 ms of CPU, and which reports each step and
measures the time from its first step to its last one. Alone, it writes its steps to a file.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.measure import Row, environment, report, run, run_in_turns, working_folder
from benchmarks.project import Project

STEPS = 300
ALONE, OURS = "alone", "`run_training_pipeline`"
TRAINER = f"""
import json, time

def train(run):
    total = 0
    started = time.perf_counter()
    for step in range({STEPS}):
        total += sum(number * number for number in range(60_000))
        run.log(step, loss=1 / (step + 1))
    seconds = time.perf_counter() - started
    (run.output / "seconds.json").write_text(json.dumps(seconds))
"""
SCRIPT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from trainer import train

with open("steps.jsonl", "w", buffering=1) as file:
    log = lambda step, **values: file.write(json.dumps({"step": step, **values}) + "\\n")
    train(SimpleNamespace(log=log, output=Path(".")))
"""
COMPONENT = "trainer: {use: 'trainer:train'}\n"
PIPELINE = """
import sys
from pathlib import Path
from src.training.pipeline import run_training_pipeline
run_training_pipeline(sys.argv[1], Path(sys.argv[1]).stem)
"""
ABOUT = f"{STEPS} steps of about 5 ms, from the first to the last. Floor: the trainer alone."


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with working_folder() as folder:
        env = environment(folder)
        project = Project(folder / "project")
        (project.folder / "trainer.py").write_text(TRAINER)

        def alone() -> float:
            run([sys.executable, "-c", SCRIPT], cwd=project.folder, env=env)
            return _seconds(project.folder / "seconds.json")

        def ours() -> float:
            config = Path(project.config())
            config.write_text(config.read_text() + COMPONENT)
            run([sys.executable, "-c", PIPELINE, str(config)], cwd=project.folder, env=env)
            weights = project.folder / "artifacts/models" / config.stem / "weights"
            return _seconds(weights / "seconds.json")

        samples = run_in_turns({ALONE: alone, OURS: ours}, rounds)
        floor = [STEPS / seconds for seconds in samples[ALONE]]
        rows = [
            Row(
                name=name,
                values=[STEPS / seconds for seconds in samples[name]],
                unit="steps/s",
                floor=floor,
            )
            for name in (ALONE, OURS)
        ]
        report("Training", ABOUT, rows, folder=folder)


def _seconds(path: Path) -> float:
    seconds: float = json.loads(path.read_bytes())
    return seconds


if __name__ == "__main__":
    main()
