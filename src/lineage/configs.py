"""The config of a recorded model."""

from src.artifacts import Artifacts
from src.records.statement import Statement
from src.storage import is_url
from src.training.config import ConfigFile, read_config_file

__all__ = ["read_recorded_config", "recorded_config"]


def read_recorded_config(uri: str, artifacts: Artifacts) -> ConfigFile:
    """Read the config at the location that a record names.

    An address is read only if it is below the artifacts root: a record never decides which other
    stores are asked.

    Raises:
        ValueError: The address is not below the artifacts root; or see `read_config_file`.
        FileNotFoundError, OSError: See `read_config_file`.
    """
    if not is_url(uri):
        return read_config_file(uri)
    root = f"{artifacts.root}/"
    if not uri.startswith(root):
        raise ValueError(f"{uri}: not read: it is not below the artifacts root {artifacts.root}.")
    return read_config_file(artifacts.root / uri.removeprefix(root))


def recorded_config(statement: Statement, artifacts: Artifacts) -> ConfigFile:
    """Read the config that the statement of a model names.

    Code to run is taken from a file that people edit, never from the record. So the file must be
    there, with the contents that were recorded.

    Args:
        statement: The statement.
        artifacts: The artifacts root.

    Raises:
        ValueError: The statement names no config, or the config has other contents.
        FileNotFoundError: The config does not exist.
    """
    config = statement.dependency("config")
    if config is None or config.uri is None:
        raise ValueError("the statement names no config.")
    file = read_recorded_config(config.uri, artifacts)
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
