"""Models side by side, for people who are in the UI anyway."""

from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.states import Failed

from flows.chart import Point, as_image, scatter
from flows.report import report_link
from src.artifacts import Artifacts
from src.evaluation.evaluator import load_evaluation
from src.lineage.compare import Comparison, compare

__all__ = ["compare_models"]

ARTIFACT_KEY = "comparison"


def _run_name() -> str:
    return f"compare {' and '.join(runtime.flow_run.parameters['model_versions'])}"


@flow(name="compare-models", flow_run_name=_run_name)
def compare_models(
    model_versions: list[str], everything: bool = False, artifacts_dir: str = "artifacts"
) -> dict[str, Any]:
    """Set models side by side: config, data, code, environment and metrics.

    Args:
        model_versions: Two or more model versions, in the order of the columns.
        everything: Show all properties, not only those in which the models differ.
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`.

    Returns:
        The comparison: `models`, and `rows` of `section`, `name` and `values`.

    Raises:
        KeyError: There is no such model version; names the nearest.
        ValueError: Fewer than two, or a file of one of them cannot be read.
    """
    try:
        comparison = compare(*model_versions, artifacts_dir=artifacts_dir)
    except (LookupError, OSError, ValueError) as error:
        return Failed(message=str(error), data=error)  # type: ignore[return-value]
    create_markdown_artifact(
        _page(comparison, everything, Artifacts(artifacts_dir)),
        key=ARTIFACT_KEY,
        description=f"Comparison of {', '.join(model_versions)}",
    )
    return comparison.to_dict(everything=everything)


def _page(comparison: Comparison, everything: bool, artifacts: Artifacts) -> str:
    points = []
    for version in comparison.models:
        try:
            metrics = load_evaluation(version, artifacts.evaluations)["metrics"]
        except FileNotFoundError:
            continue  # not evaluated; the table says so
        if point := Point.of(version, metrics):
            points.append(point)
    chart = as_image(scatter(points), "Quality against cost and latency") if points else ""
    title = " and ".join(report_link(version) for version in comparison.models)
    return f"# {title}\n\n{comparison.to_markdown(everything=everything)}\n{chart}\n"
