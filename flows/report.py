"""Pages in the UI: the report of a model, the report of a sweep, the table of all models."""

import json
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from flows.chart import Point, as_image, curve, scatter
from flows.tables import CELL, FittedTable, fit_table, fold, shorten
from src.artifacts import Artifacts, history_path, read_statement
from src.environment import CORE, source_digest
from src.evaluation.evaluator import evaluation_path, load_evaluation
from src.records.layout import METADATA_FILE, STATEMENT_FILE
from src.records.statement import weights_of
from src.rendering import markdown, shell
from src.rendering.keys import artifact_key
from src.rendering.markdown import Markdown, code, text
from src.rendering.text import as_text, counted
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from src.training.history import point_loss, read_history
from src.training.registry import newest_models
from tasks.caching import CacheDecision

__all__ = [
    "fit_leaderboard",
    "publish_models",
    "report_key",
    "report_link",
    "sweep_report",
    "training_report",
]

TABLE_KEY = "models"  # as in `ops.api`
EMPTY_TABLE = "[]"  # written by `make up`
TABLE_ROWS = 100
BEST_ROWS = 10
CHART_ROWS = 500
FAILED_ROWS = 100
SHORT_CELL, ERROR_LENGTH = 26, 66  # characters; more do not fit a page
SETTINGS = ("learning_rate", "epochs", "batch_size")
NAMES = ("base_model", "dataset_version")
RANKED = ("quality_score", "cost_per_1k_tokens", "latency_ms")
DEFAULT_ROOT = "artifacts"


def report_key(model_version: str) -> str:
    """Return the artifact key of a model's report."""
    return artifact_key("training", model_version)


def report_link(model_version: str, length: int = CELL) -> Markdown:
    """Return a Markdown link from a model version to its report.

    A version of more than `length` characters is shortened; the whole version is the link's title.
    """
    label, title = shorten(model_version, length), None
    if label != model_version:
        title = model_version
    return markdown.link(label, f"/artifacts/key/{report_key(model_version)}", title=title)


def training_report(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    evaluation: dict[str, Any],
    steps: dict[str, CacheDecision],
    artifacts: Artifacts,
    table_link: str,
) -> Markdown:
    """Render the report of a model in Markdown: metrics, inputs, cache decisions, files."""
    version, config = evaluation["model_version"], config_file.config
    settings = [(key, code(value)) for key, value in asdict(config).items()]
    run, verify = _commands(config_file.path, version, str(artifacts.root))
    return Markdown(f"""\
# {text(version)}

{code(config.base_model)} trained on {code(dataset.name)}. {markdown.link("All models", table_link)}

{markdown.table(("metric", "value"), evaluation["metrics"].items())}
{_training(version, artifacts)}## Config

{code(config_file.path)}, sha256 {code(config_file.sha256)}

{markdown.table(("setting", "value"), settings)}
## Data

{code(dataset.path)}: {dataset.num_samples:,} samples, sha256 {code(dataset.sha256)}

## Steps

{markdown.table(("step", "this run", "reason"), [_step(*step) for step in steps.items()])}
Code of the core: sha256 {code(source_digest(CORE))}

## Run it again

{markdown.code_block(run)}
The same config, data and code give the same bytes; other content is refused. To verify the record:
{code(verify)}.

## Files

- {code(str(artifacts.models / version / METADATA_FILE))}
- {code(str(artifacts.models / version / STATEMENT_FILE))}
- {code(str(artifacts.registry))}
- {code(str(evaluation_path(version, artifacts.evaluations)))}
""")


def _training(version: str, artifacts: Artifacts) -> str:
    """Return the section about the training of a model; empty if nothing was trained."""
    statement = read_statement(artifacts.models / version)
    if statement is None or "trainer" not in statement.parameters:
        return ""
    weights = weights_of(statement.files)
    size = sum(each.size for each in weights.values())
    trainer = statement.parameters["trainer"]
    rows = [(name, code(as_text(value))) for name, value in trainer.items()]
    history = read_history(history_path(artifacts.models / version, statement.files))
    losses = [*filter(None, map(point_loss, history))]
    chart = f"{as_image(curve('loss', losses), 'Loss by step')}\n\n" if losses else ""
    return f"""## Training

{markdown.table(("trainer", ""), rows)}
Weights: {counted(len(weights), "file")}, {size:,} bytes. History: {counted(len(history), "point")}.

{chart}"""


def _commands(config_path: str, version: str, root: str) -> tuple[str, str]:
    """Return the commands that run a training again and verify its record."""
    run = (
        "prefect deployment run 'training-pipeline/train' \\\n"
        f"    {shell.prefect_parameter('training_config_path', config_path)} "
        f"{shell.prefect_parameter('model_version', version)}"
    )
    verify = f"llm-train verify {shell.quote(version)}"
    if root != DEFAULT_ROOT:
        run += f" \\\n    {shell.prefect_parameter('artifacts_dir', root)}"
        verify += f" --artifacts-dir {shell.quote(root)}"
    return run, verify


def fit_leaderboard(rows: list[dict[str, Any]]) -> FittedTable:
    """Return the models of a sweep as a table for a page; `rows` has at least one."""
    return _fit_models([{**row, "cached": as_text(row["cached"])} for row in rows])


def _fit_models(rows: list[dict[str, Any]]) -> FittedTable:
    """Fit a table of models; base models that differ are a second line of the first column."""
    has_one_base = len({row["base_model"] for row in rows}) == 1

    def fit(length: int) -> FittedTable:
        table = []
        for row in rows:
            link, columns = report_link(row["model_version"], length), dict(row)
            if not has_one_base:
                base_model = shorten(as_text(columns.pop("base_model")), length)
                link = Markdown(f"{link}<br>{text(base_model)}")
            table.append({**columns, "model_version": link})
        return fit_table(table)

    table = fit(CELL)
    return fit(SHORT_CELL) if table.left_out else table


def sweep_report(summary: dict[str, Any], seconds: float, table_link: str) -> Markdown:
    """Render the report of a sweep in Markdown: the best models, a chart, and failed configs.

    Args:
        summary: See `training_sweep`; with the failed configs.
        seconds: Duration of the sweep.
        table_link: The page of the leaderboard.
    """
    rows, faults, count = summary["leaderboard"], summary["failed"], summary["configs"]
    parts = [
        f"# Sweep of {count:,} configs\n",
        f"{count - len(faults):,} done ({summary['cached']:,} of them found in the record), "
        f"{len(faults):,} failed; {seconds:.1f} s, {count / seconds:.1f} configs/s.\n",
    ]
    if rows:
        best = rows[:BEST_ROWS]
        shown = rows[:CHART_ROWS]
        points = [
            point for row in shown if (point := Point.from_metrics(row["model_version"], row))
        ]
        parts += [
            f"## The best {len(best)}\n",
            fit_leaderboard(best).to_markdown(),
            f"{markdown.link('All of them', table_link)}\n",
        ]
        if points:
            parts.append(as_image(scatter(points), "Quality against cost and latency") + "\n")
        if len(rows) > CHART_ROWS:
            parts.append(f"The chart has the best {CHART_ROWS:,} of {len(rows):,} models.\n")
    if faults:
        more = [f"The first {FAILED_ROWS:,}.\n"] if len(faults) > FAILED_ROWS else []
        parts += [
            "## Failed\n",
            *more,
            markdown.table(
                ("config", "error"),
                [
                    (fold(fault["config"], CELL), fold(fault["error"], ERROR_LENGTH))
                    for fault in faults[:FAILED_ROWS]
                ],
            ),
            "Fix them and run the sweep again: what is done is found in the record.\n",
        ]
    return Markdown("\n".join(parts))


def publish_models(artifacts: Artifacts, *, is_changed: bool = True) -> str:
    """Write the table of all models to its artifact; return the path of its page.

    The artifact is updated in place, so its page shows the newest table; the page of its key lists
    only ids.

    Args:
        artifacts: The root of the models.
        is_changed: Whether a model may be new or changed. If not, a table that has rows is left as
            it is.
    """
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[TABLE_KEY]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1
        )
        if found:
            if is_changed or found[0].data == EMPTY_TABLE:
                rows, description = _models_table(artifacts)
                update = ArtifactUpdate(data=json.dumps(rows), description=description)
                client.update_artifact(found[0].id, update)
            return f"/artifacts/artifact/{found[0].id}"
    rows, description = _models_table(artifacts)
    artifact: Any = create_table_artifact(rows, key=TABLE_KEY, description=description)
    return f"/artifacts/artifact/{artifact}"


def _models_table(artifacts: Artifacts) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of the models registered last, the newest first, and a description."""
    count, newest = newest_models(artifacts.registry)
    models = [*islice(newest, TABLE_ROWS)]
    description = "All models, the newest first."
    if len(models) < count:
        description = f"The newest {len(models):,} of {count:,} models."
    if not models:
        return [], description
    table = _fit_models([_row(model, artifacts) for model in models])
    return table.rows, f"{description} {table.caption}".strip()


def _row(model: dict[str, Any], artifacts: Artifacts) -> dict[str, Any]:
    version = model["model_version"]
    evaluation: dict[str, Any] = {}
    # It may be missing or damaged; the next run of the version repairs it.
    with suppress(OSError, ValueError):
        evaluation = load_evaluation(version, artifacts.evaluations)
    metrics = evaluation.get("metrics")
    config = model["training_config"]
    columns = {
        "model_version": version,
        **{name: config.get(name) for name in SETTINGS},
        **{name: model[name] for name in NAMES},
        "num_training_samples": model["num_training_samples"],
    }
    if not isinstance(metrics, dict):
        return columns
    # The names come after the metrics, and no metric replaces another column.
    first = dict.fromkeys(["model_version", *SETTINGS])
    known = [name for name in RANKED if name in metrics]
    return {**first, **dict.fromkeys(known), **metrics, **columns}


def _step(name: str, decision: CacheDecision) -> tuple[str, Markdown, str]:
    return name, Markdown("cached" if decision.is_cached else "**ran**"), decision.reason
