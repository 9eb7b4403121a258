"""Trainings that are cancelled or lose their worker, on a real worker."""

from pathlib import Path

import pytest

from tests.e2e.conftest import FINAL, eventually
from tests.examples import CONFIG
from tests.trainers import MODULE

CONFIG_PATH = "configs/own/slow.yaml"
COMPONENTS = """
trainer:
  use: e2e_trainer:train
  options: {{steps: {steps}, seconds: 0.05}}
evaluator:
  use: e2e_trainer:evaluate
"""


@pytest.fixture
def train(platform):
    """Start a training of so many steps, 20 per second, under a version; return the flow run."""
    (platform.project / "e2e_trainer.py").write_text(MODULE)
    config = platform.project / CONFIG_PATH
    config.parent.mkdir(exist_ok=True)

    def train(version, steps):
        config.write_text(CONFIG + COMPONENTS.format(steps=steps))
        return platform.start_run(
            "training-pipeline/train", training_config_path=CONFIG_PATH, model_version=version
        )

    yield train
    config.unlink()
    (platform.project / "e2e_trainer.py").unlink()
    (platform.project / "calls").unlink(missing_ok=True)


def trainers(project):
    """Return the processes of trainers of a project."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_trainer = b"src/training/child.py" in (folder / "cmdline").read_bytes()
            if is_trainer and (folder / "cwd").readlink() == project:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def checkpoint(project, version):
    return next(project.glob(f"artifacts/.work/{version}/*/checkpoints/state.json"), None)


def weights(project, version):
    folder = project / "artifacts/models" / version
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in [*folder.glob("weights/**/*.json"), folder / "training.jsonl"]
    }


def test_a_training_that_is_cancelled_in_the_ui_ends_with_all_processes(platform, train):
    run = train("cancelled", 10_000)
    eventually(lambda: checkpoint(platform.project, "cancelled"))
    assert trainers(platform.project)
    platform.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    assert platform.ended(run)["state_type"] == "CANCELLED"
    eventually(lambda: not trainers(platform.project))
    assert not (platform.project / "artifacts/models/cancelled").exists()
    assert checkpoint(platform.project, "cancelled")


def test_a_training_whose_worker_is_killed_is_continued_to_the_bytes_of_an_undisturbed_one(
    platform, train
):
    undisturbed = train("undisturbed", 100)
    assert platform.ended(undisturbed)["state_type"] == "COMPLETED"
    run = train("continued", 100)
    eventually(lambda: checkpoint(platform.project, "continued"), every=0.05)
    platform.workers.pop().kill()
    eventually(lambda: not trainers(platform.project))
    state = platform.get(f"flow_runs/{run}")["state_type"]
    if state not in FINAL:  # as the automation on missing heartbeats does
        platform.post(f"flow_runs/{run}/set_state", state={"type": "CRASHED"}, force=True)
    platform.start_worker()
    again = train("continued", 100)
    assert platform.ended(again)["state_type"] == "COMPLETED"
    assert weights(platform.project, "continued") == weights(platform.project, "undisturbed")
