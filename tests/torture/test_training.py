"""Trainings that are killed at any moment, also while their weights are put into the record."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from src.lineage.verify import verdict, verify
from src.training.pipeline import run_training_pipeline
from tests.conftest import REPOSITORY
from tests.torture.harness import LONG
from tests.trainers import CONFIG_PATH, trained

KILLS = 50 if LONG else 6
SEED = 20_240_229
RUN = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from src.training.pipeline import run_training_pipeline
print("started", flush=True)
run_training_pipeline({CONFIG_PATH!r}, "model_v1")
"""
ROOT = Path("artifacts")


def outputs(tree):
    """Return what a run writes, without the details of the run."""
    return {
        name: data
        for name, data in tree(ROOT).items()
        if not name.startswith("datasets/")
        and not name.endswith(("provenance.json", ".lock", "evaluation.json"))
    }


def start():
    process = subprocess.Popen(
        [sys.executable, "-c", RUN], start_new_session=True, stdout=subprocess.PIPE
    )
    assert process.stdout
    with process.stdout:
        process.stdout.readline()
    return process


def remove():
    for name in ("models", "evaluations", ".work"):
        shutil.rmtree(ROOT / name, ignore_errors=True)


def test_a_training_that_is_killed_at_any_moment_ends_in_the_bytes_of_an_undisturbed_one(
    project, tree
):
    trained(steps=20, seconds=0.01)
    run_training_pipeline(CONFIG_PATH, "model_v1")
    expected = outputs(tree)
    dice = random.Random(SEED)
    longest, kills = 1.0, 0
    remove()
    while kills < KILLS:
        process = start()
        try:
            process.wait(dice.uniform(0, longest))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        assert outputs(tree) == expected
        remove()
    run_training_pipeline(CONFIG_PATH, "model_v1")
    assert outputs(tree) == expected
    assert [path.name for path in (ROOT / ".work").iterdir()] == [".model_v1.lock"]
    assert verdict(verify("model_v1")) == "AS RECORDED"
