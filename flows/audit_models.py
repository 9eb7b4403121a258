"""Audit: verify the records of all models, every night."""

from collections import Counter
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.logs import configure_log
from flows.report import report_link
from flows.states import FLOW_OPTIONS, failed_state
from flows.tables import fold, short_digests
from src.lineage.verify import Check, Verdict, failed_checks, verdict, verify_all
from src.rendering import markdown

__all__ = ["audit_models"]

TABLE_KEY = "audit"
TABLE_ROWS = 1000  # and more, if more models do not match
MESSAGE_LENGTH = 299
MAX_LISTED = 10
DETAILS_LENGTH = 52  # characters; more do not fit a page
ORDER: list[Verdict] = ["MISMATCH", "UNREADABLE", "UNFINISHED", "AS RECORDED", "MATCH"]
TIMEOUT_SECONDS = 6 * 60 * 60  # a run that hangs ends before the next night


@flow(
    name="audit-models",
    flow_run_name="audit {artifacts_dir}",
    timeout_seconds=TIMEOUT_SECONDS,
    **FLOW_OPTIONS,
)
def audit_models(artifacts_dir: str = "artifacts") -> dict[str, str]:
    """Verify the record of every model by recomputing it.

    Nothing is changed. Each dataset is read and hashed in full, once. A model whose run was stopped
    before its end is UNFINISHED, which does not fail the audit.

    Args:
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`.

    Returns:
        The verdict by model version: MATCH, AS RECORDED, MISMATCH, UNREADABLE or UNFINISHED.

    Raises:
        ValueError: A model does not match its record. The table names all such models.
        OSError: The artifacts root cannot be reached.
    """
    configure_log()
    logger = get_run_logger()
    verdicts: dict[str, Verdict] = {}
    faults: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    try:
        for version, checks in verify_all(artifacts_dir):
            verdicts[version] = verdict(checks)
            rows.append(_row(version, checks))
            if verdicts[version] in ("MISMATCH", "UNREADABLE"):
                faults[version] = [check.what for check in _faulty(checks)]
                logger.warning("%s: %s", version, _mismatches(checks))
    except (OSError, ValueError) as error:
        return failed_state(error)  # type: ignore[no-any-return]
    summary = _summary(verdicts)
    shown = _first(rows)
    cut = f" The first {len(shown):,}:" if len(shown) < len(rows) else ""
    create_table_artifact(shown, key=TABLE_KEY, description=summary + cut)
    logger.info(summary)
    if faults:
        return failed_state(ValueError(_message(summary, faults)))  # type: ignore[no-any-return]
    return dict(verdicts)


def _faulty(checks: list[Check]) -> list[Check]:
    return [check for check in failed_checks(checks) if check.verdict != "UNFINISHED"]


def _mismatches(checks: list[Check]) -> str:
    return "; ".join(
        f"{check.what}: expected {check.expected}, found {check.found}" for check in _faulty(checks)
    )


def _summary(verdicts: dict[str, Verdict]) -> str:
    """Return the counts of the verdicts, as sentences."""
    counts = Counter(verdicts.values())
    summary = f"{counts['MATCH']:,} of {len(verdicts):,} models match their record."
    if recorded := counts["AS RECORDED"]:
        summary += f" {recorded:,} AS RECORDED: measured by an evaluator that was not run again."
    if unfinished := counts["UNFINISHED"]:
        verb, object_ = ("is", "it") if unfinished == 1 else ("are", "them")
        summary += f" {unfinished:,} {verb} UNFINISHED: run {object_} again."
    return summary


def _message(summary: str, faults: dict[str, list[str]]) -> str:
    """Return the message of a failed audit: as many of the models as fit, with their checks."""
    names = [f"{version} ({', '.join(checks)})" for version, checks in faults.items()]
    for count in range(min(len(names), MAX_LISTED), 0, -1):
        more = len(names) - count
        rest = f"; and {more:,} more, see the table {TABLE_KEY}" if more else ""
        message = f"{summary} These do not: {'; '.join(names[:count])}{rest}."
        if len(message) <= MESSAGE_LENGTH:
            return message
    return f"{summary} {len(names):,} do not, see the table {TABLE_KEY}."


def _first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table, the worst first."""
    rows = sorted(rows, key=lambda row: ORDER.index(row["verdict"]))
    return rows[: max(TABLE_ROWS, sum(row["verdict"] != "MATCH" for row in rows))]


def _row(version: str, checks: list[Check]) -> dict[str, Any]:
    notes = "; ".join(check.note for check in checks if check.note)
    parts = filter(None, [_missing(checks), _mismatches(checks), notes])
    lines = [fold(short_digests(part), DETAILS_LENGTH) for part in parts]
    return {
        "verdict": verdict(checks),
        "model": report_link(version),
        "details": markdown.Markdown("<br>".join(lines)),
    }


def _missing(checks: list[Check]) -> str:
    missing = [check.what for check in checks if check.verdict == "UNFINISHED"]
    return f"missing: {', '.join(missing)}; run it again" if missing else ""
