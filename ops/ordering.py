"""The order in which Prefect's server handles events after a restart.

`server.events.causal_ordering` in pyproject.toml names this module. Prefect handles an event only
after the event that it follows, for which it waits up to 15 minutes; a new server process has seen
no event. Without this module, the crash of a run whose previous state is less than five minutes
old, and dates from before the restart, is handled 15 minutes later.
"""

from datetime import UTC, datetime
from uuid import UUID

from prefect.server.database import PrefectDBInterface, provide_database_interface
from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import Event

__all__ = ["CausalOrdering"]

STARTED = datetime.now(UTC)


class CausalOrdering(memory.CausalOrdering):
    """Prefect's order, in which events of former server processes count as seen."""

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
