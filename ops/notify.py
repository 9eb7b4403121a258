"""Send notifications of failed training runs to a webhook.

    python -m ops.notify https://hooks.slack.com/services/...
    python -m ops.notify - < file_with_the_url

Creates a notification block `training-failures` for this URL on the Prefect server, and an
automation that uses it when a run tagged `training` fails, crashes or times out. Both can be edited
in the UI (Blocks, Automations). The URL is a secret value of the block: the server stores it
encrypted, and UI and API show asterisks. Another run of the command replaces it.
"""

import argparse
import asyncio
import sys
from contextlib import suppress

import httpx
from prefect.automations import Automation, EventTrigger, Posture, SendNotification
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events import ResourceSpecification
from prefect.types import SecretDict

__all__ = ["main", "notify_failures"]

BLOCK = "training-failures"
AUTOMATION = "Notify of failed training runs"
FORMER_AUTOMATION = "Tell of failed training runs"  # its name up to release 0.1
# In a block of code, Markdown is text. In Slack, text in <> is a link there, too:
# https://docs.slack.dev/messaging/formatting-message-text#escaping.
_ESCAPE = (
    """| replace("&", "&amp;") | replace("<", "&lt;") | replace(">", "&gt;") | replace("`", "'")"""
)
SUBJECT = f"```\n{{{{ flow_run.name {_ESCAPE} }}}}: {{{{ flow_run.state.name }}}}"
BODY = f"{{{{ flow_run.state.message {_ESCAPE} }}}}\n```\n{{{{ flow_run | ui_url }}}}"


async def notify_failures(url: str) -> None:
    r"""Create or replace the block and the automation that post failed training runs to `url`.

    A notification is JSON, `{"text": ...}`, as accepted by Slack, Mattermost and Rocket.Chat: run,
    state and error in a block of code, and a link to the run.

    Raises:
        httpx.HTTPError: The Prefect server cannot be reached, or rejected the request.
    """
    block = CustomWebhookNotificationBlock(
        name=BLOCK,
        url="{{url}}",
        secrets=SecretDict({"url": url}),
        json_data={"text": "{{subject}}\n{{body}}"},
        headers=None,
        cookies=None,
    )
    block_id = await block.asave(BLOCK, overwrite=True)
    automation = Automation(
        name=AUTOMATION,
        description=f"To use another webhook, edit the block {BLOCK!r}.",
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
    for name in (AUTOMATION, FORMER_AUTOMATION):
        with suppress(ValueError):  # there is no such automation
            await (await Automation.aread(name=name)).adelete()
    await automation.acreate()


def main(argv: list[str] | None = None) -> int:
    """Run the command; see `--help`.

    Returns:
        0; 2 if the URL is not valid; 1 if the server cannot be reached or rejected the request.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ops.notify", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "url",
        metavar="URL",
        help="a webhook that accepts JSON, http:// or https://; - reads it from stdin, so that "
        "other users of this machine cannot see it among the arguments",
    )
    url: str = parser.parse_args(argv).url
    if url == "-":
        url = sys.stdin.readline().strip()
    if not url.startswith(("http://", "https://")):
        parser.error(f"URL: found {url!r}. Expected http://... or https://...")
    try:
        asyncio.run(notify_failures(url))
    except httpx.HTTPError as error:
        print(f"error: Prefect server: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"Failed training runs are posted to the URL in the block {BLOCK!r}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
