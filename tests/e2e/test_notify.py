"""Tests of ops.notify with a real server; the webhook is an HTTP server of the test."""

import subprocess
import sys

import pytest

from ops.notify import BLOCK, FORMER_AUTOMATION
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
        for automation in platform.post("automations/filter"):
            if automation["name"] == "Notify of failed training runs":
                path = f"automations/{automation['id']}"
                for added in ("id", "created", "updated"):
                    del automation[added]
                automation["name"] = FORMER_AUTOMATION
                platform.api.put(path, json=automation).raise_for_status()
        done = notify(platform, url)
        assert (done.returncode, done.stdout) == (
            0,
            "Failed training runs are posted to the URL in the block 'training-failures'.\n",
        )
    train = "training-pipeline/train"
    run = platform.start_run(train, training_config_path="configs/<none>&`.yaml")
    eventually(lambda: messages)
    platform.ended(platform.start_run(train, model_version="completed"))
    assert [message["text"] for message in messages] == [
        "```\ntrain &lt;none&gt;&amp;': Failed\n"
        "no such training config (configs/&lt;none&gt;&amp;'.yaml)\n```\n"
        f"{platform.url}/runs/flow-run/{run}"
    ]


def test_the_url_cannot_be_read_in_the_block_also_not_in_that_of_a_former_release(
    platform, webhook
):
    url, messages = webhook
    assert notify(platform, url).returncode == 0
    path = f"block_types/slug/custom-webhook/block_documents/name/{BLOCK}"
    block = platform.get(path)
    former = {"url": f"{url}?former", "secrets": {}}
    body = {"data": former, "block_schema_id": block["block_schema_id"]}
    platform.api.patch(f"block_documents/{block['id']}", json=body).raise_for_status()
    assert f"{url}?former" in platform.api.get(path).text
    assert notify(platform, url).returncode == 0
    data = platform.get(path)["data"]
    assert (data["url"], data["secrets"]) == ("{{url}}", {"url": "********"})
    for kind in ("block_documents", "automations", "events"):
        assert f'{url}"' not in platform.api.post(f"{kind}/filter", json={}).text
    run = platform.start_run("training-pipeline/train", training_config_path="configs/none.yaml")
    eventually(lambda: any(run in message["text"] for message in messages))


def test_a_value_that_is_not_a_url_is_a_usage_error(platform):
    done = notify(platform, "not-a-url")
    assert done.returncode == 2
    assert "URL: found 'not-a-url'. Expected http://... or https://..." in done.stderr
