"""The order of events on the server; tests/e2e/test_recovery.py has that after a restart."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect.server.events.ordering import EventArrivedEarly, memory
from prefect.server.events.schemas.events import ReceivedEvent, Resource

from ops.ordering import CausalOrdering


def event(name, follows=None):
    return ReceivedEvent(
        id=uuid4(),
        event=name,
        occurred=datetime.now(UTC),
        received=datetime.now(UTC),
        follows=follows,
        resource=Resource({"prefect.resource.id": "prefect.flow-run.1"}),
    )


@pytest.fixture
def ordering(monkeypatch):
    """An order in which only the events of this process have been seen."""
    monkeypatch.setattr(
        CausalOrdering, "event_has_been_seen", memory.CausalOrdering.event_has_been_seen
    )
    return CausalOrdering(f"test-{uuid4()}")


def test_an_event_is_not_kept_waiting_for_one_that_is_handled_while_it_is_looked_for(
    ordering, monkeypatch
):
    leader = event("Crashed")
    follower = event("CrashedOnce", follows=leader.id)

    async def handled_meanwhile(self, _):
        await self.record_event_as_seen(leader)
        return False  # it is not being handled any more

    monkeypatch.setattr(CausalOrdering, "event_has_started_processing", handled_meanwhile)
    asyncio.run(ordering.wait_for_leader(follower))
    assert asyncio.run(ordering.get_followers(leader)) == []


def test_an_event_waits_for_one_that_has_not_arrived(ordering):
    leader = event("Crashed")
    follower = event("CrashedOnce", follows=leader.id)
    with pytest.raises(EventArrivedEarly):
        asyncio.run(ordering.wait_for_leader(follower))
    assert asyncio.run(ordering.get_followers(leader)) == [follower]
