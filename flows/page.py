"""The page of all models, which the nightly audit writes below the artifacts root."""

from collections.abc import Mapping

from prefect import get_run_logger

from src.artifacts import Artifacts
from src.environment import now
from src.lineage.verify import Check, failed_checks, verdict
from src.records.layout import REPORT_FILE, VERDICTS_FILE
from src.records.verdicts import Audit, ModelVerdict
from src.rendering import markdown
from src.rendering.markdown import Markdown
from src.rendering.text import one_line
from src.report import write_report
from src.report.charts import ExtraMissingError

__all__ = ["write_audit"]


def write_audit(results: Mapping[str, list[Check]], artifacts: Artifacts) -> Markdown:
    """Write the verdicts of an audit, and the page of all models, below the artifacts root.

    Without the extra `report`, only the verdicts are written. An error of a write is logged and
    does not change the result of the audit.

    Returns:
        A sentence for the report of the audit: where the page is, or how to get one.
    """
    models = {version: _model_verdict(checks) for version, checks in results.items()}
    page = artifacts.reports / REPORT_FILE
    try:
        audit = Audit(audited_on=now(), models=models)
        (artifacts.reports / VERDICTS_FILE).replace(audit.to_bytes())
        write_report(artifacts, page)
    except ExtraMissingError:
        return Markdown("`make report` installs what a page of all models needs.")
    except (OSError, ValueError) as error:
        get_run_logger().warning("%s: not written: %s", page, one_line(error))
        return Markdown(f"The page of all models was not written: {markdown.text(one_line(error))}")
    return Markdown(f"All models on one page: {markdown.code(str(page))}.")


def _model_verdict(checks: list[Check]) -> ModelVerdict:
    details = [
        one_line(f"{check.what}: expected {check.expected}, found {check.found}")
        for check in failed_checks(checks)
    ]
    return ModelVerdict(verdict=verdict(checks), details=tuple(details))
