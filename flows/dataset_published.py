r"""Training of every config that uses a published dataset.

A data pipeline sends this event when it has published a dataset:

    prefect event emit dataset.published --resource-id dataset.dataset_v2 \
        --payload '{"dataset_version": "dataset_v2"}'
"""

import os
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment
from prefect.states import Completed

from flows.logs import configure_log
from flows.states import FLOW_OPTIONS, failed_state
from src.components.process import missing_interpreter
from src.names import check_version
from src.rendering.text import one_line
from src.training.config import ConfigFile, read_config_file

__all__ = ["dataset_published"]

DEPLOYMENT = "training-pipeline/on-dataset"


@flow(name="dataset-published", flow_run_name="published {dataset_version}", **FLOW_OPTIONS)
def dataset_published(dataset_version: str, configs_dir: str = "configs/training") -> list[str]:
    """Start a training run for every config that uses a dataset version.

    A config that cannot be parsed, a subfolder that cannot be listed, and a config with a Python
    interpreter that does not exist here, are skipped, with a warning in the log.

    Args:
        dataset_version: Name of the dataset version, e.g. `dataset_v1`.
        configs_dir: Folder of the training configs, including its subfolders.

    Returns:
        The configs for which a run was started.

    Raises:
        FileNotFoundError: The folder `configs_dir` does not exist.
        OSError: The folder `configs_dir` cannot be listed.
        ValueError: `dataset_version` is not a valid name.
    """
    configure_log()
    try:
        configs = _configs_using(check_version("dataset_version", dataset_version), configs_dir)
    except (OSError, ValueError) as error:
        return failed_state(error)  # type: ignore[no-any-return]
    for path in configs:
        run_deployment(
            DEPLOYMENT,
            parameters={"training_config_path": path},
            flow_run_name=one_line(
                f"train {Path(path).stem}"
            ),  # the name that the run has once it starts
            timeout=0,
        )
    text = f"Training runs started: {', '.join(configs)}."
    if not configs:
        text = f"{configs_dir}: no config uses {dataset_version}. No run was started."
    get_run_logger().info("%s", one_line(text))
    return Completed(message=one_line(text), data=configs)  # type: ignore[return-value]


def _configs_using(dataset_version: str, configs_dir: str) -> list[str]:
    if not Path(configs_dir).is_dir():
        raise FileNotFoundError(f"{configs_dir}: no such folder of training configs.")
    warn = get_run_logger().warning

    def skip(error: OSError) -> None:
        if error.filename == configs_dir:
            raise error
        warn("Skipped: %s", error)

    found = []
    folders = os.walk(configs_dir, onerror=skip)
    paths = [Path(here, name) for here, _, names in folders for name in names]
    for path in sorted(path for path in paths if path.suffix == ".yaml"):
        try:
            config_file = read_config_file(path)
            if config_file.config.dataset_version == dataset_version:
                _check_interpreters(config_file)
                found.append(str(path))
        except (OSError, ValueError) as error:
            warn("Skipped: %s", error)
    return found


def _check_interpreters(config_file: ConfigFile) -> None:
    """Check that the environments of the trainer and the evaluator of a config exist here."""
    for key, component in config_file.components.items():
        if reason := missing_interpreter(component):
            raise ValueError(f"{config_file.component_path}: {key}.python: {reason}")
