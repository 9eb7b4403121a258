"""A run that fails says so in a team's own channel: here, an HTTP server of the test."""

import subprocess
import sys

import pytest

from tests.e2e.conftest import eventually
from tests.network import receiver


@pytest.fixture
def channel():
    with receiver() as (url, messages):
        yield f"{url}/hook", messages


def notify(platform, url):
    return subprocess.run(
        [sys.executable, "-m", "ops.notify", url],
        cwd=platform.project,
        env=platform.env,
        capture_output=True,
        text=True,
    )


def test_a_failed_run_is_told_to_the_channel_once_and_a_completed_one_is_not(platform, channel):
    url, messages = channel
    for _ in range(2):  # the second sets the same address anew
        done = notify(platform, url)
        assert (done.returncode, done.stdout) == (
            0,
            "Failed training runs are told to the address in the block 'training-failures'.\n",
        )
    train = "training-pipeline/train"
    run = platform.start_run(train, training_config_path="configs/none.yaml")
    eventually(lambda: messages)
    platform.ended(platform.start_run(train, model_version="told_to_nobody"))
    assert [message["text"] for message in messages] == [
        "train none: Failed\nconfigs/none.yaml: no such training config.\n"
        f"{platform.url}/runs/flow-run/{run}"
    ]


def test_an_address_that_is_none_is_refused(platform):
    done = notify(platform, "our-channel")
    assert done.returncode == 2
    assert "expected http://... or https://..., found 'our-channel'" in done.stderr
