"""Publishing a dataset version: the event that trains every config that uses it."""

from prefect.client.orchestration import get_client
from prefect.events import Event, Resource

__all__ = ["publish_dataset"]


def publish_dataset(dataset_version: str) -> None:
    """Send the event `dataset.published`, which starts `dataset-published/configs`.

    Returns once the server has accepted the event.

    Raises:
        httpx.HTTPError: The Prefect server cannot be reached, or rejected the event.
    """
    event = Event(
        event="dataset.published",
        resource=Resource({"prefect.resource.id": f"dataset.{dataset_version}"}),
        payload={"dataset_version": dataset_version},
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
