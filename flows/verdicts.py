"""Verdicts on models, as a table in the UI and as the state of a run."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from flows.report import report_link
from flows.states import failed_state
from flows.tables import fold, short_digests
from src.lineage.verify import Check, Verdict, failed_checks, verdict
from src.rendering import markdown

__all__ = ["report_verdicts"]

TABLE_ROWS = 1000  # more only if more models do not match
MESSAGE_LENGTH = 299
MAX_LISTED = 10
DETAILS_LENGTH = 52  # characters; more do not fit a page
ORDER: list[Verdict] = ["MISMATCH", "UNREADABLE", "UNFINISHED", "AS RECORDED", "MATCH"]


def report_verdicts(
    results: Iterable[tuple[str, list[Check]]], key: str, note: Callable[[], str] = str
) -> Any:
    """Write the verdicts of a verification to a table.

    Args:
        results: Model versions and their checks, which are computed while they are read.
        key: Key of the table, an artifact.
        note: Returns a further sentence of its description; called after all results are read.

    Returns:
        The verdict by model version; a failed state for the flow if a model does not match, or if
        the verification raised an error.
    """
    logger = get_run_logger()
    verdicts: dict[str, Verdict] = {}
    faults: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    try:
        for version, checks in results:
            verdicts[version] = verdict(checks)
            rows.append(_row(version, checks))
            if verdicts[version] in ("MISMATCH", "UNREADABLE"):
                faults[version] = [check.what for check in _faulty(checks)]
                logger.warning("%s: %s", version, _mismatches(checks))
    except (LookupError, OSError, ValueError) as error:
        return failed_state(error)
    summary = _summary(verdicts)
    shown = _first(rows)
    cut = f" The first {len(shown):,}:" if len(shown) < len(rows) else ""
    description = f"{summary} {note()}".rstrip() + cut
    create_table_artifact(shown, key=key, description=description)
    logger.info(summary)
    if faults:
        return failed_state(ValueError(_message(summary, faults, key)))
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
        verb = "is" if recorded == 1 else "are"
        summary += (
            f" {recorded:,} {verb} AS RECORDED: all digests agree, and the evaluator was not run "
            "again."
        )
    if unfinished := counts["UNFINISHED"]:
        verb, object_ = ("is", "it") if unfinished == 1 else ("are", "them")
        summary += f" {unfinished:,} {verb} UNFINISHED: run {object_} again."
    return summary


def _message(summary: str, faults: dict[str, list[str]], key: str) -> str:
    """Return the message of a failed run: as many of the models as fit, with their checks."""
    names = [f"{version} ({', '.join(checks)})" for version, checks in faults.items()]
    for count in range(min(len(names), MAX_LISTED), 0, -1):
        more = len(names) - count
        rest = f"; and {more:,} more, see the table {key}" if more else ""
        message = f"{summary} These do not: {'; '.join(names[:count])}{rest}."
        if len(message) <= MESSAGE_LENGTH:
            return message
    return f"{summary} {len(names):,} do not, see the table {key}."


def _first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table, the worst first."""
    rows = sorted(rows, key=lambda row: ORDER.index(row["verdict"]))
    return rows[: max(TABLE_ROWS, sum(row["verdict"] != "MATCH" for row in rows))]


def _row(version: str, checks: list[Check]) -> dict[str, Any]:
    notes = "; ".join(" ".join(check.notes) for check in checks if check.notes)
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
