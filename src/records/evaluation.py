"""evaluation.json of a model version: its three fields."""

from collections.abc import Mapping
from sys import float_info
from typing import Any, TypeGuard

from src.errors import truncated_repr
from src.records.canonical import canonical_json
from src.records.layout import EVALUATION_FILE, METADATA_LIMIT

__all__ = ["evaluation_bytes", "is_metric"]


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
        ValueError: A metric is not a finite number, or the file would be too large to be read.
    """
    for name, value in metrics.items():
        if not is_metric(value):
            raise ValueError(
                f"metrics of {metadata['model_version']!r}: {name}: expected a finite number, "
                f"found {truncated_repr(value)}. No evaluation was written."
            )
    data = canonical_json(
        {
            "model_version": metadata["model_version"],
            "dataset_version": metadata["dataset_version"],
            "metrics": dict(metrics),
        }
    )
    if len(data) > METADATA_LIMIT:
        raise ValueError(
            f"metrics of {metadata['model_version']!r}: expected an {EVALUATION_FILE} of at most "
            f"{METADATA_LIMIT:,} bytes, found {len(data):,}. No evaluation was written."
        )
    return data
