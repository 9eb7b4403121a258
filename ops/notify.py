"""Word of failed runs, to a channel of your own.

    python -m ops.notify https://hooks.slack.com/services/...

Makes, on the Prefect server, a notification block `training-failures` that posts to this address,
and an automation that uses it whenever a run tagged `training` fails, crashes or takes too long.
Both can be edited in the UI afterwards (Blocks, Automations); run again, it sets the address anew.
"""

import argparse
import asyncio
import sys
from contextlib import suppress

import httpx
from prefect.automations import Automation, EventTrigger, Posture, SendNotification
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events import ResourceSpecification

__all__ = ["main", "notify_failures"]

BLOCK = "training-failures"
AUTOMATION = "Tell of failed training runs"
SUBJECT = "{{ flow_run.name }}: {{ flow_run.state.name }}"
BODY = "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}"


async def notify_failures(url: str) -> None:
    r"""Have every training run that fails told to `url`.

    The message is posted as JSON, `{"text": "<run>: <state>\n<error>\n<link to the run>"}`, which
    Slack, Mattermost and Rocket.Chat take as it is.

    Raises:
        httpx.HTTPError: The Prefect server cannot be reached, or refused.
    """
    block = CustomWebhookNotificationBlock(
        name=BLOCK,
        url=url,
        json_data={"text": "{{subject}}\n{{body}}"},
        headers=None,
        cookies=None,
    )
    block_id = await block.asave(BLOCK, overwrite=True)
    automation = Automation(
        name=AUTOMATION,
        description=f"Edit the block {BLOCK!r} to point it to another channel.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": "prefect.tag.training", "prefect.resource.role": "tag"}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[SendNotification(block_document_id=block_id, subject=SUBJECT, body=BODY)],
    )
    with suppress(ValueError):  # there is none yet
        await (await Automation.aread(name=AUTOMATION)).adelete()
    await automation.acreate()


def main(argv: list[str] | None = None) -> int:
    """Set the address from a terminal; see `--help`.

    Returns:
        0; 2 for an address that is none; 1 for a server that cannot be reached.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ops.notify", description="Tell of failed training runs."
    )
    parser.add_argument("url", metavar="URL", help="a webhook that takes JSON, http:// or https://")
    url: str = parser.parse_args(argv).url
    if not url.startswith(("http://", "https://")):
        parser.error(f"URL: expected http://... or https://..., found {url!r}")
    try:
        asyncio.run(notify_failures(url))
    except httpx.HTTPError as error:
        print(f"error: the Prefect server: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"Failed training runs are told to the address in the block {BLOCK!r}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
