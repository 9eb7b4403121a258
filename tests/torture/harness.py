"""Shared parts of the kill and race tests: the worker, a project, checks of an artifacts root."""

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
from threading import Event
from typing import Any

from benchmarks.make_dataset import make_dataset
from src.lineage.verify import verdict, verify_all
from src.records.canonical import canonical_json
from src.training.registry import list_models
from tests.examples import without_runs, written

LONG = os.environ.get("TORTURE") == "long"
REPOSITORY = Path(__file__).parents[2]
CONFIGS = 3
EVENT_SECONDS = 240

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
    """A client of worker.py, the process that forks others."""

    def __init__(self, process: subprocess.Popen[str], results: Path) -> None:
        self._process = process
        self._results = results

    def run(
        self,
        *tasks: dict[str, Any],
        kill_after: float | None = None,
        kill_at: Event | None = None,
    ) -> list[int]:
        """Run tasks concurrently, in one process each; return their exit codes.

        Args:
            tasks: The name of a function of worker.py as `task`, and its inputs.
            kill_after: Seconds after which all processes are killed.
            kill_at: The event at which all processes are killed.
        """
        self._results.mkdir(exist_ok=True)
        paths = [str(self._results / str(index)) for index in range(len(tasks))]
        for path in paths:
            Path(path).unlink(missing_ok=True)
        self._send(json.dumps([{**t, "result": p} for t, p in zip(tasks, paths, strict=True)]))
        assert self._receive() == "started"
        if kill_after is not None:
            time.sleep(kill_after)
        if kill_at is not None:
            assert kill_at.wait(EVENT_SECONDS), "the event did not happen"
        self._send("wait" if kill_after is None and kill_at is None else "kill")
        codes: list[int] = self._receive()
        return codes

    def results(self, *tasks: dict[str, Any]) -> list[Any]:
        """Run tasks that must succeed; return their results."""
        codes = self.run(*tasks)
        paths = [self._results / str(index) for index in range(len(tasks))]
        results = [json.loads(path.read_text()) if path.exists() else None for path in paths]
        failed = [result for result, code in zip(results, codes, strict=True) if code != 0]
        assert not failed, f"exit codes {codes}\n" + "\n".join(map(str, failed))
        return results

    def error(self) -> str:
        """Return the traceback of the first task of the last run; empty if there is none."""
        path = self._results / "0"
        return str(json.loads(path.read_text())) if path.exists() else ""

    def _send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the worker died"
        return json.loads(line)


@contextmanager
def running_worker(folder: Path) -> Iterator[Worker]:
    """Start the worker; on exit, kill it and every process that it forked."""
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


def make_project(folder: Path) -> tuple[Path, list[str]]:
    """Create an artifacts root with one dataset, and configs for it; return both."""
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


def copy_root(root: Path, to: Path) -> Path:
    """Replace the artifacts root `to` by a copy of `root`; return `to`."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root, to)
    return to


def comparable(root: Path) -> tuple[dict[str, bytes], list[bytes]]:
    """Return what depends neither on kills nor on order: the files, and the sorted entries."""
    files = without_runs(written(root))
    files.pop("models/registry.json", None)
    return files, sorted(
        canonical_json(model) for model in list_models(root / "models/registry.json")
    )


def temporary_files(root: Path) -> list[str]:
    """Return the temporary files that killed writers left."""
    return [path for path in written(root) if path.endswith(".tmp")]


def faults(root: Path) -> list[str]:
    """Return the violations of what must hold at every moment, after any kill."""
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
                found.append(f"{path}: not in canonical form: {data!r}")
            if set(values[path]) != JSON_KEYS[name]:
                found.append(f"{path}: has the keys {sorted(values[path])}")
            if (
                "model_version" in JSON_KEYS[name]
                and values[path]["model_version"] != Path(path).parent.name
            ):
                found.append(f"{path}: names version {values[path]['model_version']}")
        elif name != "registry.json.lock" and not (name[0] == "." and name.endswith(".json.tmp")):
            found.append(f"{path}: unexpected file")
    models = values.get("models/registry.json", {"models": []})["models"]
    versions = [model["model_version"] for model in models]
    if len(set(versions)) != len(versions):
        found.append(f"registered twice: {versions}")
    found += [
        f"{model['model_version']}: its registry entry differs from its metadata.json"
        for model in models
        if values.get(f"models/{model['model_version']}/metadata.json") != model
    ]
    found += [
        f"{path}: has no provenance.json next to it"
        for path in values
        if path.endswith("metadata.json")
        and path.replace("metadata.json", "provenance.json") not in values
    ]
    found += [
        f"{path}: evaluates a version that is not registered"
        for path in values
        if path.startswith("evaluations/") and Path(path).parent.name not in versions
    ]
    found += [
        f"{version}: {verdict(checks)}"
        for version, checks in verify_all(root)
        if verdict(checks) not in ("MATCH", "UNFINISHED")
    ]
    if list_models(root / "models/registry.json") != models:
        found.append("list_models returns other models than registry.json contains")
    return found
