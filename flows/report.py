"""Pages in the UI: the report of a model, the report of a sweep, the table of all models."""

import re
from dataclasses import asdict
from typing import Any

from prefect.artifacts import create_table_artifact

from flows.chart import Point, as_image, scatter
from src.artifacts import Artifacts
from src.environment import CORE, source_digest
from src.evaluation.evaluator import evaluation_path, load_evaluation
from src.lineage.compare import markdown_table
from src.records.layout import METADATA_FILE, STATEMENT_FILE
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from src.training.registry import list_models
from tasks.caching import CacheDecision

__all__ = [
    "TABLE_KEY",
    "publish_models",
    "report_key",
    "report_link",
    "sweep_report",
    "training_report",
]

TABLE_KEY = "models"
TABLE_ROWS = 100
BEST_ROWS = 10


def report_key(model_version: str) -> str:
    """Return the artifact key of a model's report; Prefect allows a-z, 0-9 and `-`."""
    slug = re.sub("[^a-z0-9]+", "-", model_version.lower()).strip("-")
    return f"training-{slug}"


def report_link(model_version: str) -> str:
    """Return a Markdown link from a model version to its report."""
    return f"[{model_version}](/artifacts/key/{report_key(model_version)})"


def training_report(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    evaluation: dict[str, Any],
    steps: dict[str, CacheDecision],
    artifacts: Artifacts,
    table_link: str,
) -> str:
    """Render the report of a model in Markdown: metrics, inputs, cache decisions, files."""
    version, config = evaluation["model_version"], config_file.config
    settings = [(key, f"`{value}`") for key, value in asdict(config).items()]
    return f"""\
# {version}

`{config.base_model}` trained on `{dataset.name}`. [All models]({table_link})

{markdown_table(("metric", "value"), evaluation["metrics"].items())}
## Config

`{config_file.path}`, sha256 `{config_file.sha256}`

{markdown_table(("setting", "value"), settings)}
## Data

`{dataset.path}`: {dataset.num_samples:,} samples, sha256 `{dataset.sha256}`

## Steps

{markdown_table(("step", "this run", "reason"), [_step(*step) for step in steps.items()])}
Code of the core: sha256 `{source_digest(CORE)}`

## Run it again

    prefect deployment run 'training-pipeline/train' \\
        -p training_config_path={config_file.path} -p model_version={version}

The same config, data and code give the same bytes; other content is refused. To verify the record:
`llm-train verify {version}`.

## Files

- `{artifacts.models / version / METADATA_FILE}`
- `{artifacts.models / version / STATEMENT_FILE}`
- `{artifacts.registry}`
- `{evaluation_path(version, artifacts.evaluations)}`
"""


def sweep_report(summary: dict[str, Any], seconds: float) -> str:
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
            markdown_table(list(rows[0]), best),
            "[All of them](/artifacts/key/sweep-leaderboard)\n",
            as_image(scatter(points), "Quality against cost and latency") + "\n",
        ]
    if faults:
        parts += [
            "## Failed\n",
            markdown_table(
                ("config", "error"),
                [(fault["config"], fault["error"].replace("\n", "<br>")) for fault in faults],
            ),
            "Fix them and run the sweep again: finished configs are served from the cache.\n",
        ]
    return "\n".join(parts)


def publish_models(artifacts: Artifacts) -> Any:
    """Create the artifact with the table of all models; return its id."""
    return create_table_artifact(
        _models_table(artifacts), key=TABLE_KEY, description="All models, the newest first"
    )


def _models_table(artifacts: Artifacts) -> list[dict[str, Any]]:
    """Return the rows of the models registered last, the newest first."""
    return [
        _row(model, artifacts) for model in list_models(artifacts.registry)[: -TABLE_ROWS - 1 : -1]
    ]


def _row(model: dict[str, Any], artifacts: Artifacts) -> dict[str, Any]:
    version = model["model_version"]
    try:
        metrics = load_evaluation(version, artifacts.evaluations)["metrics"]
    except (OSError, ValueError, KeyError):
        metrics = {}  # not evaluated yet, or damaged, which the next run of the version repairs
    config = model["training_config"]
    return {
        "model_version": report_link(version),
        **metrics,
        "base_model": model["base_model"],
        "dataset_version": model["dataset_version"],
        "num_training_samples": model["num_training_samples"],
        **{key: config.get(key) for key in ("learning_rate", "epochs", "batch_size")},
    }


def _step(name: str, decision: CacheDecision) -> tuple[str, str, str]:
    return name, "cached" if decision.is_cached else "**ran**", decision.reason
