"""The config of a recorded model, and the evaluator that it names."""

from src.artifacts import Artifacts
from src.evaluation.evaluator import SIMULATED_EVALUATOR, Evaluator
from src.records.statement import Statement
from src.training.config import ConfigFile, read_config_file
from src.training.dataset import resolve_dataset
from src.training.hashing import count_and_hash_once
from src.training.pipeline import config_evaluator

__all__ = ["evaluator_of", "recorded_config"]


def recorded_config(statement: Statement) -> ConfigFile:
    """Read the config that the statement of a model names.

    Code to run is taken from a file that people edit, never from the record. So the file must be
    there, with the contents that were recorded.

    Raises:
        ValueError: The statement names no config, or the config has other contents.
        FileNotFoundError: The config does not exist.
    """
    config = statement.dependency("config")
    if config is None or config.uri is None:
        raise ValueError("the statement names no config.")
    file = read_config_file(config.uri)
    recorded = {
        "config": statement.digest("config"),
        "base config": statement.digest("base config"),
    }
    found = {"config": file.sha256, "base config": file.base_sha256}
    for name, digest in recorded.items():
        if digest != found[name]:
            path = file.path if name == "config" else file.base_path
            raise ValueError(
                f"{path}: expected sha256 {digest}, as the model was trained with, found "
                f"{found[name]}. Restore the file."
            )
    return file


def evaluator_of(config_file: ConfigFile, dataset_version: str, artifacts: Artifacts) -> Evaluator:
    """Return the evaluator that a config names, with the data that it measures on.

    Args:
        config_file: The config.
        dataset_version: The data of the model, for an evaluator that names none.
        artifacts: The artifacts root.
    """
    if config_file.evaluator is None:
        return SIMULATED_EVALUATOR
    dataset = resolve_dataset(
        config_file.evaluator.dataset_version or dataset_version,
        artifacts.datasets,
        hash_dataset=count_and_hash_once,
    )
    return config_evaluator(config_file, dataset, artifacts, hash_dataset=count_and_hash_once)
