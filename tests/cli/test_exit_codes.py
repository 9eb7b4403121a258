"""The exit codes that docs/usage.md lists."""

from pathlib import Path

import pytest

from tests.examples import CONFIG

MODEL = Path("artifacts/models/model_v1")
LOCAL = ["run", "one.yaml", "--local", "--model-version", "model_v1"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


DAMAGE = {
    "nothing": lambda: None,
    "metadata edited": lambda: edit(MODEL / "metadata.json", '"epochs": 3', '"epochs": 4'),
    "metadata cut off": lambda: (MODEL / "metadata.json").write_text("{"),
    "metadata deleted": lambda: (MODEL / "metadata.json").unlink(),
    "evaluation cut off": lambda: Path("artifacts/evaluations/model_v1/evaluation.json").write_text(
        "{"
    ),
    "data edited": lambda: edit(Path("artifacts/datasets/dataset_v1/data.jsonl"), "one", "two"),
    "registry deleted": lambda: Path("artifacts/models/registry.json").unlink(),
    "config edited": lambda: Path("one.yaml").write_text(CONFIG.replace("16", "32")),
    "config not valid": lambda: Path("one.yaml").write_text("epochs: x"),
}


@pytest.mark.parametrize(
    ("code", "damage", "arguments"),
    [
        (0, "nothing", ["models"]),
        (0, "nothing", ["verify", "--all"]),
        (0, "nothing", LOCAL),
        (0, "metadata deleted", LOCAL),
        (0, "evaluation cut off", LOCAL),
        (1, "metadata edited", ["verify", "model_v1"]),
        (1, "metadata cut off", ["verify", "model_v1"]),
        (1, "metadata deleted", ["verify", "model_v1"]),
        (1, "data edited", ["verify", "--all"]),
        (1, "metadata cut off", LOCAL),
        (1, "evaluation cut off", ["models"]),
        (1, "registry deleted", ["models"]),
        (1, "registry deleted", LOCAL),
        (1, "metadata edited", ["rebuild-registry"]),
        (2, "metadata edited", LOCAL),
        (2, "config edited", LOCAL),
        (2, "config not valid", LOCAL),
        (2, "data edited", LOCAL),
        (2, "nothing", ["run", "none.yaml", "--local"]),
        (2, "nothing", ["run", "one.yaml", "--local", "--model-version", "a/b"]),
        (2, "nothing", ["show", "nope"]),
        (2, "nothing", ["verify", "nope"]),
        (2, "nothing", ["compare", "model_v1"]),
        (2, "nothing", ["models", "--artifacts-dir", "configs"]),
        (2, "nothing", ["verify", "--all", "--artifacts-dir", "configs"]),
        (2, "nothing", ["rebuild-registry", "--artifacts-dir", "configs"]),
        (2, "nothing", ["sweep"]),
        (2, "nothing", ["sweep", "none/*.yaml"]),
        (2, "nothing", ["sweep", "--grid", "none.yaml"]),
        (2, "nothing", ["sweep", "--grid", "one.yaml"]),
    ],
)
def test_a_command_exits_with_its_documented_code(models, llm_train, code, damage, arguments):
    if arguments[0] == "rebuild-registry" and damage != "nothing":
        Path("artifacts/models/registry.json").unlink()
    DAMAGE[damage]()
    done = llm_train(*arguments)
    assert done.exit_code == code, done.stderr


@pytest.mark.parametrize("arguments", [["sweep", "none/*.yaml"], ["sweep", "--grid", "none.yaml"]])
def test_a_sweep_without_a_config_is_refused_before_a_server_is_started(
    project, llm_train, monkeypatch, arguments
):
    monkeypatch.setattr("cli.runs.console_run", None)
    done = llm_train(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {arguments[-1]}: no ")


def test_sweep_without_arguments_is_a_usage_error(project, llm_train):
    done = llm_train("sweep")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith("\nError: Pass CONFIGS, --grid, or both.\n")
