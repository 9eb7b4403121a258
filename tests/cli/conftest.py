"""Fixtures of the tests of the command line: two models, equal on every machine."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from src.environment import Invocation
from src.evaluation import attestation
from src.records.statement import ResolvedDependency
from src.training import binding
from src.training.pipeline import run_training_pipeline
from tests.examples import CONFIG, DATA

COMMIT = "c0ffee" * 6 + "beef"
OTHER_CONFIG = CONFIG.replace("mistral-7b", "org/llama-3.1-8b").replace("epochs: 3", "epochs: 4")
ENVIRONMENT = (
    ResolvedDependency(name="code", digest={"gitCommit": COMMIT}, annotations={"dirty": False}),
    ResolvedDependency(name="core", digest={"sha256": "c0de" * 16}),
    ResolvedDependency(
        name="python", annotations={"version": "3.11.7", "implementation": "cpython"}
    ),
    ResolvedDependency(name="packages", annotations={"filelock": "4.2.11", "pyyaml": "6.0.3"}),
)
READING = [
    ["models"],
    ["show", "model_v1"],
    ["compare", "model_v1", "model_v2"],
    ["verify", "--all"],
    ["trace", "model_v1"],
    ["trace", "--dataset", "dataset_v1"],
    ["trace", "--commit", COMMIT],
    ["trace", "--file", "artifacts/models/model_v1/metadata.json"],
    ["trace", "--line", DATA.splitlines()[0].decode()],
]
"""One call of every command that only reads."""


@pytest.fixture
def fail_to_read(monkeypatch) -> Callable[[Path], None]:
    """Make every read of a file an I/O error, also for root."""

    def fail(path: Path) -> None:
        inode, read = path.stat().st_ino, os.read

        def failing(descriptor: int, size: int) -> bytes:
            if os.fstat(descriptor).st_ino == inode:
                raise OSError(errno.EIO, "Input/output error")
            return read(descriptor, size)

        monkeypatch.setattr(os, "read", failing)

    return fail


@pytest.fixture
def models(project, monkeypatch) -> Path:
    """The project with `model_v1`, made by a run with a URL, and `model_v2`, by one without."""
    Path("one.yaml").write_text(CONFIG)
    Path("two.yaml").write_text(OTHER_CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr(binding, "environment_dependencies", lambda: ENVIRONMENT)
        patch.setattr(attestation, "core_dependency", lambda: ENVIRONMENT[1])
        for number, name in enumerate(("one", "two"), start=1):
            run_training_pipeline(
                f"{name}.yaml",
                f"model_v{number}",
                invocation=Invocation(
                    id=f"run-{number}",
                    url="http://server/runs/1" if number == 1 else None,
                    started_on=f"2026-11-23T10:00:0{number}.000Z",
                    clock=lambda: "2026-11-23T11:00:00.000Z",
                    host=None,
                ),
            )
    return project


@pytest.fixture
def llm_train():
    """Run `llm-train` with some arguments in this process."""

    def llm_train(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(
            main, arguments, prog_name="llm-train", env=env, catch_exceptions=False
        )

    return llm_train


@pytest.fixture
def as_json(llm_train):
    """Run `llm-train` with some arguments and `--json`; return the parsed output."""

    def as_json(*arguments: str) -> object:
        return json.loads(llm_train(*arguments, "--json").stdout)

    return as_json
