"""Something other than the expected file, in every place that a flow reads."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.audit_models import audit_models
from flows.compare_models import compare_models
from flows.dataset_published import dataset_published
from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep
from src.training.pipeline import run_training_pipeline
from tests.examples import WRONG_FILES
from tests.flows.runs import COMMAND, ROOT, STEPS
from tests.hostile import PLACES, READERS, put

MEMORY = 3 << 30  # bytes of address space of a command with an engine
SWEEP_READS = {"config", "data", "dataset metadata", "registry", "lock", "temporary file"}


@pytest.fixture
def made(project) -> Path:
    """The project with `model_v1` and `model_v2`, and a grid of a further model."""
    Path("grid.yaml").write_text("base_config: config.yaml\nepochs: [4]\n")
    for version in ("model_v1", "model_v2"):
        run_training_pipeline("config.yaml", version)
    return project


@pytest.fixture
def hostile(made, monkeypatch):
    """Put something at a place of a copy of the project, the working directory; return its name."""

    def hostile(kind, place):
        shutil.rmtree(made / "case", ignore_errors=True)
        shutil.copytree(made, made / "case")
        monkeypatch.chdir(made / "case")
        put(kind, Path(PLACES[place]))
        return PLACES[place]

    return hostile


def outcome(flow, *arguments):
    """Run a flow; return its final state and its message."""
    state = flow(*arguments, return_state=True)
    assert "Traceback" not in (state.message or "")
    return state.name, state.message or ""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["a circle", "a FIFO", "a huge file"])
def test_a_run_fails_with_one_sentence_that_names_the_place(kind, place, hostile):
    name = hostile(kind, place)
    version = "model_v3" if place in ("lock", "temporary file") else "model_v1"
    final, message = outcome(training_pipeline, "config.yaml", version)
    if kind == "a huge file" and place in ("lock", "temporary file"):
        assert final == "Completed"  # its contents do not matter
    elif kind == "a huge file" and place == "data":
        assert (final, message.endswith(f"({name})")) == ("Failed", True)  # another digest
    else:
        assert (final, message.count("\n")) == ("Failed", 0)
        assert message.endswith(f"{name})")


@pytest.mark.parametrize("place", PLACES)
def test_a_sweep_and_the_flows_that_read_fail_if_they_read_the_place(place, hostile):
    name = hostile("a FIFO", place)
    for flow, arguments, is_reader in [
        (audit_models, [], "verify" in READERS[place]),
        (compare_models, [["model_v1", "model_v2"]], "compare" in READERS[place]),
        (training_sweep, [[], "grid.yaml"], place in SWEEP_READS),
    ]:
        final, message = outcome(flow, *arguments)
        assert final == ("Failed" if is_reader else "Completed"), flow.name
        assert is_reader <= (name in message or flow is audit_models), message


@pytest.mark.parametrize("kind", ["a circle", "a FIFO", "a folder", "a huge file"])
def test_a_grid_that_is_not_a_regular_file_fails_the_sweep_with_one_sentence(kind, made):
    put(kind, Path("grid.yaml"))
    final, message = outcome(training_sweep, [], "grid.yaml")
    assert (final, message.count("\n")) == ("Failed", 0)
    assert message.endswith(" (grid.yaml)")


@pytest.mark.parametrize("kind", ["a circle", "a FIFO", "a folder", "a huge file", "a socket"])
def test_a_run_replaces_or_reports_a_step_result_that_is_not_one(kind, made, caplog):
    training_pipeline("config.yaml", "model_v1")
    for path in Path("artifacts/.cache").iterdir():
        put(kind, path)
    assert {path.name.partition("-")[0] for path in Path("artifacts/.cache").iterdir()} == {*STEPS}
    final, _ = outcome(training_pipeline, "config.yaml", "model_v1")
    assert final == "Completed"
    warned = any("Results of steps are not cached: " in each for each in caplog.messages)
    assert warned == (kind != "a huge file")


def test_files_that_are_not_configs_are_skipped_when_a_dataset_is_published(made, caplog):
    for kind in ("a circle", "a FIFO", "a huge file", "a socket"):
        Path("configs").mkdir(exist_ok=True)
        put(kind, Path("configs", f"{kind}.yaml"))
    assert dataset_published("dataset_v9", "configs") == []
    skipped = [each for each in caplog.messages if each.startswith("Skipped: configs/a ")]
    assert len(skipped) == 4


CLOSED = """
import sys
from pathlib import Path
from flows import dataset_published as module
from tests.privileges import drop_privileges
warned = []
class Logger:
    def warning(self, message, *arguments):
        warned.append(message % arguments)
module.get_run_logger = Logger
Path("configs/closed").mkdir(parents=True)
Path("configs/closed").chmod(0)
drop_privileges()
assert module._configs_using("dataset_v9", "configs") == []
print(warned)
try:
    module._configs_using("dataset_v9", "configs/closed")
except PermissionError as error:
    print(error)
"""


def test_a_folder_of_configs_that_cannot_be_listed_is_reported(project, start):
    assert start(CLOSED).end().splitlines() == [
        """["Skipped: [Errno 13] Permission denied: 'configs/closed'"]""",
        "[Errno 13] Permission denied: 'configs/closed'",
    ]


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


@pytest.mark.parametrize(
    ("command", "kind"),
    [("run", "a FIFO"), ("run", "a huge file"), ("run", "passwd"), ("sweep --grid", "env")],
)
def test_a_command_prints_one_sentence_about_a_config_named_by_mistake(
    command, kind, project, server
):
    if kind in WRONG_FILES:
        Path("wrong").write_bytes(WRONG_FILES[kind])
    else:
        put(kind, Path("wrong"))
        if kind == "a huge file":
            os.truncate("wrong", 1 << 34)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *command.split(), "wrong"],
        env=server | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,  # against a hang
        preexec_fn=limit_memory,
    )
    assert (done.returncode, done.stdout) == (2, "")
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: wrong:")
    assert "Traceback" not in done.stderr
    assert "S3CRET" not in done.stderr
