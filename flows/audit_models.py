"""Every night: does the record of every registered model still hold?"""

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.failing import failed
from flows.report import report_link
from src.lineage.verify import Check, mismatches, verify_all

__all__ = ["audit_models"]

TABLE_KEY = "audit"
TABLE_ROWS = 1000
TIMEOUT_SECONDS = 6 * 60 * 60  # one that hangs ends before the next night


@flow(name="audit-models", flow_run_name="audit {artifacts_dir}", timeout_seconds=TIMEOUT_SECONDS)
def audit_models(artifacts_dir: str = "artifacts") -> dict[str, str]:
    """Derive the record of every model anew, and compare it with what is there.

    Changes nothing. Every dataset is read and hashed in full, once.

    Args:
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`.

    Returns:
        MATCH or MISMATCH by model version.

    Raises:
        ValueError: A model does not match, or a folder is not as it must be; names all that do not.
    """
    logger = get_run_logger()
    verdicts: dict[str, str] = {}
    faults: list[str] = []
    rows: list[dict[str, Any]] = []
    try:
        for version, checks in verify_all(artifacts_dir):
            wrong = mismatches(checks)
            verdicts[version] = "MISMATCH" if wrong else "MATCH"
            rows.append(_row(version, checks, wrong))
            if wrong:
                faults.append(f"{version} ({', '.join(check.what for check in wrong)})")
                logger.warning("%s: %s", version, rows[-1]["what"])
    except (OSError, ValueError) as error:
        return failed(error)  # type: ignore[no-any-return]
    rows.sort(key=lambda row: row["verdict"] == "MATCH")
    summary = f"{len(verdicts) - len(faults):,} of {len(verdicts):,} models match their record"
    create_table_artifact(
        rows[:TABLE_ROWS],
        key=TABLE_KEY,
        description=summary + (f"; the first {TABLE_ROWS:,}" if len(rows) > TABLE_ROWS else ""),
    )
    logger.info("%s.", summary)
    if faults:
        return failed(ValueError(f"{summary}. These do not: {'; '.join(faults)}."))  # type: ignore[no-any-return]
    return verdicts


def _row(version: str, checks: list[Check], wrong: list[Check]) -> dict[str, Any]:
    notes = [check.note for check in checks if check.note]
    return {
        "verdict": "MISMATCH" if wrong else "MATCH",
        "model": report_link(version),
        "what": "; ".join(
            f"{check.what}: expected {check.expected}, found {check.found}" for check in wrong
        ),
        "notes": "; ".join(notes),
    }
