"""Comparison of models, as a page in the UI."""

from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact

from flows.chart import Point, as_image, scatter
from flows.logs import escape_log_lines
from flows.report import report_link
from flows.states import FLOW_OPTIONS, failed_state
from src.lineage.compare import Comparison, compare
from src.rendering import markdown
from src.rendering.text import one_line

__all__ = ["compare_models"]

ARTIFACT_KEY = "comparison"


def _run_name() -> str:
    return one_line(f"compare {' and '.join(runtime.flow_run.parameters['model_versions'])}")


@flow(name="compare-models", flow_run_name=_run_name, **FLOW_OPTIONS)
def compare_models(
    model_versions: list[str], everything: bool = False, artifacts_dir: str = "artifacts"
) -> dict[str, Any]:
    """Compare models: config, data, code, environment and metrics.

    Args:
        model_versions: Two or more model versions, in the order of the columns.
        everything: Show all properties, not only those that differ.
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`.

    Returns:
        The comparison: `models`, and `rows` of `section`, `name` and `values`.

    Raises:
        KeyError: A model version does not exist; names the nearest ones.
        ValueError: Fewer than two versions are given, or a file of a model cannot be parsed.
    """
    escape_log_lines()
    try:
        comparison = compare(*model_versions, artifacts_dir=artifacts_dir)
    except (LookupError, OSError, ValueError) as error:
        return failed_state(error)  # type: ignore[no-any-return]
    create_markdown_artifact(
        _page(comparison, everything),
        key=ARTIFACT_KEY,
        description=f"Comparison of {', '.join(map(markdown.text, model_versions))}",
    )
    return comparison.to_dict(everything=everything)


def _page(comparison: Comparison, everything: bool) -> str:
    points = []
    for column, version in enumerate(comparison.models):
        metrics = {
            row.name: row.values[column] for row in comparison.every_row if row.section == "metrics"
        }
        if point := Point.from_metrics(version, metrics):
            points.append(point)
    chart = as_image(scatter(points), "Quality against cost and latency") if points else ""
    title = " and ".join(report_link(version) for version in comparison.models)
    return f"# {title}\n\n{comparison.to_markdown(everything=everything)}\n{chart}\n"
