"""OpenLineage events of a run, sent by a hook on the state of the flow; off by default.

The events are on if one of OpenLineage's own settings is in the environment when the flow is
imported: `OPENLINEAGE_URL=http://marquez:5000`, or `OPENLINEAGE__TRANSPORT__TYPE=file` with
`OPENLINEAGE__TRANSPORT__LOG_FILE_PATH`. The extra `openlineage` must be installed. If the
OpenLineage server cannot be reached or refuses an event, the run logs a warning.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from flows.root import DEFAULT_ROOT
from src.artifacts import Artifacts
from src.lineage.record import Record, read_records
from src.records.canonical import canonical_json, sha256
from src.records.layout import DATA_FILE, METADATA_FILE
from src.storage import StorePath, is_url

__all__ = ["lineage_hooks", "send_event"]

NAMESPACE = "llm-training-pipeline"
PRODUCER = "urn:llm-training-pipeline"
SWITCHES = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")


def lineage_hooks() -> dict[str, Any]:
    """Return the options of a flow that make it send events; empty if events are off."""
    if not any(os.environ.get(switch) for switch in SWITCHES):
        return {}
    return {name: [send_event] for name in ("on_running", "on_completion", "on_failure")}


def send_event(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send START, COMPLETE or FAIL for the present state of a flow run.

    COMPLETE and FAIL name the models that the run made as outputs, and their datasets as inputs,
    each with its path and SHA-256.
    """
    log = flow_run_logger(flow_run, flow)
    try:
        from openlineage.client import OpenLineageClient

        client = OpenLineageClient()
    except Exception as error:  # the client raises its own errors for wrong settings
        log.warning("OpenLineage: no events are sent: %s", error)
        return
    name = "START" if state.is_running() else "COMPLETE" if state.is_completed() else "FAIL"
    try:
        records = () if state.is_running() else tuple(_records(flow_run, state))
        client.emit(_event(name, flow, flow_run, state, records))
    except Exception as error:  # no error of the server may fail the run
        log.warning("OpenLineage: %s was not sent: %s", name, error)


def _records(flow_run: FlowRun, state: State[Any]) -> Iterator[Record]:
    """Yield the records of the models that a run made."""
    result = state.result(raise_on_failure=False)
    summary = getattr(result, "summary", result)  # a SweepError holds the summary
    if not isinstance(summary, Mapping):
        return
    artifacts = Artifacts.open(flow_run.parameters.get("artifacts_dir", DEFAULT_ROOT))
    versions = {row["model_version"] for row in summary.get("leaderboard", [summary])}
    yield from read_records(artifacts, versions)


def _name(path: StorePath) -> tuple[str, str]:
    """Return namespace and name of a file by OpenLineage's rules: of an object, bucket and key."""
    if not is_url(path):
        return "file", str(Path(str(path)).resolve())
    scheme, _, place = str(path).partition("://")
    bucket, _, key = place.partition("/")
    return f"{scheme}://{bucket}", key


def _event(
    name: str,
    flow: Flow[..., Any],
    flow_run: FlowRun,
    state: State[Any],
    records: tuple[Record, ...],
) -> Any:
    from openlineage.client import event_v2 as events
    from openlineage.client.facet_v2 import dataset_version_dataset, error_message_run

    def dataset(kind: Any, path: StorePath, digest: str | None) -> Any:
        version = dataset_version_dataset.DatasetVersionDatasetFacet(str(digest))
        namespace, name = _name(path)
        return kind(namespace=namespace, name=name, facets={"version": version})

    artifacts = Artifacts.open(flow_run.parameters.get("artifacts_dir", DEFAULT_ROOT))
    inputs = {
        record.metadata["dataset_version"]: record.statement.digest("dataset")
        for record in records
        if record.statement
    }
    facets: dict[str, Any] = {}
    if name == "FAIL":
        message = str(state.message)
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message, "python")
    return events.RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        eventType=events.RunState(name),
        producer=PRODUCER,
        run=events.Run(runId=str(flow_run.id), facets=facets),
        job=events.Job(namespace=NAMESPACE, name=flow.name),
        inputs=[
            dataset(events.InputDataset, artifacts.datasets / version / DATA_FILE, digest)
            for version, digest in inputs.items()
        ],
        outputs=[
            dataset(
                events.OutputDataset,
                artifacts.models / record.model_version / METADATA_FILE,
                sha256(canonical_json(record.metadata)),
            )
            for record in records
        ],
    )
