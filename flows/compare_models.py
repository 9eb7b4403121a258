"""Comparison of models, as a page in the UI."""

from collections.abc import Iterator
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact

from flows.chart import MAX_CURVES, Point, as_image, curves, scatter
from flows.logs import configure_log
from flows.report import report_link
from flows.root import DEFAULT_ROOT
from flows.states import FLOW_OPTIONS, failed_state
from flows.tables import fold, short_digests
from src.lineage.compare import Comparison, compare
from src.rendering import markdown
from src.rendering.text import as_text, one_line

__all__ = ["compare_models"]

ARTIFACT_KEY = "comparison"
MAX_COLUMNS = 4
NAME_LENGTH = 20  # characters
CELLS_WIDTH, PADDING, CHARACTER_WIDTH = 552, 24, 8.3  # pixels; what fits a page


def _run_name() -> str:
    return one_line(f"compare {' and '.join(runtime.flow_run.parameters['model_versions'])}")


@flow(name="compare-models", flow_run_name=_run_name, **FLOW_OPTIONS)
def compare_models(
    model_versions: list[str], everything: bool = False, artifacts_dir: str = DEFAULT_ROOT
) -> dict[str, Any]:
    """Compare models: config, data, code, environment, metrics and losses.

    Args:
        model_versions: Two or more model versions, in the order of the columns.
        everything: Show all properties, not only those that differ.
        artifacts_dir: Folder that holds `datasets/`, `models/` and `evaluations/`, or the address
            of an object store, e.g. `s3://bucket/prefix`. The default is `LLM_TRAIN_ARTIFACTS`
            of the worker, or `artifacts`.

    Returns:
        The comparison: `models`, and `rows` of `section`, `name` and `values`.

    Raises:
        KeyError: A model version does not exist; names the nearest ones.
        ValueError: Fewer than two versions are given, or a file of a model cannot be parsed.
    """
    configure_log()
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
    title = f"# Comparison of {len(comparison.models)} models"
    parts = [title, *_tables(comparison, everything), *_curves(comparison), chart]
    return "\n\n".join(parts) + "\n"


def _curves(comparison: Comparison) -> Iterator[str]:
    """Yield a chart of the losses, and how many models it leaves out; nothing without losses."""
    models = [
        (version, points)
        for version, points in zip(comparison.models, comparison.losses, strict=True)
        if points
    ]
    if models:
        yield as_image(curves("loss", models[:MAX_CURVES]), "Loss by step")
    if len(models) > MAX_CURVES:
        yield f"The losses of the first {MAX_CURVES} models of {len(models)} that have any."


def _tables(comparison: Comparison, everything: bool) -> Iterator[str]:
    """Yield tables of a few models each, so that none is wider than the page."""
    rows = comparison.rows(everything=everything)
    if not rows:
        links = ", ".join(report_link(version) for version in comparison.models)
        yield f"No difference between {links}."
        return
    for start in range(0, len(comparison.models), MAX_COLUMNS):
        columns = slice(start, start + MAX_COLUMNS)
        models = comparison.models[columns]
        length = int((CELLS_WIDTH / max(len(models), 2) - PADDING) / CHARACTER_WIDTH)
        yield markdown.table(
            ("", "", *(report_link(version, length) for version in models)),
            [
                (
                    row.section,
                    fold(row.name, NAME_LENGTH),
                    *(
                        None if value is None else fold(short_digests(as_text(value)), length)
                        for value in row.values[columns]
                    ),
                )
                for row in rows
            ],
        )
