"""The order in which Prefect's server handles events.

`server.events.causal_ordering` in pyproject.toml names this module. Prefect handles an event only
after the event that it follows, for which it waits up to 15 minutes. Without this module, an event
is handled 15 minutes late in two cases:

- A new server process has seen no event: the crash of a run whose previous state is less than five
  minutes old, and dates from before the restart.
- The event that it follows is handled between the two moments in which Prefect looks for it, as
  when an automation reacts to an event by a change of state.
"""

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from prefect.server.database import PrefectDBInterface, provide_database_interface
from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import Event, ReceivedEvent

__all__ = ["CausalOrdering"]

STARTED = datetime.now(UTC)


class _SeenError(Exception):
    """Raised in place of waiting for an event that has been handled meanwhile."""


class CausalOrdering(memory.CausalOrdering):
    """Prefect's order, in which events of former server processes count as seen."""

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Wait for the event that this one follows.

        Raises:
            EventArrivedEarly: It has not arrived. This event is handled right after it.
        """
        with suppress(_SeenError):
            await super().wait_for_leader(event)

    async def record_follower(self, event: ReceivedEvent) -> None:
        """Record that an event waits for the one that it follows, unless that has been handled."""
        # No other task runs between this look and the record: no lock of Prefect's is contended.
        if event.follows in self._seen_events:
            raise _SeenError
        await super().record_follower(event)

    async def event_has_been_seen(self, event: UUID | Event) -> bool:
        """Return whether this process has handled the event.

        A state of a flow run that is older than this process counts as handled.
        """
        if await super().event_has_been_seen(event):
            return True
        # The event of a state has the id of the state.
        state_id = event.id if isinstance(event, Event) else event
        database: PrefectDBInterface = provide_database_interface()
        async with database.session_context() as session:
            state = await session.get(database.FlowRunState, state_id)
        return state is not None and state.timestamp < STARTED
