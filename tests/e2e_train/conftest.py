"""Fixtures of trainings of language models: a project, and a training that was not disturbed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.flows.conftest import server

__all__ = ["server"]

PYTHON = REPOSITORY / ".venv-train/bin/python"
CONFIG = "configs/training/tiny_lora.yaml"
SHORT = "configs/training/short.yaml"
RUN = """
import sys
from flows.training_pipeline import training_pipeline
training_pipeline(*sys.argv[1:])
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests where the libraries are not installed."""
    if not (REPOSITORY / ".venv-train/ready").exists():
        reason = "needs torch, transformers and peft in .venv-train: run `make train-env`"
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


class Project:
    """A project with the demonstration tiny_lora and its base model.

    Args:
        folder: An empty folder.
        env: The environment variables of its processes, with the address of a server.
    """

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env | {"PYTHONPATH": str(REPOSITORY)}
        self.log = folder / "log"
        shutil.copytree(REPOSITORY / "artifacts/datasets", folder / "artifacts/datasets")
        (folder / "configs/training").mkdir(parents=True)
        text = (REPOSITORY / CONFIG).read_text().replace(".venv-train/bin/python", str(PYTHON))
        (folder / CONFIG).write_text(text)
        # Many checkpoints, so that many moments are in the middle of one.
        short = text.replace("epochs: 3", "epochs: 1").replace("save_steps: 20", "save_steps: 3")
        (folder / SHORT).write_text(short)
        subprocess.run(
            [PYTHON, "-m", "ops.base_models", CONFIG], cwd=folder, env=self.env, check=True
        )

    def llm_train(
        self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `llm-train` to its end, with further environment variables."""
        done = subprocess.run(
            [Path(sys.executable).with_name("llm-train"), *arguments],
            cwd=self.folder,
            env=self.env | dict(env or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    def start(self, config: str, version: str) -> subprocess.Popen[bytes]:
        """Start the flow in another process, which leads a process group."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", RUN, config, version],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, config: str, version: str) -> None:
        """Run the flow to its end."""
        assert self.start(config, version).wait() == 0, self.log.read_text()[-5000:]

    def model(self, version: str) -> dict[str, bytes]:
        """Return the weights and the history of a model, by file."""
        folder = self.folder / "artifacts/models" / version
        paths = [folder / "training.jsonl", *sorted((folder / "weights").rglob("*"))]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def history(self, version: str) -> list[dict[str, Any]]:
        """Return the points of the history of a model."""
        lines = self.model(version)["training.jsonl"].splitlines()
        return [json.loads(line) for line in lines]

    def metrics(self, version: str) -> dict[str, float]:
        """Return the metrics of a model."""
        path = self.folder / "artifacts/evaluations" / version / "evaluation.json"
        metrics: dict[str, float] = json.loads(path.read_bytes())["metrics"]
        return metrics

    def work(self, version: str, pattern: str) -> list[Path]:
        """Return files of the work folder of a training."""
        return sorted(self.folder.glob(f"artifacts/.work/{version}/*/{pattern}"))

    def last_step(self, version: str) -> int:
        """Return the last step in the history of a training that is not finished; 0 if none."""
        for path in self.work(version, "history.jsonl"):
            with suppress(OSError, ValueError, IndexError):
                return int(json.loads(path.read_bytes().splitlines()[-1])["step"])
        return 0


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> bool:
    """Wait for a condition; return whether it was true before a process ended."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.005)
    return False


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group with SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="session")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    server: dict[str, str],
) -> Iterator[Project]:
    """The project, with the models `undisturbed` and `short_undisturbed`."""
    env = {**os.environ, **server}
    project = Project(tmp_path_factory.mktemp("project"), env)
    project.run(CONFIG, "undisturbed")
    project.run(SHORT, "short_undisturbed")
    yield project
