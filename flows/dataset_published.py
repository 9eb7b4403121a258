r"""A dataset was published: train every config that uses it.

What builds datasets says so when it is done:

    prefect event emit dataset.published --resource-id dataset.dataset_v2 \
        --payload '{"dataset_version": "dataset_v2"}'
"""

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment

from flows.failing import failed
from src.training.config import load_training_config
from src.versions import check_version

__all__ = ["dataset_published"]

DEPLOYMENT = "training-pipeline/on-dataset"


@flow(name="dataset-published", flow_run_name="published {dataset_version}")
def dataset_published(dataset_version: str, configs_dir: str = "configs/training") -> list[str]:
    """Start a training run for every config that uses a dataset version.

    A config that cannot be read is named in the log and passed over.

    Args:
        dataset_version: Name of the dataset version, e.g. `dataset_v1`.
        configs_dir: Folder of the training configs; its subfolders count too.

    Returns:
        The configs that runs were started for.

    Raises:
        FileNotFoundError: There is no folder `configs_dir`.
        ValueError: `dataset_version` is not a name.
    """
    try:
        configs = _configs_using(check_version("dataset_version", dataset_version), configs_dir)
    except (OSError, ValueError) as error:
        return failed(error)  # type: ignore[no-any-return]
    for path in configs:
        run_deployment(DEPLOYMENT, parameters={"training_config_path": path}, timeout=0)
    started = ", ".join(configs) or f"none: no config below {configs_dir} uses {dataset_version}"
    get_run_logger().info("Trainings started: %s.", started)
    return configs


def _configs_using(dataset_version: str, configs_dir: str) -> list[str]:
    if not Path(configs_dir).is_dir():
        raise FileNotFoundError(f"{configs_dir}: no such folder of training configs.")
    found = []
    for path in sorted(Path(configs_dir).rglob("*.yaml")):
        try:
            if load_training_config(path).dataset_version == dataset_version:
                found.append(str(path))
        except (OSError, ValueError) as error:
            get_run_logger().warning("Passed over: %s", error)
    return found
