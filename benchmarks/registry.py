"""How registering, finding and listing models grows with how many there are.

    python -m benchmarks.registry [--sizes 10 1000 10000 100000] [--mlflow 10000] [--rounds 5]

Beside MLflow's registry (SQLite), JSON that is loaded, appended to and written with indentation,
and, as the floor of a registration, a copy of the same registry.json that is synced to the disk.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    ROOT,
    Row,
    Sample,
    each,
    environment,
    in_turns,
    report,
    timed,
    workshop,
)
from benchmarks.project import metadata
from src.storage import canonical_json
from src.training.registry import get_model, list_models, register_model

MLFLOW_PYTHON = ROOT / ".venv/peers/mlflow/bin/python"
ABOUT = "One call in a process that has made one before. Floor: a copy of the file, with `fsync`."
COPY, OURS, NAIVE, MLFLOW = "copy, synced", "`register_model`", "JSON anew", "MLflow: register"

Actions = dict[str, Callable[[], Sample]]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1_000, 10_000, 100_000])
    parser.add_argument(
        "--mlflow", type=int, default=10_000, metavar="N", help="no larger with MLflow"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows: list[Row] = []
    with workshop() as folder, _mlflow(folder / "mlflow") as mlflow:
        for size in options.sizes:
            actions = _actions(folder, size)
            if mlflow is not None and size <= options.mlflow:
                mlflow(f"fill {size}")
                actions |= {
                    f"MLflow: {command}": partial(mlflow, command)
                    for command in ("register", "get")
                }
            taken = in_turns(actions, options.rounds)
            rows += [
                Row(
                    name=f"{size:,} models, {name}",
                    values=each(samples, "wall"),
                    unit="ms",
                    floor=each(taken[COPY], "wall"),
                )
                for name, samples in taken.items()
            ]
        report("Registry", ABOUT, rows, folder=folder)


def _actions(folder: Path, size: int) -> Actions:
    ours, copy, naive = (folder / f"{size}-{name}.json" for name in ("ours", "copy", "naive"))
    models = [metadata(number) for number in range(size)]
    ours.write_bytes(canonical_json({"models": models}))
    naive.write_text(json.dumps(models, indent=2))
    new = map(metadata, count(size))
    middle = models[size // 2]["model_version"]
    actions = {
        COPY: lambda: _copy(ours, copy),
        OURS: lambda: register_model(next(new), ours),
        "`get_model`": lambda: get_model(middle, ours),
        "`list_models`": lambda: list_models(ours),
        NAIVE: lambda: _append(naive, next(new)),
    }
    return {name: partial(timed, action) for name, action in actions.items()}


def _copy(source: Path, target: Path) -> None:
    with open(target, "wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())


def _append(path: Path, model: dict[str, Any]) -> None:
    models = json.loads(path.read_text())
    path.write_text(json.dumps([*models, model], indent=2))


@contextmanager
def _mlflow(folder: Path) -> Iterator[Callable[[str], Sample] | None]:
    """Start MLflow in its own environment; lend a function that gives it a command."""
    if not MLFLOW_PYTHON.exists():
        print("Without MLflow: `make bench` installs it.\n")
        yield None
        return
    folder.mkdir()
    command = [
        str(MLFLOW_PYTHON),
        "-c",
        "from benchmarks.peers.mlflow_registry import main; main()",
    ]
    env = environment(folder, HOME=str(folder), MLFLOW_DISABLE_TELEMETRY="true")
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        questions, answers = process.stdin, process.stdout
        assert questions and answers  # noqa: S101  # both are pipes

        def tell(command: str) -> Sample:
            print(command, file=questions, flush=True)
            return Sample(wall=float(answers.readline()), cpu=0)

        yield tell
        questions.close()


if __name__ == "__main__":
    main()
