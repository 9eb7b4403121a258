"""The commands print on a bucket what they print on a folder, apart from its address."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.checkout import ROOT
from tests.docs import TIME, UUID
from tests.e2e.conftest import Platform
from tests.e2e_cloud.servers import running_store

SWEPT = "mistral-7b-dataset_v1-6766707bcbde"
CONFIG = "configs/training/mistral_finetune.yaml"
UNKNOWN = ["show", "model_v2"]
COMMANDS = [
    ["dataset", "add", "data.jsonl", "dataset_v1"],
    ["run", CONFIG, "--model-version", "model_v1"],
    ["run", CONFIG, "--model-version", "model_v1"],
    ["sweep", "--grid", "grid.yaml"],
    ["models"],
    ["models", "--json"],
    ["show", "model_v1"],
    UNKNOWN,
    ["compare", "model_v1", SWEPT],
    ["trace", "model_v1"],
    ["trace", "--dataset", "dataset_v1"],
    ["dataset", "list"],
    ["dataset", "show", "dataset_v1"],
    ["verify", "--all"],
    ["verify", "model_v1", "--json"],
    ["report", "--output", "report.html"],
]
"""In the order in which they are run."""
SETTINGS = ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
VOLATILE = {
    UUID: "UUID",
    TIME: "TIME",
    r"\b[0-9a-f]{64}\b": "DIGEST",
    r"-[0-9a-f]+\.json\b": "-DIGEST.json",
    r"\b\d+(?:\.\d+)? ?m?s\b": "SECONDS",
    r"\b\d\d:\d\d:\d\d(?:\.\d+)?\b": "TIME",
    r"\d{4}-\d\d-\d\d": "DATE",
    r"models, [\d,]+ bytes": "models, SIZE",  # of the report, which has the address
    r"[ ─━]+": " ",  # tables are as wide as the address
}


@pytest.fixture
def project(project, tmp_path):
    """A project with a grid, whose artifacts root is elsewhere."""
    (project / "artifacts/datasets/dataset_v1/data.jsonl").rename(project / "data.jsonl")
    grid = {"base_config": CONFIG, "epochs": [4, 5]}
    (project / "grid.yaml").write_text(yaml.safe_dump(grid))
    return project


def outputs(project: Path, root: str, home: Path, variables: dict[str, str]) -> list[str]:
    """Run all commands on an artifacts root; return what each prints, and the report."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "COLUMNS": "400",
        "LLM_TRAIN_ARTIFACTS": root,
        **variables,
    }
    found = []
    for command in COMMANDS:
        done = subprocess.run(
            [ROOT / ".venv/bin/llm-train", *command],
            cwd=project,
            env=env,
            capture_output=True,
            text=True,
        )
        is_expected = (done.returncode == 0) == (command != UNKNOWN)
        assert is_expected, (command, done.stdout, done.stderr)
        # On stderr, success has a log, in which progress depends on the time.
        found.append(normalized(done.stderr if done.returncode else done.stdout, root))
    report = (project / "report.html").read_text()
    return [*found, normalized(report, root)]


def normalized(text: str, root: str) -> str:
    text = text.replace(root, "ROOT")
    for pattern, word in VOLATILE.items():
        text = re.sub(pattern, word, text)
    return text


@pytest.fixture
def server(tmp_path):
    """A Prefect server for all commands; without one, each run would start one."""
    folder = tmp_path / "server"
    folder.mkdir()
    platform = Platform(folder, ROOT)
    yield {name: platform.env[name] for name in SETTINGS}
    platform.stop()


def test_all_commands_work_on_a_bucket_as_on_a_folder(project, server, tmp_path):
    (tmp_path / "store").mkdir()
    with running_store("ministack", tmp_path / "store") as store:
        root = tmp_path / "root"
        root.mkdir()
        homes = [tmp_path / "home of folder", tmp_path / "home of bucket"]
        for home in homes:
            home.mkdir()
        on_folder = outputs(project, str(root), homes[0], server)
        on_bucket = outputs(project, f"{store.url}/root", homes[1], server | store.variables)
    for command, expected, found in zip([*COMMANDS, ["page"]], on_folder, on_bucket, strict=True):
        assert found == expected, command
