"""Tests of ops.notify with a real server; the webhook is an HTTP server of the test."""

import subprocess
import sys
from contextlib import suppress

import pytest
from prefect.automations import Automation
from prefect.settings import PREFECT_API_URL, temporary_settings

from ops.notify import AUTOMATION, FORMER_AUTOMATION
from tests.e2e.conftest import eventually
from tests.network import receiver


@pytest.fixture
def webhook():
    """The URL of a webhook, and the list of messages that it receives."""
    with receiver() as (url, messages):
        yield f"{url}/hook", messages


def notify(platform, url):
    """Run ops.notify."""
    return subprocess.run(
        [sys.executable, "-m", "ops.notify", url],
        cwd=platform.project,
        env=platform.env,
        capture_output=True,
        text=True,
    )


def test_a_failed_run_is_posted_once_and_a_completed_run_is_not(platform, webhook):
    url, messages = webhook
    for _ in range(2):  # the second call replaces the first automation
        with (
            temporary_settings({PREFECT_API_URL: f"{platform.url}/api"}),
            suppress(ValueError),  # before the first call
        ):
            automation = Automation.read(name=AUTOMATION, _sync=True)
            automation.name = FORMER_AUTOMATION
            automation.update(_sync=True)
        done = notify(platform, url)
        assert (done.returncode, done.stdout) == (
            0,
            "Failed training runs are posted to the URL in the block 'training-failures'.\n",
        )
    train = "training-pipeline/train"
    run = platform.start_run(train, training_config_path="configs/none.yaml")
    eventually(lambda: messages)
    platform.ended(platform.start_run(train, model_version="completed"))
    assert [message["text"] for message in messages] == [
        "train none: Failed\nconfigs/none.yaml: no such training config.\n"
        f"{platform.url}/runs/flow-run/{run}"
    ]


def test_a_value_that_is_not_a_url_is_a_usage_error(platform):
    done = notify(platform, "not-a-url")
    assert done.returncode == 2
    assert "URL: found 'not-a-url'. Expected http://... or https://..." in done.stderr
