"""Comparison of models: config, data, code, environment, metrics and losses, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from src.artifacts import Artifacts, history_path
from src.digest import Digest
from src.errors import CorruptFileError
from src.evaluation.measuring import weights_dependency
from src.lineage.record import Record, read_record
from src.records.canonical import canonical_json, dotted
from src.records.layout import HISTORY_FILE, HISTORY_LIMIT
from src.records.statement import weights_of
from src.rendering import markdown
from src.rendering.sparkline import sparkline
from src.storage import Location
from src.training.history import losses

__all__ = [
    "DAMAGED",
    "SECTIONS",
    "Comparison",
    "Losses",
    "Row",
    "compare",
    "compare_records",
    "recorded_losses",
]

SECTIONS = ("config", "trainer", "data", "code", "environment", "metrics", "training")
MAX_LOSSES = 300
DAMAGED = "not as recorded; see llm-train verify"

Losses = tuple[tuple[int, float], ...]
"""Steps and losses of a training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One property of the compared models.

    Attributes:
        section: One of `SECTIONS`.
        name: The property, e.g. `epochs`.
        values: Its value per model, in the order of the models; `None` if it is not recorded.
    """

    section: str
    name: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether the models have different values."""
        return len({canonical_json(value) for value in self.values}) > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two or more models side by side.

    Attributes:
        models: The model versions, in the order of the columns.
        every_row: All properties that any of the models has.
        losses: The loss by step of each model, at most `MAX_LOSSES` points; empty for a model
            without a history, or with one that is not as recorded.
    """

    models: tuple[str, ...]
    every_row: tuple[Row, ...]
    losses: tuple[Losses, ...] = ()

    def rows(self, *, everything: bool = False) -> list[Row]:
        """Return the properties in which the models differ; with `everything`, all properties."""
        return [row for row in self.every_row if everything or row.differs]

    def to_dict(self, *, everything: bool = False) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "models": list(self.models),
            "rows": [
                {"section": row.section, "name": row.name, "values": list(row.values)}
                for row in self.rows(everything=everything)
            ],
        }

    def to_markdown(self, *, everything: bool = False) -> str:
        """Render a Markdown table; a single line if nothing differs."""
        rows = self.rows(everything=everything)
        if not rows:
            return f"No difference between {', '.join(map(markdown.text, self.models))}.\n"
        return markdown.table(
            ("", "", *self.models), [(row.section, row.name, *row.values) for row in rows]
        )


def compare(*model_versions: str, artifacts_dir: Location = "artifacts") -> Comparison:
    """Compare models.

    Args:
        model_versions: Two or more versions, in the order of the columns.
        artifacts_dir: The artifacts root.

    Raises:
        ModelNotFoundError: One of the versions does not exist.
        CorruptFileError: A file of one of the models cannot be parsed; names the file. A history
            that is not as recorded is no error.
        ValueError: Fewer than two versions are given.
    """
    if len(model_versions) < 2:
        raise ValueError(f"expected two or more model versions, found {len(model_versions)}.")
    artifacts = Artifacts.open(artifacts_dir)
    records = [read_record(version, artifacts) for version in model_versions]
    comparison = compare_records(records)
    histories = [recorded_losses(record, artifacts) for record in records]
    texts = tuple(map(_loss_text, histories))
    row = Row(section="training", name="loss", values=texts)
    return replace(
        comparison,
        every_row=comparison.every_row + ((row,) if any(texts) else ()),
        losses=tuple(points or () for points in histories),
    )


def _loss_text(points: Losses | None) -> str | None:
    """Return the course of a loss as a line of text; `None` for a model without a history."""
    if points is None:
        return DAMAGED
    return sparkline([loss for _, loss in points]) if points else None


def compare_records(records: list[Record]) -> Comparison:
    """Compare models by their records."""
    facts = [dict(_facts(record)) for record in records]
    names = dict.fromkeys(key for each in facts for key in each)
    return Comparison(
        models=tuple(record.model_version for record in records),
        every_row=tuple(
            Row(
                section=section,
                name=name,
                values=tuple(each.get((section, name)) for each in facts),
            )
            for section, name in sorted(names, key=lambda key: SECTIONS.index(key[0]))
        ),
    )


def recorded_losses(record: Record, artifacts: Artifacts, limit: int = MAX_LOSSES) -> Losses | None:
    """Return the losses of a model, at most `limit` of them; empty if it has no history.

    Returns:
        `None` if the history is not as recorded.
    """
    files = record.statement.files if record.statement else {}
    recorded = files.get(HISTORY_FILE)
    if recorded is None:
        return ()
    try:
        data = history_path(artifacts.models / record.model_version, files).read(HISTORY_LIMIT)
    except CorruptFileError:
        return None
    if data is None or Digest.of(data) != recorded:
        return None
    return tuple(losses(data, limit))


def _facts(record: Record) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield the properties of one model: section and name, and the value."""
    for name, value in record.metadata["training_config"].items():
        yield ("config", name), value
    trainer = record.statement.parameters.get("trainer") if record.statement else None
    if isinstance(trainer, dict):
        options = trainer.get("options")
        for name, value in {**trainer, "options": None}.items():
            if value is not None:
                yield ("trainer", str(name)), value
        for name, value in (options if isinstance(options, dict) else {}).items():
            yield ("trainer", f"options.{name}"), value
        yield ("trainer", "code sha256"), record.statement and record.statement.digest("trainer")
    yield ("data", "num_training_samples"), record.metadata["num_training_samples"]
    if statement := record.statement:
        yield ("data", "sha256"), statement.digest("dataset")
        yield ("code", "core sha256"), statement.digest("core")
        yield ("code", "commit"), statement.digest("code", "gitCommit")
        yield ("code", "dirty"), statement.annotations("code").get("dirty")
        yield ("environment", "python"), statement.annotations("python").get("version")
        for name, value in statement.annotations("packages").items():
            yield ("environment", name), value
        for name, value in dotted(statement.annotations("training environment")):
            yield ("environment", f"training {name}"), value
        if base_model := statement.digest("base model"):
            yield ("trainer", "base model sha256"), base_model
        if weights := weights_of(statement.files):
            yield ("training", "weights sha256"), weights_dependency(weights).digest["sha256"]
    metrics = (record.evaluation or {}).get("metrics")
    if isinstance(metrics, dict):
        for name, value in metrics.items():
            yield ("metrics", name), value
