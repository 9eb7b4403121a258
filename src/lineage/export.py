"""Export of a model: its weights in the layout of the Hugging Face hub, a card, and its record."""

import os
from collections.abc import Collection, Iterable, Mapping
from itertools import chain, count
from pathlib import Path

from src.artifacts import Artifacts, history_path, weights_folder
from src.digest import Digest
from src.errors import CorruptFileError, truncated_repr
from src.evaluation.evaluator import evaluation_path
from src.lineage.model_card import Exported, model_card
from src.lineage.record import read_record
from src.records.canonical import parse_json, sha256
from src.records.layout import (
    EVALUATION_FILE,
    HISTORY_FILE,
    HISTORY_LIMIT,
    METADATA_FILE,
    METADATA_LIMIT,
    STATEMENT_FILE,
    STATEMENT_LIMIT,
)
from src.records.metadata import parse_metadata
from src.records.statement import parse_statement
from src.storage import Location, StorePath, is_url
from src.storage.new_folder import new_folder
from src.training.trained import recorded_training

__all__ = ["export_model"]

CARD = "README.md"
EVALUATION_STATEMENT = "evaluation-provenance.json"


def export_model(
    model_version: str, folder: str | os.PathLike[str], artifacts_dir: Location = "artifacts"
) -> dict[str, Digest]:
    """Write the weights of a model, a model card and the record of the model to a new folder.

    The folder appears whole or not at all. Each file is compared with its recorded digest.

    Args:
        model_version: The version.
        folder: Does not exist, or is empty.
        artifacts_dir: The artifacts root.

    Returns:
        Size and SHA-256 of the files by their path in the folder.

    Raises:
        ModelNotFoundError: The version does not exist.
        CorruptFileError: A file of the model is missing, is not as recorded, or cannot be parsed;
            names the file. Nothing was written.
        FileNotFoundError: The model or its evaluation has no statement; or the folder that is to
            hold `folder` does not exist.
        ValueError: The model has no weights; or `folder` has files, is the working directory, lies
            in the artifacts root, or is an address.
        OSError: A file cannot be read or written; nothing was written.
    """
    artifacts = Artifacts.open(artifacts_dir)
    if is_url(folder):
        raise ValueError(f"{folder}: expected a folder of the file system, found an address.")
    root = artifacts.root
    if not is_url(root) and Path(folder).resolve().is_relative_to(Path(str(root)).resolve()):
        raise ValueError(f"{folder}: expected a folder outside of the artifacts root.")
    model = artifacts.models / model_version
    record = _read_record(model_version, artifacts)
    exported, targets = _exported(model_version, record, model)
    written = {f"{exported.record}/{name}": data for name, data in record.items()}
    lines = [f"{each.sha256}  {name}\n" for name, each in exported.files.items()]
    written[exported.sums] = "".join(lines).encode()
    written[CARD] = model_card(exported).encode()
    weights = exported.training.weights
    with (
        new_folder(Path(folder)) as export,
        weights_folder(model, weights).local_files(weights) as source,
    ):
        for name, target in targets.items():
            export.copy(source, name, weights[name], target)
        for name, data in written.items():
            export.write(name, [data])
    return {**exported.files, **{name: Digest.of(written[name]) for name in (exported.sums, CARD)}}


def _read_record(model_version: str, artifacts: Artifacts) -> dict[str, bytes]:
    """Read the files of a model but its weights, by their name in the export; see `export_model`.

    Each file is compared with the digest in the statement that names it.
    """
    read_record(model_version, artifacts)  # raises if there is no such model
    model = artifacts.models / model_version
    data = (model / STATEMENT_FILE).read(STATEMENT_LIMIT)
    if data is None:
        raise FileNotFoundError(
            f"{model / STATEMENT_FILE}: no such file, so the weights are not recorded. The next "
            "run of the version writes it."
        )
    statement = parse_statement(data, model / STATEMENT_FILE)
    record = {
        METADATA_FILE: _read(model / METADATA_FILE, METADATA_LIMIT, statement.subject_sha256),
        STATEMENT_FILE: data,
    }
    if (history := statement.files.get(HISTORY_FILE)) is not None:
        path = history_path(model, statement.files)
        record[HISTORY_FILE] = _read(path, HISTORY_LIMIT, history.sha256)
    evaluation = evaluation_path(model_version, artifacts.evaluations)
    if evaluation.stat() is None:
        return record
    path = evaluation.parent / STATEMENT_FILE
    data = path.read(STATEMENT_LIMIT)
    if data is None:
        raise FileNotFoundError(
            f"{path}: no such file, so the evaluator is not recorded. Run the config of the model "
            "again."
        )
    attestation = parse_statement(data, path)
    if attestation.digest(STATEMENT_FILE) != sha256(record[STATEMENT_FILE]):
        raise CorruptFileError(
            f"{path}: not the statement of an evaluation of {model / STATEMENT_FILE}. Left as "
            "found; evaluate the model again."
        )
    record[EVALUATION_FILE] = _read(evaluation, METADATA_LIMIT, attestation.subject_sha256)
    record[EVALUATION_STATEMENT] = data
    return record


def _read(path: StorePath, limit: int, expected: str) -> bytes:
    """Read a file of the record, which must have the expected SHA-256."""
    data = path.read(limit)
    if data is None:
        raise CorruptFileError(f"{path}: no such file. Restore it from a backup.")
    if (found := sha256(data)) != expected:
        raise CorruptFileError(
            f"{path}: expected sha256 {truncated_repr(expected)[1:-1]}, found {found}. Left as "
            "found; restore it from a backup."
        )
    return data


def _exported(
    model_version: str, record: Mapping[str, bytes], model: StorePath
) -> tuple[Exported, dict[str, str]]:
    """Return the contents of the export, and the path of each of the weights in it."""
    metadata = parse_metadata(
        record[METADATA_FILE], model / METADATA_FILE, model_version=model_version
    )
    statement = parse_statement(record[STATEMENT_FILE], model / STATEMENT_FILE)
    training = recorded_training(statement, model / STATEMENT_FILE)
    if training is None or not training.weights:
        raise ValueError(
            f"{model_version}: expected a model with weights, found one of the simulated trainer. "
            "Name a trainer in its config; see docs/training.md."
        )
    targets = _targets(training.weights)
    folder = _unused("record{}", targets.values())
    files = {target: training.weights[name] for name, target in targets.items()}
    files |= {f"{folder}/{name}": Digest.of(data) for name, data in record.items()}
    evaluation = record.get(EVALUATION_FILE)
    attestation = record.get(EVALUATION_STATEMENT)
    exported = Exported(
        metadata=metadata,
        statement=statement,
        training=training,
        evaluation=None if evaluation is None else parse_json(evaluation, EVALUATION_FILE),
        evaluation_statement=(
            None if attestation is None else parse_statement(attestation, EVALUATION_STATEMENT)
        ),
        files=files,
        weights=tuple(targets.values()),
        record=folder,
        is_local=os.path.lexists(metadata["base_model"]),
    )
    return exported, targets


def _targets(weights: Collection[str]) -> dict[str, str]:
    """Return the path of each of the weights in the export; README.md is that of the card."""
    targets: dict[str, str] = {}
    for name in weights:
        is_card = name.casefold() == CARD.casefold()
        taken = [CARD, *weights, *targets.values()]
        targets[name] = _unused("README.trainer{}.md", taken) if is_card else name
    return targets


def _unused(pattern: str, paths: Iterable[str]) -> str:
    """Return the first name that none of the paths starts with, where case is ignored."""
    taken = {path.partition("/")[0].casefold() for path in paths}
    numbers = chain([""], (f".{number}" for number in count(2)))
    return next(
        name for number in numbers if (name := pattern.format(number)).casefold() not in taken
    )
