"""How models differ: config, data, code, environment and metrics, side by side."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.artifacts import Artifacts
from src.lineage.record import Record, read_record
from src.storage import canonical_json

__all__ = ["Comparison", "Row", "as_text", "compare", "compare_records", "markdown_table"]

SECTIONS = ("config", "data", "code", "environment", "metrics")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One property of the models compared.

    Attributes:
        section: One of `SECTIONS`.
        name: The property, e.g. `epochs`.
        values: Its value for each model, in their order; `None` where it is not recorded.
    """

    section: str
    name: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether the models differ in it."""
        return len({canonical_json(value) for value in self.values}) > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two or more models side by side.

    Attributes:
        models: Their versions, in the order asked for.
        every_row: All properties that one of them has.
    """

    models: tuple[str, ...]
    every_row: tuple[Row, ...]

    def rows(self, *, everything: bool = False) -> list[Row]:
        """Give the properties in which the models differ; with `everything`, all."""
        return [row for row in self.every_row if everything or row.differs]

    def to_dict(self, *, everything: bool = False) -> dict[str, Any]:
        """Give its JSON form."""
        return {
            "models": list(self.models),
            "rows": [
                {"section": row.section, "name": row.name, "values": list(row.values)}
                for row in self.rows(everything=everything)
            ],
        }

    def to_markdown(self, *, everything: bool = False) -> str:
        """Give it as a table to paste into a review; one line that says so if nothing differs."""
        rows = self.rows(everything=everything)
        if not rows:
            return f"No difference between {', '.join(self.models)}.\n"
        return markdown_table(
            ("", "", *self.models),
            [(row.section, row.name, *map(as_text, row.values)) for row in rows],
        )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Give a table in Markdown, each line of it with its end."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n"
        for line in lines
    )


def as_text(value: Any) -> str:
    """Give a value as a person reads it, on one line; `-` where it is not recorded."""
    if value is None:
        return "-"
    if isinstance(value, str) and value.isprintable():
        return value
    return json.dumps(value, sort_keys=True)


def compare(*model_versions: str, artifacts_dir: str | Path = "artifacts") -> Comparison:
    """Set models side by side.

    Args:
        model_versions: Two or more, in the order of the columns.
        artifacts_dir: The artifacts root.

    Raises:
        ModelNotFoundError: Nothing knows one of them.
        CorruptFileError: A file of one of them cannot be read; names it.
        ValueError: Fewer than two.
    """
    if len(model_versions) < 2:
        raise ValueError(f"expected two or more model versions, found {len(model_versions)}.")
    artifacts = Artifacts(artifacts_dir)
    return compare_records([read_record(version, artifacts) for version in model_versions])


def compare_records(records: list[Record]) -> Comparison:
    """Set models side by side, from what was read of them."""
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


def _facts(record: Record) -> Iterator[tuple[tuple[str, str], Any]]:
    """Give the properties of one model: section and name, and the value."""
    for name, value in record.metadata["training_config"].items():
        yield ("config", name), value
    yield ("data", "num_samples"), record.metadata["num_training_samples"]
    if made := record.provenance:
        yield ("data", "sha256"), made.digest("dataset")
        yield ("code", "core sha256"), made.digest("core")
        yield ("code", "commit"), made.digest("code", "gitCommit")
        yield ("code", "dirty"), made.annotations("code").get("dirty")
        yield ("environment", "python"), made.annotations("python").get("version")
        for name, value in made.annotations("packages").items():
            yield ("environment", name), value
    metrics = (record.evaluation or {}).get("metrics")
    if isinstance(metrics, dict):
        for name, value in metrics.items():
            yield ("metrics", name), value
