"""The content of the report: records as plain JSON values. Pure.

Values of models are texts, so that the page shows and compares them exactly: a browser would read
1.0 as 1, and a large integer as another one. Equal texts are equal values, see `value_text`. What
many models have in common, such as the packages, is in the page once, and a model has its index.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any

from src.components.component import SIMULATED
from src.evaluation.measuring import recorded_evaluator, weights_dependency
from src.lineage.compare import SECTIONS, compare_records
from src.lineage.record import Record
from src.records.canonical import canonical_json, sha256
from src.records.evaluation import is_metric
from src.records.statement import weights_of
from src.records.verdicts import Audit
from src.rendering.text import as_text
from src.report.reading import ModelFiles, RecordFiles

__all__ = ["page_content", "value_text"]

MAX_TEXT = 500  # characters of a value
MAX_VALUES = 1000  # of a section of a model
MAX_NAMES = 50  # columns of metrics, and of settings
FIRST_METRICS = ("quality_score", "cost_per_1k_tokens", "latency_ms")
CACHED_TEXTS = 1 << 14  # most models have the same packages
NAMES = ("base_model", "dataset_version")  # settings with a column of the table


def page_content(files: RecordFiles, made_on: str) -> dict[str, Any]:
    """Return the content of the report.

    Args:
        files: The records, and the verdicts of the last audit.
        made_on: The present time, RFC 3339 in UTC.
    """
    sections, inputs = [_Pool() for _ in SECTIONS], _Pool()
    models = [_model(each, files.audit, sections, inputs) for each in files.models]
    records = [each.record for each in files.models if each.record]
    return {
        "root": _bounded(as_text(files.root)),
        "made_on": made_on,
        "audited_on": files.audit and _bounded(as_text(files.audit.audited_on)),
        "faults": [_bounded(each) for each in files.faults],
        "sections": list(SECTIONS),
        "values": [pool.values for pool in sections],
        "inputs": inputs.values,
        "metrics": _metric_names(records),
        "settings": _setting_names(records),
        "models": models,
    }


class _Pool:
    """Distinct values, each with its index."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._indices: dict[Hashable, int] = {}

    def index(self, value: Hashable) -> int:
        index = self._indices.setdefault(value, len(self.values))
        if index == len(self.values):
            self.values.append(value)
        return index


def _model(
    files: ModelFiles, audit: Audit | None, sections: Sequence[_Pool], inputs: _Pool
) -> dict[str, Any]:
    verdict = audit.models.get(files.version) if audit else None
    model: dict[str, Any] = {
        "version": files.version,
        "faults": [_bounded(each) for each in files.faults],
        "is_registered": files.is_registered,
        "is_simulated": _evaluator_name(files) == SIMULATED,
        "verdict": verdict and verdict.verdict,
        "details": [_bounded(as_text(each)) for each in verdict.details] if verdict else [],
        "losses": [[step, _rounded(loss)] for step, loss in files.losses],
        "base_model": None,
        "dataset": None,
        "started_on": None,
        "url": None,
        "values": [],
        "lineage": [],
    }
    if (record := files.record) is None:
        return model
    rows: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
    for row in compare_records([record]).every_row:
        if (value := row.values[0]) is not None:
            text = _text(value) if isinstance(value, str) else _bounded(value_text(value))
            rows[row.section].append((_name(row.name), text))
    statement = record.statement
    return model | {
        "base_model": _bounded(value_text(record.metadata["base_model"])),
        "dataset": record.metadata["dataset_version"],
        "started_on": statement and _bounded(as_text(statement.started_on)),
        "url": statement and statement.url and _bounded(as_text(statement.url)),
        "values": [
            pool.index(tuple(_first_values(rows[section])))
            for section, pool in zip(SECTIONS, sections, strict=True)
        ],
        "lineage": [inputs.index(node) for node in _lineage(files, record)],
    }


def _first_values(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the values of a section; of too many, the first ones, and a digest of the others."""
    if len(rows) <= MAX_VALUES:
        return rows
    others = rows[MAX_VALUES:]
    digest = sha256(canonical_json(others))[:12]
    return [*rows[:MAX_VALUES], (f"{len(others):,} more values", f"sha256 {digest}")]


def value_text(value: Any) -> str:
    """Return a JSON value as one line of printable text; equal texts are equal values.

    Text is shown without quotes, unless it could be another value: the text `1` is `"1"`.
    """
    text = as_text(value)
    if isinstance(value, str) and text == value and (_is_json(text) or text in ("", "-")):
        return json.dumps(value)
    return text


@lru_cache(maxsize=CACHED_TEXTS)
def _text(value: str) -> str:
    return _bounded(value_text(value))


@lru_cache(maxsize=CACHED_TEXTS)
def _name(name: str) -> str:
    return _bounded(as_text(name))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    except RecursionError:
        return True
    return True


def _bounded(text: str) -> str:
    """Return a text; of a long one, the start, its length and the start of its digest."""
    if len(text) <= MAX_TEXT:
        return text
    digest = sha256(text.encode(errors="backslashreplace"))[:12]
    return f"{text[:MAX_TEXT]}... ({len(text):,} characters, sha256 {digest})"


def _rounded(loss: float) -> float:
    """Return a number with five digits, as far as that is a finite number."""
    rounded = float(f"{loss:.5g}")
    return rounded if isfinite(rounded) else loss


def _metric_names(records: Iterable[Record]) -> list[str]:
    """Return the names of metrics, those of most models first."""
    names = Counter(
        _bounded(as_text(name))
        for record in records
        for name, value in _metrics(record).items()
        if is_metric(value)
    )
    first = [name for name in FIRST_METRICS if name in names]
    others = [name for name, _ in names.most_common() if name not in first]
    return [*first, *others][:MAX_NAMES]


def _metrics(record: Record) -> dict[str, Any]:
    metrics = (record.evaluation or {}).get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def _setting_names(records: Iterable[Record]) -> list[str]:
    """Return the names of settings without `NAMES`, those of most models first."""
    names = Counter(
        _bounded(as_text(name))
        for record in records
        for name in record.metadata["training_config"]
        if name not in NAMES
    )
    return [name for name, _ in names.most_common(MAX_NAMES)]


def _lineage(files: ModelFiles, record: Record) -> Iterator[tuple[str, str, str | None]]:
    """Yield what a model was made from, and what was made from it: kind, name and digest."""
    statement, evaluation = record.statement, files.evaluation_statement
    if statement is not None:
        yield _node("dataset", record.metadata["dataset_version"], statement.digest("dataset"))
        config = statement.dependency("config")
        yield _node("config", config and config.uri, statement.digest("config"))
        commit = statement.digest("code", "gitCommit")
        yield _node("code", f"commit {commit}" if commit else "core", statement.digest("core"))
        trainer = statement.parameters.get("trainer")
        if isinstance(trainer, dict):
            yield _node("trainer", trainer.get("use"), statement.digest("trainer"))
        if base := statement.dependency("base model"):
            yield _node("base model", base.uri, base.digest.get("sha256"))
        if weights := weights_of(statement.files):
            size = sum(each.size for each in weights.values())
            name = f"{len(weights):,} files, {size:,} bytes"
            yield _node("weights", name, weights_dependency(weights).digest["sha256"])
        yield _node("model", files.version, statement.subject_sha256)
    if evaluation is not None:
        name = f"by {as_text(_evaluator_name(files))}"
        yield _node("evaluation", name, evaluation.subject_sha256)
        if data := evaluation.dependency("evaluation dataset"):
            yield _node("evaluation dataset", data.uri, data.digest.get("sha256"))


def _evaluator_name(files: ModelFiles) -> Any:
    """Return what the statement of an evaluation names as its evaluator; `None` without one."""
    evaluation = files.evaluation_statement
    evaluator = recorded_evaluator(evaluation) if evaluation else None
    return evaluator.get("use") if isinstance(evaluator, dict) else None


def _node(kind: str, name: Any, digest: str | None) -> tuple[str, str, str | None]:
    return kind, _bounded(as_text(name)), digest and _bounded(as_text(digest))
