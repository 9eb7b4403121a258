"""Growth of registering, finding and listing models with the number of models.

    python -m benchmarks.registry [--sizes 10 1000 10000 100000] [--mlflow 10000] [--rounds 5]

Compared with MLflow's registry (SQLite), with JSON that is loaded, appended to and written with
indentation, and with the floor of a registration: a copy of the same registry.json, with `fsync`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    ROOT,
    Row,
    Sample,
    environment,
    figures,
    report,
    run_in_turns,
    timed,
    working_folder,
)
from benchmarks.project import metadata
from src.records.canonical import canonical_json
from src.storage import open_file
from src.training.registry import (
    get_model,
    list_models,
    newest_models,
    register_model,
    register_models,
)

MLFLOW_PYTHON = ROOT / ".venv/peers/mlflow/bin/python"
ABOUT = "One call in a process that has made one before. Floor: a copy of the file, with `fsync`."
COPY, OURS, NAIVE = "copy, synced", "`register_model`", "JSON, rewritten"

Actions = dict[str, Callable[[], Sample]]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1_000, 10_000, 100_000])
    parser.add_argument(
        "--mlflow", type=int, default=10_000, metavar="N", help="largest size with MLflow"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows: list[Row] = []
    with working_folder() as folder, _mlflow(folder / "mlflow") as mlflow:
        for size in options.sizes:
            actions = _actions(folder, size)
            if mlflow is not None and size <= options.mlflow:
                mlflow(f"fill {size}")
                actions |= {
                    f"MLflow: {command}": partial(mlflow, command)
                    for command in ("register", "get")
                }
            samples = run_in_turns(actions, options.rounds)
            rows += [
                Row(
                    name=f"{size:,} models, {name}",
                    values=figures(each, "wall"),
                    unit="ms",
                    floor=figures(samples[COPY], "wall"),
                )
                for name, each in samples.items()
            ]
        report("Registry", ABOUT, rows, folder=folder)


def _actions(folder: Path, size: int) -> Actions:
    """Write a registry of `size` models, and its memo; return the calls to measure."""
    ours, copy, naive = (folder / f"{size}-{name}.json" for name in ("ours", "copy", "naive"))
    models = [metadata(number) for number in range(size)]
    ours.write_bytes(canonical_json({"models": models}))
    naive.write_text(json.dumps(models, indent=2))
    list_models(ours)
    memo = open_file(ours).memo()
    if memo is None or not memo.exists():
        sys.exit(f"{ours}: no memo was written.")
    new = map(metadata, count(size))
    middle = models[size // 2]["model_version"]
    actions = {
        COPY: lambda: _copy(ours, copy),
        OURS: lambda: register_model(next(new), ours),
        "`register_models`, 100 models": lambda: register_models(islice(new, 100), ours),
        "`newest_models`, 20 of them": lambda: [*islice(newest_models(ours)[1], 20)],
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
    """Start MLflow in its environment; yield a function that sends it a command."""
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
        requests, answers = process.stdin, process.stdout
        assert requests and answers  # noqa: S101  # both are pipes

        def send(command: str) -> Sample:
            print(command, file=requests, flush=True)
            return Sample(wall=float(answers.readline()), cpu=0)

        yield send
        requests.close()


if __name__ == "__main__":
    main()
