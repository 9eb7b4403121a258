"""Tests of the artifacts root of a flow run that is given none."""

import os
import subprocess
import sys

import pytest

from tests.checkout import ROOT

DEFAULTS = """
import inspect
from flows import audit_models, compare_models, training_pipeline, training_sweep, verify_models

for module in (audit_models, compare_models, training_pipeline, training_sweep, verify_models):
    flow = getattr(module, module.__name__.rpartition(".")[2])
    print(inspect.signature(flow.fn).parameters["artifacts_dir"].default)
"""


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({}, "artifacts"),
        ({"LLM_TRAIN_ARTIFACTS": ""}, "artifacts"),
        ({"LLM_TRAIN_ARTIFACTS": "s3://bucket/prefix"}, "s3://bucket/prefix"),
    ],
)
def test_a_flow_run_uses_the_artifacts_root_of_its_worker(variables, root):
    inherited = {key: value for key, value in os.environ.items() if key != "LLM_TRAIN_ARTIFACTS"}
    done = subprocess.run(
        [sys.executable, "-c", DEFAULTS],
        cwd=ROOT,
        env=inherited | variables,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [root] * 5, done.stderr
