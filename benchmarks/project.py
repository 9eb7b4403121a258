"""What all contenders are given to work on: a dataset of 10,000 lines, and configs."""

from pathlib import Path
from typing import Any

from benchmarks.make_dataset import make_dataset

__all__ = ["LINES", "Project", "metadata"]

LINES = 10_000


class Project:
    """A folder of one contender, with a dataset, and configs that it has never seen."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0
        self.artifacts = folder / "artifacts"
        make_dataset("dataset_v1", samples=LINES, datasets_dir=self.artifacts / "datasets")
        (folder / "configs").mkdir()

    def configs(self, count: int) -> list[str]:
        """Make new configs, no two with the same settings; give their paths."""
        paths = []
        for _ in range(count):
            self.made += 1
            path = self.folder / "configs" / f"m{self.made:06}.yaml"
            path.write_text(
                "base_model: mistral-7b\ndataset_version: dataset_v1\n"
                f"learning_rate: {self.made / 1e6:.6f}\nepochs: 3\nbatch_size: 16\n"
            )
            paths.append(str(path))
        return paths

    def config(self) -> str:
        """Make one new config."""
        return self.configs(1)[0]


def metadata(number: int) -> dict[str, Any]:
    """Give the metadata of one of many models."""
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
