"""Input of all contenders: a dataset of 10,000 lines, configs, and the metadata of models."""

from pathlib import Path
from typing import Any

from benchmarks.make_dataset import make_dataset

__all__ = ["LINES", "Project", "metadata"]

LINES = 10_000


class Project:
    """A folder for one contender, with a dataset and new configs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.num_configs = folder, 0
        self.artifacts = folder / "artifacts"
        make_dataset("dataset_v1", samples=LINES, datasets_dir=self.artifacts / "datasets")
        (folder / "configs").mkdir()

    def configs(self, count: int) -> list[str]:
        """Write new configs, each with different settings; return their paths."""
        paths = []
        for _ in range(count):
            self.num_configs += 1
            path = self.folder / "configs" / f"m{self.num_configs:06}.yaml"
            path.write_text(
                "base_model: mistral-7b\ndataset_version: dataset_v1\n"
                f"learning_rate: {self.num_configs / 1e6:.6f}\nepochs: 3\nbatch_size: 16\n"
            )
            paths.append(str(path))
        return paths

    def config(self) -> str:
        """Write one new config; return its path."""
        return self.configs(1)[0]


def metadata(number: int) -> dict[str, Any]:
    """Return the metadata of one of many models."""
    config = {
        "base_model": "mistral-7b",
        "dataset_version": "dataset_v1",
        "learning_rate": 2e-5,
        "epochs": 1 + number % 9,
        "batch_size": 16,
    }
    return {
        "model_version": f"mistral-7b-dataset_v1-{number:012}",
        "base_model": config["base_model"],
        "dataset_version": config["dataset_version"],
        "training_config": config,
        "num_training_samples": LINES,
    }
