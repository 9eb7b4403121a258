"""Audit: verify the records of all models, every night."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.logs import escape_log_lines
from flows.report import report_link
from flows.states import FLOW_OPTIONS, failed_state
from src.lineage.verify import Check, failed_checks, verdict, verify_all
from src.rendering import markdown

__all__ = ["audit_models"]

TABLE_KEY = "audit"
TABLE_ROWS = 1000
TIMEOUT_SECONDS = 6 * 60 * 60  # a run that hangs ends before the next night


@flow(
    name="audit-models",
    flow_run_name="audit {artifacts_dir}",
    timeout_seconds=TIMEOUT_SECONDS,
    **FLOW_OPTIONS,
)
def audit_models(artifacts_dir: str = "artifacts") -> dict[str, str]:
    """Verify the record of every model by recomputing it.

    Nothing is changed. Each dataset is read and hashed in full, once.

    Args:
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`.

    Returns:
        The verdict by model version: MATCH, MISMATCH or UNREADABLE.

    Raises:
        ValueError: A model does not match its record; names all such models.
        OSError: The artifacts root cannot be reached.
    """
    escape_log_lines()
    logger = get_run_logger()
    verdicts: dict[str, str] = {}
    faults: list[str] = []
    rows: list[dict[str, Any]] = []
    try:
        for version, checks in verify_all(artifacts_dir):
            failed = failed_checks(checks)
            verdicts[version] = verdict(checks)
            mismatches = _mismatches(checks)
            rows.append(_row(version, checks, mismatches))
            if failed:
                faults.append(f"{version} ({', '.join(check.what for check in failed)})")
                logger.warning("%s: %s", version, mismatches)
    except (OSError, ValueError) as error:
        return failed_state(error)  # type: ignore[no-any-return]
    rows.sort(key=lambda row: row["verdict"] == "MATCH")
    summary = f"{len(verdicts) - len(faults):,} of {len(verdicts):,} models match their record"
    create_table_artifact(
        rows[:TABLE_ROWS],
        key=TABLE_KEY,
        description=summary + (f"; the first {TABLE_ROWS:,}" if len(rows) > TABLE_ROWS else ""),
    )
    logger.info("%s.", summary)
    if faults:
        return failed_state(ValueError(f"{summary}. These do not: {'; '.join(faults)}."))  # type: ignore[no-any-return]
    return verdicts


def _mismatches(checks: list[Check]) -> str:
    return "; ".join(
        f"{check.what}: expected {check.expected}, found {check.found}"
        for check in failed_checks(checks)
    )


def _row(version: str, checks: list[Check], mismatches: str) -> dict[str, Any]:
    notes = [check.note for check in checks if check.note]
    return {
        "verdict": verdict(checks),
        "model_version": report_link(version),
        "what": markdown.text(mismatches),
        "notes": markdown.text("; ".join(notes)),
    }
