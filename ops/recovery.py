"""Automations that end runs whose worker is gone, and try crashed runs once more.

    python -m ops.recovery

Creates four automations on the Prefect server, for runs tagged `training`:

- A run that has sent heartbeats, and then none for five minutes, is marked as Crashed. (Not one
  that was killed before its first heartbeat: a worker may be configured to send none.)
- A run that a worker has taken, and that has not started after 15 minutes, is marked as Crashed.
- A run that crashes for the first time gets the state CrashedOnce.
- A run is scheduled again 30 seconds after CrashedOnce. The delay is needed because the worker
  reports a killed process twice, and the second report would end a run that is scheduled.

Another run of the command changes nothing, unless the automations differ.
"""

import argparse
import asyncio
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
from prefect.automations import (
    Automation,
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
)
from prefect.client.schemas.objects import StateType
from prefect.events import ResourceSpecification

__all__ = ["HEARTBEAT_SECONDS", "automations", "deploy_automations", "main"]

# Heartbeats are sent every 30 seconds (`flows.heartbeat_frequency` in pyproject.toml).
HEARTBEAT_SECONDS = 300
ALIVE = {"heartbeat"}  # the events after which the next heartbeat is expected
PENDING_SECONDS = 900
CRASHED_ONCE = "CrashedOnce"
RETRY_SECONDS = 30
# A server that is configured as in docs/operations.md deletes runs after 90 days.
RETRY_DAYS = 90
FINAL = ("Completed", "Failed", "TimedOut", "Crashed", "Cancelled")


def automations() -> list[AutomationCore]:
    """Return the automations."""
    runs: dict[str, Any] = {
        "match": ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        "match_related": ResourceSpecification(
            {"prefect.resource.id": "prefect.tag.training", "prefect.resource.role": "tag"}
        ),
        "for_each": {"prefect.resource.id"},
        "threshold": 1,
    }

    def set_state(
        message: str,
        name: str = "Crashed",
        state: StateType = StateType.CRASHED,
        *,
        force: bool = False,
    ) -> ChangeFlowRunState:
        return ChangeFlowRunState(state=state, name=name, message=message, force=force)

    def missing_trigger(expected: set[str], *, after: set[str], seconds: int) -> EventTrigger:
        return EventTrigger(
            after={f"prefect.flow-run.{event}" for event in after},
            expect={f"prefect.flow-run.{event}" for event in expected},
            posture=Posture.Proactive,
            within=timedelta(seconds=seconds),
            **runs,
        )

    gone = "its worker was gone"
    return [
        AutomationCore(
            name="Mark training runs without heartbeats as crashed",
            description="The worker or the machine of such a run is gone.",
            trigger=missing_trigger({"heartbeat", *FINAL}, after=ALIVE, seconds=HEARTBEAT_SECONDS),
            actions=[set_state(f"{gone}: no heartbeat for {HEARTBEAT_SECONDS} seconds")],
        ),
        AutomationCore(
            name="Mark training runs that do not start as crashed",
            description="The worker or the machine of such a run is gone.",
            trigger=missing_trigger(
                {"Running", *FINAL}, after={"Pending"}, seconds=PENDING_SECONDS
            ),
            actions=[set_state(f"{gone}: not started after {PENDING_SECONDS} seconds")],
        ),
        AutomationCore(
            name="Mark training runs that have crashed for the first time",
            description="Such a run is tried once more.",
            trigger=EventTrigger(
                expect={"prefect.flow-run.Crashed"},
                posture=Posture.Reactive,
                # After it has acted on a run, the automation ignores the run for this time.
                within=timedelta(days=RETRY_DAYS),
                **runs,
            ),
            # Prefect changes a state to another of the same type only with `force`.
            actions=[
                set_state(f"tried once more in {RETRY_SECONDS} seconds", CRASHED_ONCE, force=True)
            ],
        ),
        AutomationCore(
            name="Try crashed training runs once more",
            description="Steps are idempotent, so a run can be tried again at any time.",
            trigger=missing_trigger(
                {"Pending", "Running"}, after={CRASHED_ONCE}, seconds=RETRY_SECONDS
            ),
            actions=[
                set_state("tried once more after a crash", "AwaitingRetry", StateType.SCHEDULED)
            ],
        ),
    ]


async def deploy_automations() -> None:
    """Create the automations, or replace those that differ.

    A replaced automation has no history, so a run that was already tried again may be tried once
    more.

    Raises:
        httpx.HTTPError: The Prefect server cannot be reached, or rejected the request.
    """
    for automation in automations():
        with suppress(ValueError):  # there is no such automation
            found = await Automation.aread(name=automation.name)
            if _content(found) == _content(automation):
                continue
            await found.adelete()
        await Automation(**dict(automation)).acreate()


def _content(automation: AutomationCore) -> tuple[Any, ...]:
    trigger = automation.trigger.model_dump(exclude={"id"})
    actions = [action.model_dump() for action in automation.actions]
    return automation.description, trigger, actions


def main(argv: list[str] | None = None) -> int:
    """Run the command; see `--help`.

    Returns:
        0; 1 if the server cannot be reached or rejected the request.
    """
    argparse.ArgumentParser(
        prog="python -m ops.recovery", description=__doc__.splitlines()[0]
    ).parse_args(argv)
    try:
        asyncio.run(deploy_automations())
    except httpx.HTTPError as error:
        print(f"error: Prefect server: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print("Runs whose worker is gone are marked as Crashed, and crashed runs are tried once more.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
