"""The config of a recorded model."""

from src.records.statement import Statement
from src.training.config import ConfigFile, read_config_file

__all__ = ["recorded_config"]


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
                f"{found[name]}. Restore the file, or pass `--config FILE` to name the config."
            )
    return file
