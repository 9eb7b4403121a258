"""The plan of a copy: compare both roots, then write what is missing.

The registry is written after the models that it lists, and before the evaluations, as by a run. So
a copy that is stopped leaves a destination as a stopped run does.

Runs may write to the source meanwhile. So the source is read in the reverse order: evaluations are
listed before the registry is read, and models after it. Each evaluation that is listed then belongs
to a model of the registry, and each model of the registry is listed.
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
    """The steps of a copy.

    Attributes:
        steps: The steps, in the order in which they are run.
        present: The number of files that the destination has with the same bytes, by kind.
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
        """The size in bytes of the files that are written, by kind."""
        numbers = Counter[str]()
        for step in self.steps:
            numbers[step.kind] += step.num_bytes
        return numbers

    def run(self, on_bytes: OnBytes = ignore_progress) -> None:
        """Write the files, and compare each with its recorded digest on the way.

        Stops at the first error. The files that were copied before are complete, and the registry
        is written only after all models. A second copy adds the rest.

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
    hash_files: HashFiles = _hash_files,
) -> Plan:
    """Compare two artifacts roots, and return the plan of a copy; nothing is written.

    Reads all small files of the source, and compares them with their statements. Weights are hashed
    at the destination, and data in both roots if the destination has it with the same size. What is
    missing there is read and compared when it is copied.

    Args:
        source: The artifacts root that is copied.
        destination: The artifacts root that it is copied to; need not exist.
        hash_files: Hashes weights that are at the destination.

    Raises:
        CopyConflict: Files of the destination have other bytes; names up to 20 of them.
        CorruptFileError: A file of the source is damaged; names the file.
        RegistryLostError: The source has an evaluation of a model, and no registry.
        FileNotFoundError: The source has no datasets, models, evaluations or sweeps.
        ValueError: One root is the other one or lies in it, or an address is not valid.
        OSError: A file cannot be read.
    """
    one, other = Artifacts.open(source), Artifacts.open(destination)
    _check_apart(one.root, other.root)
    planner = Planner(source=one, target=other, hash_files=hash_files)
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
    """Add all models; return the metadata.json of each, empty if it has none."""
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
        CorruptFileError: An entry is not, or the registry was edited.
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
    """Return paths as text: a name of any file need not be valid in a `StorePath`."""
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
