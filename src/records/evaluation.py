"""evaluation.json of a model version: its three fields."""

from collections.abc import Mapping
from sys import float_info
from typing import Any, TypeGuard

from src.errors import truncated_repr
from src.names import MAX_LENGTH, is_metric_name
from src.records.canonical import canonical_json

__all__ = ["MAX_METRICS", "evaluation_bytes", "is_metric"]

MAX_METRICS = 1000


def is_metric(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number, as every metric must be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= float_info.max


def evaluation_bytes(metadata: Mapping[str, Any], metrics: Mapping[str, float]) -> bytes:
    """Return the bytes of a model's evaluation.json.

    Args:
        metadata: The contents of the model's metadata.json.
        metrics: Its metrics by name.

    Raises:
        ValueError: The metrics are not at most `MAX_METRICS` finite numbers by names of
            `is_metric_name`.
    """
    if fault := _fault(metrics):
        raise ValueError(
            f"metrics of {metadata['model_version']!r}: {fault}. No evaluation was written."
        )
    return canonical_json(
        {
            "model_version": metadata["model_version"],
            "dataset_version": metadata["dataset_version"],
            "metrics": dict(metrics),
        }
    )


def _fault(metrics: Mapping[Any, object]) -> str | None:
    """Return why values are not the metrics of a model; `None` if they are."""
    if len(metrics) > MAX_METRICS:
        return f"expected at most {MAX_METRICS:,} metrics, found {len(metrics):,}"
    for name, value in metrics.items():
        if not is_metric_name(name):
            found = truncated_repr(name)
            return f"expected names of 1 to {MAX_LENGTH} printable characters, found {found}"
        if not is_metric(value):
            return f"{name}: expected a finite number, found {truncated_repr(value)}"
    return None
