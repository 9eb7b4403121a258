"""Check of the dataset versions: that each has data, that it is pinned, and what configs name."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from src.artifacts import Artifacts
from src.datasets.versions import DatasetSummary, list_datasets
from src.diagnosis.finding import Finding, ok, warning
from src.rendering.text import counted, truncated_list
from src.training.config import read_config_file

__all__ = ["check_datasets"]

ADD = "Add it: `llm-train dataset add FILE NAME`, or name another one."


def check_datasets(artifacts: Artifacts, configs: Path) -> Iterator[Finding]:
    """Check the dataset versions below an artifacts root. Reads no data.

    Args:
        artifacts: The artifacts root.
        configs: The folder of the training configs.

    Yields:
        A warning for each kind of fault, or one finding that there is none.
    """
    datasets = list_datasets(artifacts)
    missing = sorted(_named_by(configs) - {each.dataset_version for each in datasets})
    found = list(_faults(datasets))
    if missing:
        names = truncated_list(missing)
        found.append(warning("datasets", f"named by configs, and not there: {names}.", ADD))
    yield from found or [ok("datasets", f"{counted(len(datasets), 'version')}, all pinned.")]


def _faults(datasets: list[DatasetSummary]) -> Iterator[Finding]:
    for each in datasets:
        if each.fault is not None:
            yield warning("datasets", each.fault)
    without_data = [each.dataset_version for each in datasets if each.num_bytes is None]
    if without_data:
        names = truncated_list(without_data)
        yield warning("datasets", f"without a data.jsonl: {names}.", "Restore their data.")
    unpinned = [
        each.dataset_version
        for each in datasets
        if each.num_bytes is not None and each.dataset_hash is None and each.fault is None
    ]
    if unpinned:
        action = "Pin them: `llm-train dataset add` with their data.jsonl and their name."
        names = truncated_list(unpinned)
        yield warning("datasets", f"no digest is recorded, so data can change: {names}.", action)


def _named_by(configs: Path) -> set[str]:
    """Return the dataset versions that configs name; configs with faults are left out."""
    names = set()
    for path in configs.rglob("*.yaml"):
        with suppress(OSError, ValueError):
            names.add(read_config_file(path).config.dataset_version)
    return names
