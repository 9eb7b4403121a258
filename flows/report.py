"""Pages in the UI: the report of a model, the report of a sweep, the table of all models."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from prefect.artifacts import create_table_artifact

from flows.chart import Point, as_image, scatter
from src.artifacts import Artifacts
from src.environment import CORE, source_digest
from src.evaluation.evaluator import evaluation_path, load_evaluation
from src.records.canonical import sha256
from src.records.evaluation import is_metric
from src.records.layout import METADATA_FILE, STATEMENT_FILE
from src.rendering import markdown, shell
from src.rendering.markdown import Markdown, code, text
from src.rendering.text import one_line
from src.training.config import MAX_INTEGER, ConfigFile
from src.training.dataset import DatasetVersion
from src.training.registry import list_models
from tasks.caching import CacheDecision

__all__ = [
    "TABLE_KEY",
    "publish_models",
    "report_key",
    "report_link",
    "sweep_report",
    "table_rows",
    "training_report",
]

TABLE_KEY = "models"
TABLE_ROWS = 100
BEST_ROWS = 10
DIGEST_DIGITS = 16
DEFAULT_ROOT = "artifacts"


def report_key(model_version: str) -> str:
    """Return the artifact key of a model's report; Prefect allows a-z, 0-9 and `-`.

    Keys are unique: if the version has other characters, `--` and a digest of it follow. Keys
    without a digest contain no `--`.
    """
    slug = re.sub("[^a-z0-9]+", "-", model_version.lower()).strip("-")
    if slug == model_version:
        return f"training-{slug}"
    return f"training-{slug}--{sha256(model_version.encode())[:DIGEST_DIGITS]}"


def report_link(model_version: str) -> Markdown:
    """Return a Markdown link from a model version to its report."""
    return markdown.link(model_version, f"/artifacts/key/{report_key(model_version)}")


def table_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table artifact, whose texts the UI renders as Markdown."""
    return [{one_line(name): _cell(value) for name, value in row.items()} for row in rows]


def _cell(value: object) -> object:
    is_exact = is_metric(value) and (isinstance(value, float) or abs(value) <= MAX_INTEGER)
    if value is None or is_exact or isinstance(value, Markdown):
        return value
    return text(value)


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
## Config

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


def sweep_report(summary: dict[str, Any], seconds: float) -> Markdown:
    """Render the report of a sweep in Markdown: the best models, a chart, and failed configs."""
    rows, faults = summary["leaderboard"], summary["failed"]
    count = len(rows) + len(faults)
    parts = [
        f"# Sweep of {count:,} configs\n",
        f"{len(rows):,} done ({summary['cached']:,} from the cache), {len(faults):,} failed; "
        f"{seconds:.1f} s, {count / seconds:.1f} configs/s.\n",
    ]
    if rows:
        best = [list(row.values()) for row in rows[:BEST_ROWS]]
        points = [point for row in rows if (point := Point.from_metrics(row["model_version"], row))]
        parts += [
            f"## The best {len(best)}\n",
            markdown.table(list(rows[0]), best),
            "[All of them](/artifacts/key/sweep-leaderboard)\n",
        ]
        if points:
            parts.append(as_image(scatter(points), "Quality against cost and latency") + "\n")
    if faults:
        parts += [
            "## Failed\n",
            markdown.table(
                ("config", "error"),
                [(fault["config"], markdown.lines(fault["error"])) for fault in faults],
            ),
            "Fix them and run the sweep again: finished configs are served from the cache.\n",
        ]
    return Markdown("\n".join(parts))


def publish_models(artifacts: Artifacts) -> Any:
    """Create the artifact with the table of all models; return its id."""
    return create_table_artifact(
        _models_table(artifacts), key=TABLE_KEY, description="All models, the newest first"
    )


def _models_table(artifacts: Artifacts) -> list[dict[str, Any]]:
    """Return the rows of the models registered last, the newest first."""
    models = list_models(artifacts.registry)[-TABLE_ROWS:][::-1]
    return table_rows(_row(model, artifacts) for model in models)


def _row(model: dict[str, Any], artifacts: Artifacts) -> dict[str, Any]:
    version = model["model_version"]
    evaluation: dict[str, Any] = {}
    # It may be missing or damaged; the next run of the version repairs it.
    with suppress(OSError, ValueError):
        evaluation = load_evaluation(version, artifacts.evaluations)
    metrics = evaluation.get("metrics")
    config = model["training_config"]
    columns = {
        "model_version": report_link(version),
        "base_model": model["base_model"],
        "dataset_version": model["dataset_version"],
        "num_training_samples": model["num_training_samples"],
        **{key: config.get(key) for key in ("learning_rate", "epochs", "batch_size")},
    }
    if not isinstance(metrics, dict):
        return columns
    # model_version is the first column, and no metric replaces another column.
    return {"model_version": None, **metrics, **columns}


def _step(name: str, decision: CacheDecision) -> tuple[str, Markdown, str]:
    return name, Markdown("cached" if decision.is_cached else "**ran**"), decision.reason
