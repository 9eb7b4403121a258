"""The states of task runs, which a background thread of Prefect sends to the server as events."""

from threading import Thread

from prefect.events.worker import EventsWorker

__all__ = ["wait_until_sent"]


def wait_until_sent(seconds: float) -> None:
    """Wait until all events of this process are sent to the server, or for `seconds`.

    A process that ends with unsent events waits for them without a limit, and warns meanwhile.
    """
    sending = Thread(target=EventsWorker.instance().wait_until_empty, daemon=True)
    sending.start()
    sending.join(seconds)
