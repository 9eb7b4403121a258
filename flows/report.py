"""What people read of a run: a report of one model, and the table of all."""

import re
from dataclasses import asdict
from typing import Any

from prefect.artifacts import create_table_artifact

from flows.chart import Point, as_image, scatter
from src.artifacts import Artifacts
from src.evaluation.evaluator import load_evaluation
from src.lineage.compare import markdown_table
from src.source import CORE, source_digest
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from src.training.registry import list_models
from tasks.caching import Outcome

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
    """Give the key of a model's report among the artifacts: Prefect takes a-z, 0-9 and `-`."""
    slug = re.sub("[^a-z0-9]+", "-", model_version.lower()).strip("-")
    return f"training-{slug}"


def report_link(model_version: str) -> str:
    """Give a link, in Markdown, from a model version to its reports."""
    return f"[{model_version}](/artifacts/key/{report_key(model_version)})"


def training_report(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    evaluation: dict[str, Any],
    steps: dict[str, Outcome],
    artifacts: Artifacts,
    table_link: str,
) -> str:
    """Tell in Markdown what a model was made of, how good it is, and how to make it again."""
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

{markdown_table(("step", "this run", "why"), [_step(*step) for step in steps.items()])}
Code of the core: sha256 `{source_digest(CORE)}`

## Make it again

    prefect deployment run 'training-pipeline/train' \\
        -p training_config_path={config_file.path} -p model_version={version}

The same config, data and code give the same bytes; other content is refused. To hold the record
against all it was made of: `llm-train verify {version}`.

## Files

- `{artifacts.models / version / "metadata.json"}`
- `{artifacts.models / version / "provenance.json"}`
- `{artifacts.registry}`
- `{artifacts.evaluations / version / "evaluation.json"}`
"""


def sweep_report(summary: dict[str, Any], seconds: float) -> str:
    """Tell in Markdown what came of a sweep: the best, a chart of all, and what failed."""
    rows, faults = summary["leaderboard"], summary["failed"]
    count = len(rows) + len(faults)
    parts = [
        f"# Sweep of {count:,} configs\n",
        f"{len(rows):,} done ({summary['cached']:,} from the cache), {len(faults):,} failed; "
        f"{seconds:.1f} s, {count / seconds:.1f} configs/s.\n",
    ]
    if rows:
        best = [list(row.values()) for row in rows[:BEST_ROWS]]
        points = [point for row in rows if (point := Point.of(row["model_version"], row))]
        parts += [
            f"## The best {len(best)}\n",
            markdown_table([name.replace("_", " ") for name in rows[0]], best),
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
            "Mend them and run the sweep again: what is done is served from the cache.\n",
        ]
    return "\n".join(parts)


def publish_models(artifacts: Artifacts) -> Any:
    """Make an artifact of the table of all models; give its id."""
    return create_table_artifact(
        _models_table(artifacts), key=TABLE_KEY, description="All models, the newest first"
    )


def _models_table(artifacts: Artifacts) -> list[dict[str, Any]]:
    """List the models registered last, the newest first, with settings and metrics."""
    return [
        _row(model, artifacts) for model in list_models(artifacts.registry)[: -TABLE_ROWS - 1 : -1]
    ]


def _row(model: dict[str, Any], artifacts: Artifacts) -> dict[str, Any]:
    version = model["model_version"]
    try:
        metrics = load_evaluation(version, artifacts.evaluations)["metrics"]
    except (OSError, ValueError, KeyError):
        metrics = {}  # not evaluated yet; an evaluation that cannot be read is its own run's matter
    config = model["training_config"]
    return {
        "model": report_link(version),
        **metrics,
        "base model": model["base_model"],
        "dataset": model["dataset_version"],
        "samples": model["num_training_samples"],
        **{key: config.get(key) for key in ("learning_rate", "epochs", "batch_size")},
    }


def _step(name: str, outcome: Outcome) -> tuple[str, str, str]:
    return name, "cached" if outcome.cached else "**ran**", outcome.why
