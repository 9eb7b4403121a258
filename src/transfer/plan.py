"""The plan of a copy: compare both roots, then write what is missing.

The registry is written after everything that it lists, and before the evaluations: at any moment,
the destination is one that runs which were stopped could have left.

Runs may write to the source meanwhile. So it is listed in the reverse of the order in which a run
writes: an evaluation that is listed belongs to a model that the registry has afterwards.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.artifacts import Artifacts
from src.digest import Digest
from src.errors import CorruptFileError
from src.names import is_version
from src.progress import ignore_progress
from src.records.canonical import is_same_json
from src.records.layout import METADATA_FILE, REGISTRY_FILE, REGISTRY_LIMIT, STATEMENT_LIMIT
from src.storage import Location, StorePath, is_url
from src.training.hashing import HashDataset, count_and_hash_once
from src.training.registry import check_registry, parse_registry
from src.transfer.datasets import plan_datasets
from src.transfer.evaluations import plan_evaluations
from src.transfer.models import plan_model
from src.transfer.planner import HashFiles, Planner, Sizes, files_by_folder
from src.transfer.steps import CopyConflict, CopyRegistry, OnBytes, Step, is_continued

__all__ = ["KINDS", "Plan", "plan_copy"]

KINDS = ("datasets", "sweeps", "models", "registry", "evaluations")  # in the order of the writes
MAX_DIFFERENCES = 20  # that an error lists
_SWEEP_FILE = re.compile(r".+-[0-9a-f]{12}\.(yaml|json)", re.DOTALL)


def _hash_files(folder: StorePath) -> dict[str, Digest]:
    return folder.digests(use_memos=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a copy writes.

    Attributes:
        steps: What is written, in this order.
        present: The number of files that are there with the same bytes, by kind.
        unknown: The files of the source that are not copied, because they are no part of a record.
    """

    steps: tuple[Step, ...]
    present: Mapping[str, int]
    unknown: tuple[str, ...]

    @property
    def num_files(self) -> Mapping[str, int]:
        """The number of files that are written, by kind."""
        numbers = Counter[str]()
        for step in self.steps:
            numbers[step.kind] += step.num_files
        return numbers

    @property
    def num_bytes(self) -> Mapping[str, int]:
        """Their size in bytes, by kind."""
        numbers = Counter[str]()
        for step in self.steps:
            numbers[step.kind] += step.num_bytes
        return numbers

    def run(self, on_bytes: OnBytes = ignore_progress) -> None:
        """Write the files, and compare each with its recorded digest on the way.

        It stops at the first error. What was copied before is whole, and the registry is written
        only after all models. A second copy continues.

        Args:
            on_bytes: Receives the number of bytes that were copied since the last call.

        Raises:
            CopyConflict: Another process wrote other bytes to the destination meanwhile.
            CorruptFileError, DatasetMismatchError: A file of the source is not as recorded.
            FileChangedError: A file of the source was written to meanwhile.
            OSError: A file cannot be read or written; no partial file is visible.
        """
        for step in self.steps:
            step.write(on_bytes)


def plan_copy(
    source: Location,
    destination: Location,
    *,
    hash_dataset: HashDataset = count_and_hash_once,
    hash_files: HashFiles = _hash_files,
) -> Plan:
    """Compare two artifacts roots, and return what a copy writes; nothing is written.

    Reads all small files of the source, and compares them with their statements. Data and weights
    are read only if they are at the destination, too; the others are compared when they are copied.

    Args:
        source: The artifacts root that is copied.
        destination: The artifacts root that it is copied to; need not exist.
        hash_dataset: Counts and hashes a data.jsonl that is in both.
        hash_files: Hashes weights that are at the destination.

    Raises:
        CopyConflict: Files of the destination have other bytes; names up to 20 of them.
        CorruptFileError: A file of the source is damaged; names the file.
        FileNotFoundError: The source has no datasets, models, evaluations or sweeps.
        ValueError: A root lies in the other one, or is no valid address.
        OSError: A file cannot be read.
    """
    one, other = Artifacts.open(source), Artifacts.open(destination)
    _check_apart(one.root, other.root)
    planner = Planner(source=one, target=other, hash_dataset=hash_dataset, hash_files=hash_files)
    evaluations = files_by_folder(one.evaluations)
    check_registry(one)
    data = one.registry.read(REGISTRY_LIMIT)
    models = _plan_models(planner)
    if data is not None:
        _check_entries(data, one.registry, models)
        _plan_registry(planner, data)
    plan_datasets(planner)
    _plan_sweeps(planner)
    _plan_evaluations(planner, evaluations)
    if not (planner.steps or planner.present or planner.differences or planner.unknown):
        raise FileNotFoundError(
            f"{one.root}: no datasets and no models. Expected an artifacts root, a folder that "
            "holds datasets/ and models/."
        )
    if planner.differences:
        raise CopyConflict(_conflict(sorted(planner.differences), other.root))
    return Plan(
        steps=tuple(sorted(planner.steps, key=lambda step: KINDS.index(step.kind))),
        present=planner.present,
        unknown=tuple(sorted(planner.unknown)),
    )


def _check_apart(source: StorePath, destination: StorePath) -> None:
    one, other = _parts(source), _parts(destination)
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        raise ValueError(
            f"{destination}: the same root as {source}, or one lies in the other. Nothing was "
            "copied; choose a root apart from it."
        )


def _parts(root: StorePath) -> tuple[str, ...]:
    return tuple(str(root).split("/")) if is_url(str(root)) else Path(str(root)).resolve().parts


def _plan_sweeps(planner: Planner) -> None:
    there = files_by_folder(planner.target.sweeps).get("", {})
    for folder, sizes in files_by_folder(planner.source.sweeps).items():
        for name in sizes:
            if folder or not _SWEEP_FILE.fullmatch(name):
                planner.unknown += _paths(planner.source.sweeps, folder, [name])
                continue
            path, target = planner.source.sweeps / name, planner.target.sweeps / name
            if (data := path.read(STATEMENT_LIMIT)) is not None:
                planner.add_file("sweeps", path, target, data, there.get(name))


def _plan_models(planner: Planner) -> dict[str, Mapping[str, Any]]:
    """Add all models; return the metadata of each."""
    models, there = {}, files_by_folder(planner.target.models)
    for folder, sizes in files_by_folder(planner.source.models).items():
        if is_version(folder):
            models[folder] = plan_model(planner, folder, sizes, there.get(folder, {}))
        else:
            names = [name for name in sizes if folder or name != REGISTRY_FILE]
            planner.unknown += _paths(planner.source.models, folder, names)
    return models


def _check_entries(data: bytes, path: StorePath, models: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that each entry of the registry is the metadata.json of its model.

    Raises:
        CorruptFileError: It is not, or the registry was edited.
    """
    registry = parse_registry(data, path)
    registry.check_form()
    for entry in registry.models:
        version = entry["model_version"]
        metadata = path.parent / version / METADATA_FILE
        if not models.get(version):
            raise CorruptFileError(
                f"{metadata}: no such file, and the registry has an entry of {version!r}. Run its "
                "config again, or restore the file from a backup."
            )
        if not is_same_json(entry, models[version]):
            raise CorruptFileError(
                f"{path}: the entry of {version!r} differs from {metadata}. Left as found; restore "
                "the file from a backup."
            )


def _plan_registry(planner: Planner, data: bytes) -> None:
    target = planner.target.registry
    found = target.read(REGISTRY_LIMIT)
    if found == data:
        planner.present["registry"] += 1
    elif is_continued(found, data, target):
        planner.steps.append(CopyRegistry(target=target, data=data))
    else:
        planner.differences.append(
            f"{target}: expected no registry, or the first entries of that of the source, found "
            "one of other models."
        )


def _plan_evaluations(planner: Planner, found: Mapping[str, Sizes]) -> None:
    there = files_by_folder(planner.target.evaluations)
    for folder, sizes in found.items():
        if is_version(folder):
            plan_evaluations(planner, folder, sizes, there.get(folder, {}))
        else:
            planner.unknown += _paths(planner.source.evaluations, folder, sizes)


def _paths(parent: StorePath, folder: str, names: Iterable[str]) -> list[str]:
    """Return paths for a message; the names are those of any files, and perhaps not valid."""
    start = f"{parent}/{folder}" if folder else str(parent)
    return [f"{start}/{name}" for name in names]


def _conflict(differences: list[str], root: StorePath) -> str:
    more = len(differences) - MAX_DIFFERENCES
    lines = differences[:MAX_DIFFERENCES] + ([f"... and {more:,} more."] if more > 0 else [])
    return (
        f"{root}: has other files than the source, and two roots cannot be merged. Nothing was "
        "written; copy to another root, e.g. to another prefix:\n"
        + "\n".join(f"  {line}" for line in lines)
    )
