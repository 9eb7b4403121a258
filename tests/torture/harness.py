"""What both tortures share: the worker's other end, a place to work in, what a record must be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.make_dataset import make_dataset
from src.storage import canonical_json
from src.training.registry import list_models
from tests.examples import without_runs, written

LONG = os.environ.get("TORTURE") == "long"
REPOSITORY = Path(__file__).parents[2]
CONFIGS = 3

METADATA_KEYS = {
    "model_version",
    "base_model",
    "dataset_version",
    "training_config",
    "num_training_samples",
}
EVALUATION_KEYS = {"model_version", "dataset_version", "metrics"}
JSON_KEYS = {
    "metadata.json": METADATA_KEYS,
    "evaluation.json": EVALUATION_KEYS,
    "provenance.json": {"_type", "subject", "predicateType", "predicate"},
    "registry.json": {"models"},
}
KILLED = -signal.SIGKILL


class Worker:
    """The process that forks others; see worker.py."""

    def __init__(self, process: subprocess.Popen[str], results: Path) -> None:
        self._process = process
        self._results = results

    def do(self, *tasks: dict[str, Any], kill_after: float | None = None) -> list[int]:
        """Do tasks in one process each, all at once; give how each ended.

        Args:
            tasks: What to do: the name of a function of worker.py as `task`, and what it needs.
            kill_after: Seconds after which all are killed, whatever they are doing.
        """
        self._results.mkdir(exist_ok=True)
        paths = [str(self._results / str(index)) for index in range(len(tasks))]
        for path in paths:
            Path(path).unlink(missing_ok=True)
        self._say(json.dumps([{**t, "result": p} for t, p in zip(tasks, paths, strict=True)]))
        assert self._hear() == "started"
        if kill_after is not None:
            time.sleep(kill_after)
        self._say("wait" if kill_after is None else "kill")
        codes: list[int] = self._hear()
        return codes

    def results(self, *tasks: dict[str, Any]) -> list[Any]:
        """Do tasks that must succeed; give what each returned."""
        codes = self.do(*tasks)
        paths = [self._results / str(index) for index in range(len(tasks))]
        results = [json.loads(path.read_text()) if path.exists() else None for path in paths]
        failed = [result for result, code in zip(results, codes, strict=True) if code != 0]
        assert not failed, f"exit codes {codes}\n" + "\n".join(map(str, failed))
        return results

    def error(self) -> str:
        """What the first of the tasks done last raised, if it did."""
        path = self._results / "0"
        return str(json.loads(path.read_text())) if path.exists() else ""

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the worker died"
        return json.loads(line)


@contextmanager
def working(folder: Path) -> Iterator[Worker]:
    """Start the worker; neither it nor any process it forked outlives the block."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    )
    try:
        yield Worker(process, folder / "results")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def make_place(folder: Path) -> tuple[Path, list[str]]:
    """Make an artifacts root with one dataset, and configs to train on it."""
    make_dataset("dataset_v1", samples=20, datasets_dir=folder / "start/datasets")
    configs = []
    for index in range(CONFIGS):
        path = folder / f"config_{index}.yaml"
        path.write_text(
            f"base_model: org/model-{index}\ndataset_version: dataset_v1\n"
            f"learning_rate: {index + 1}e-5\nepochs: {index + 1}\nbatch_size: 16\n"
        )
        configs.append(str(path))
    return folder / "start", configs


def copy(root: Path, to: Path) -> Path:
    """Copy an artifacts root, in place of what was there."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root, to)
    return to


def outcome(root: Path) -> tuple[dict[str, bytes], list[bytes]]:
    """Give what must not depend on who was killed or came first: files, and entries in no order."""
    files = without_runs(written(root))
    files.pop("models/registry.json", None)
    return files, sorted(
        canonical_json(model) for model in list_models(root / "models/registry.json")
    )


def drafts(root: Path) -> list[str]:
    """Give the files that a killed writer was in the middle of."""
    return [path for path in written(root) if path.endswith(".tmp")]


def faults(root: Path) -> list[str]:
    """Give whatever is not as it must be at every moment, whoever was killed."""
    found: list[str] = []
    values: dict[str, Any] = {}
    for path, data in written(root).items():
        name = Path(path).name
        if name in JSON_KEYS:
            try:
                values[path] = json.loads(data)
            except ValueError as error:
                found.append(f"{path}: {error}: {data!r}")
                continue
            if canonical_json(values[path]) != data:
                found.append(f"{path}: not whole: {data!r}")
            if set(values[path]) != JSON_KEYS[name]:
                found.append(f"{path}: has the keys {sorted(values[path])}")
            if (
                "model_version" in JSON_KEYS[name]
                and values[path]["model_version"] != Path(path).parent.name
            ):
                found.append(f"{path}: is of {values[path]['model_version']}")
        elif name != "registry.json.lock" and not (name[0] == "." and name.endswith(".json.tmp")):
            found.append(f"{path}: a stray file")
    models = values.get("models/registry.json", {"models": []})["models"]
    versions = [model["model_version"] for model in models]
    if len(set(versions)) != len(versions):
        found.append(f"entered twice: {versions}")
    found += [
        f"{model['model_version']}: its entry is not its metadata.json"
        for model in models
        if values.get(f"models/{model['model_version']}/metadata.json") != model
    ]
    found += [
        f"{path}: has no provenance beside it"
        for path in values
        if path.endswith("metadata.json")
        and path.replace("metadata.json", "provenance.json") not in values
    ]
    found += [
        f"{path}: of a version that has no entry"
        for path in values
        if path.startswith("evaluations/") and Path(path).parent.name not in versions
    ]
    if list_models(root / "models/registry.json") != models:
        found.append("list_models gives other than what registry.json holds")
    return found
