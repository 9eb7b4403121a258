"""One config, its data, and what the record says of the model made of them."""

from typing import Any

__all__ = ["CONFIG", "DATA", "DATA_SHA256", "METADATA"]

CONFIG = """\
# A run on the first curated dataset.
base_model: mistral-7b
dataset_version: dataset_v1
learning_rate: 2e-5
epochs: 3
batch_size: 16
"""
DATA = b'{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n'
DATA_SHA256 = "0c1f9c9f59b817f8081e9cb70320adb208224ac875082a5a15a19c8bf8e00143"

METADATA: dict[str, Any] = {
    "model_version": "model_v1",
    "base_model": "mistral-7b",
    "dataset_version": "dataset_v1",
    "training_config": {
        "base_model": "mistral-7b",
        "dataset_version": "dataset_v1",
        "learning_rate": 2e-05,
        "epochs": 3,
        "batch_size": 16,
    },
    "num_training_samples": 3,
}
