"""OpenLineage events of a training run, for whoever collects them; off unless asked for.

Asked for by OpenLineage's own settings, e.g. `OPENLINEAGE_URL=http://marquez:5000`, or with
`OPENLINEAGE__TRANSPORT__TYPE=file` and `OPENLINEAGE__TRANSPORT__LOG_FILE_PATH=...`. Needs the extra
`openlineage`. A back-end that is down, or refuses, costs a warning in the run's log, never the run.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger, runtime

from src.artifacts import Artifacts
from src.storage import canonical_json, sha256
from src.training.dataset import DatasetVersion

__all__ = ["Lineage", "lineage_of_this_run"]

NAMESPACE = "llm-training-pipeline"
PRODUCER = "urn:llm-training-pipeline"
SWITCHES = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")


@dataclass
class Lineage:
    """What a run read and made, as far as it is known: paths, and the SHA-256 of what is there."""

    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def read(self, dataset: DatasetVersion) -> None:
        """Note the data that the run trains on."""
        self.inputs[str(dataset.path.resolve())] = dataset.sha256

    def made(self, metadata: Mapping[str, Any], artifacts: Artifacts) -> None:
        """Note the model that the run made."""
        path = artifacts.models / metadata["model_version"] / "metadata.json"
        self.outputs[str(path.resolve())] = sha256(canonical_json(metadata))


@contextmanager
def lineage_of_this_run() -> Iterator[Lineage]:
    """Send START now, and COMPLETE or FAIL at the end of the block.

    Yields:
        What COMPLETE or FAIL will tell of; to be filled in.
    """
    lineage = Lineage()
    if not any(os.environ.get(switch) for switch in SWITCHES):
        yield lineage
        return
    client = _client()
    _send(client, "START", lineage)
    try:
        yield lineage
    except Exception as error:
        _send(client, "FAIL", lineage, str(error))
        raise
    _send(client, "COMPLETE", lineage)


def _client() -> Any:
    try:
        from openlineage.client import OpenLineageClient

        return OpenLineageClient()
    except Exception as error:  # also one of its own for settings that make no sense
        get_run_logger().warning("OpenLineage: no events are sent: %s", error)
        return None


def _send(client: Any, state: str, lineage: Lineage, message: str | None = None) -> None:
    if client is None:
        return
    try:
        client.emit(_event(state, lineage, message))
    except Exception as error:  # whatever a back-end does, the run goes on
        get_run_logger().warning("OpenLineage: %s was not sent: %s", state, error)


def _event(state: str, lineage: Lineage, message: str | None) -> Any:
    from openlineage.client import event_v2 as events
    from openlineage.client.facet_v2 import dataset_version_dataset, error_message_run

    def version(sha256: str) -> dict[str, Any]:
        return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(sha256)}

    facets: dict[str, Any] = {}
    if message is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message, "python")
    return events.RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        eventType=events.RunState(state),
        producer=PRODUCER,
        run=events.Run(runId=str(runtime.flow_run.id), facets=facets),
        job=events.Job(namespace=NAMESPACE, name=str(runtime.flow_run.flow_name)),
        inputs=[
            events.InputDataset(namespace="file", name=path, facets=version(digest))
            for path, digest in lineage.inputs.items()
        ],
        outputs=[
            events.OutputDataset(namespace="file", name=path, facets=version(digest))
            for path, digest in lineage.outputs.items()
        ],
    )
