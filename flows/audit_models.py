"""Audit: verify the records of all models, every night."""

from collections.abc import Iterator

from prefect import flow

from flows.logs import configure_log
from flows.page import write_audit
from flows.root import DEFAULT_ROOT
from flows.states import FLOW_OPTIONS
from flows.verdicts import report_verdicts
from src.artifacts import Artifacts
from src.lineage.verify import Check, verify_all

__all__ = ["audit_models"]

TABLE_KEY = "audit"
TIMEOUT_SECONDS = 6 * 60 * 60  # a run that hangs ends before the next night


@flow(
    name="audit-models",
    flow_run_name="audit {artifacts_dir}",
    timeout_seconds=TIMEOUT_SECONDS,
    **FLOW_OPTIONS,
)
def audit_models(artifacts_dir: str = DEFAULT_ROOT) -> dict[str, str]:
    """Verify the record of every model by recomputing it.

    No file of a model is changed. Each dataset is read and hashed in full, once. A model whose run
    was stopped before its end is UNFINISHED, which does not fail the audit.

    Writes the verdicts and, if the extra `report` is installed, a page of all models to `reports/`.

    Args:
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`, or the address
            of an object store, e.g. `s3://bucket/prefix`. The default is `LLM_TRAIN_ARTIFACTS`
            of the worker, or `artifacts`.

    Returns:
        The verdict by model version: MATCH, AS RECORDED, MISMATCH, UNREADABLE or UNFINISHED.

    Raises:
        ValueError: A model does not match its record. The table names all such models.
        OSError: The artifacts root cannot be reached.
    """
    configure_log()
    results: dict[str, list[Check]] = {}

    def verified() -> Iterator[tuple[str, list[Check]]]:
        for version, checks in verify_all(artifacts_dir):
            results[version] = checks
            yield version, checks

    return report_verdicts(  # type: ignore[no-any-return]
        verified(), TABLE_KEY, note=lambda: write_audit(results, Artifacts.open(artifacts_dir))
    )
