"""Weights of a model version: train them, or take what a run of the version left.

A training is done when the model's statement lists its files. Until then its result lies in the
work folder; see `src.components.work`.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.artifacts import history_path, read_statement, weights_folder
from src.components.component import check_may_run, may_run
from src.components.description import Description, InputChangedError, changed_files
from src.components.process import local_dataset
from src.components.work import Work, locked_work, remove_tree, remove_work
from src.digest import Digest, digests_from_json, digests_to_json
from src.errors import CorruptFileError
from src.records.canonical import canonical_json, parse_json, sha256
from src.records.dataset_version import DatasetVersion
from src.records.layout import (
    HISTORY_FILE,
    HISTORY_LIMIT,
    STATEMENT_FILE,
    STATEMENT_LIMIT,
)
from src.records.metadata import ModelVersionConflict, all_conflict_details
from src.storage import FileChangedError, FolderStore, StorePath, read_file
from src.training.attempt import (
    check_inputs,
    checked_files,
    has_checkpoints,
    output_fault,
    result_files,
    run_trainer,
)
from src.training.config import ConfigFile
from src.training.trained import Training, recorded_training

__all__ = ["put_training", "train"]

logger = logging.getLogger(__name__)


def train(
    config_file: ConfigFile,
    dataset: DatasetVersion,
    description: Description,
    model_version: str,
    models: StorePath,
    *,
    on_point: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Training:
    """Train the weights of a model version, unless an earlier run has trained them.

    The trainer runs as a child process. A training that was stopped continues from its checkpoints.
    Afterwards the result is in the work folder, or in the record if it was already there.

    Args:
        config_file: The training config.
        dataset: The data.
        description: The trainer.
        model_version: The version.
        models: Folder of all model versions.
        on_point: Receives each point of the history as it comes.

    Raises:
        ModelVersionConflict: The version exists with another trainer, other options, another base
            model, or without weights. Nothing was trained.
        CorruptFileError: The weights of the version were altered or deleted.
        InputChangedError: The data or the base model changed during the training.
        CommandError: The trainer failed, or took too long. Its checkpoints are kept.
        TrainingOutputError: The trainer has left something that is not a model.
        OSError: A file cannot be read or written.
    """
    new = Training.of(description)
    if (found := _recorded(models / model_version, new)) is not None:
        if may_run():
            remove_work(models, model_version)
        return found
    check_may_run(f"trainer {description.component.use}")
    with locked_work(models, model_version) as work:
        if (found := _recorded(models / model_version, new)) is not None:
            work.remove()
            return found
        inputs = {
            "model_version": model_version,
            "config": config_file.config.config_hash,
            "data": dataset.sha256,
            **new.inputs(),
        }
        folder = work.training_folder(sha256(canonical_json(inputs)))
        if (found := _finished(folder, new)) is not None:
            logger.info("%s: trained by an earlier run. Taken.", model_version)
            return found
        name = f"{model_version}: trainer {description.component.use}"
        continues = has_checkpoints(folder)
        logger.info("%s %s.", name, "continues from its checkpoints" if continues else "starts")
        try:
            with local_dataset(dataset) as data:
                environment = run_trainer(
                    config_file.config,
                    data,
                    description.component,
                    model_version,
                    work_folder=work.folder,
                    folder=folder,
                    on_point=on_point,
                )
                check_inputs(dataset, data, description)
            environment |= _code_changes(description, model_version)
            training = replace(new, files=checked_files(folder), environment=environment)
            _write_result(folder, training)
        except InputChangedError:
            remove_tree(folder)  # a checkpoint may be of the other input
            raise
        except BaseException:
            remove_tree(folder / "output")  # it could fill the disk; checkpoints are kept
            if has_checkpoints(folder):
                checkpoints = folder / "checkpoints"
                logger.info("%s: stopped. Run again: it continues from %s.", name, checkpoints)
            raise
        size = sum(each.size for each in training.weights.values())
        logger.info("%s: done, %s bytes of weights.", name, f"{size:,}")
        return training


def put_training(training: Training, model: StorePath, work: Work) -> None:
    """Copy the result of a training from the work folder to the folder of the model.

    Afterwards `weights_folder` has the weights and, if the trainer reported steps, `history_path`
    the history. They are part of the record once the statement lists them.

    Raises:
        FileNotFoundError: The result is no longer in the work folder.
        CorruptFileError: A stopped training left a training.jsonl, and this one has none; or see
            `Store.put_files`.
        FileChangedError, OSError: See `Store.put_files`.
    """
    expected = training.files, training.environment
    folder = next((each for each in work.folder.glob("*/") if _result(each) == expected), None)
    if folder is None:
        raise FileNotFoundError(
            f"{work.folder}: the result of the training was deleted or altered. Run again."
        )
    history_file = history_path(model, training.files)
    if HISTORY_FILE not in training.files and history_file.stat() is not None:
        raise CorruptFileError(
            f"{history_file}: left by another training of this version, which was stopped. "
            "Nothing was changed. Delete the file and run again."
        )
    weights = weights_folder(model, training.weights)
    weights.put_files(folder / "output", training.weights)
    if HISTORY_FILE in training.files:
        history = read_file(folder / "history.jsonl", HISTORY_LIMIT) or b""
        if Digest.of(history) != training.files[HISTORY_FILE]:
            raise FileChangedError(
                f"{folder / 'history.jsonl'}: written to after it was hashed. Run again."
            )
        history_file.replace(history)
    logger.info("%s: written.", weights)


# --- What is there already -----------------------------------------------------------------------


def _recorded(model: StorePath, new: Training) -> Training | None:
    """Return the recorded training, after a check of its files; `None` without a statement."""
    statement = read_statement(model)
    if statement is None:
        return None
    found = recorded_training(statement, model / STATEMENT_FILE)
    recorded = {"trainer": None} if found is None else found.inputs()
    if details := all_conflict_details(recorded, new.inputs()):
        raise ModelVersionConflict(model.name, model, details)
    assert found is not None  # noqa: S101  # otherwise there are details
    history_file = history_path(model, found.files)
    history = history_file.read(HISTORY_LIMIT)
    digests = found.files.get(HISTORY_FILE), None if history is None else Digest.of(history)
    if digests[0] != digests[1]:
        expected, actual = (f"sha256 {each.sha256}" if each else "no file" for each in digests)
        raise CorruptFileError(
            f"{history_file}: expected {expected}, found {actual}. Left as found; restore "
            "it from a backup."
        )
    with weights_folder(model, found.weights).local_files(found.weights):
        pass
    return found


def _finished(folder: Path, new: Training) -> Training | None:
    """Return the result of an earlier try; `None` if there is none, or its files changed."""
    result = _result(folder)
    if result is None:
        return None
    files, environment = result
    try:
        is_unchanged = files == result_files(folder)
    except CorruptFileError:
        return None
    is_model = is_unchanged and not output_fault(folder, files)
    return replace(new, files=files, environment=environment) if is_model else None


def _result(folder: Path) -> tuple[dict[str, Digest], dict[str, Any]] | None:
    """Read the files and the environment that a finished try recorded; `None` without a result.

    The result has the digest of all inputs of its training. That of another training is not used.
    """
    try:
        data = read_file(folder / "result.json", STATEMENT_LIMIT)
        if data is None:
            return None
        result = parse_json(data, folder)
        files, environment = digests_from_json(result["files"]), result["environment"]
        is_own = result["key"] == folder.name
    except (KeyError, ValueError):
        return None
    return (files, environment) if is_own and isinstance(environment, dict) else None


def _write_result(folder: Path, training: Training) -> None:
    """Write result.json; the training is done when it exists."""
    result = {
        "key": folder.name,
        "files": digests_to_json(training.files),
        "environment": training.environment,
    }
    FolderStore(folder).replace("result.json", json.dumps(result).encode())


def _code_changes(description: Description, model_version: str) -> dict[str, Any]:
    """Return the changes of code during the training, for the recorded environment.

    A process keeps the code that it has imported, so the result of the training is valid.
    """
    changed = {str(k): v for k, v in changed_files(description.code_files).items()}
    for path, how in changed.items():
        logger.warning(
            "%s: %s while %s was trained. The record names the code that the training began with, "
            "and this change.",
            path,
            how,
            model_version,
        )
    return {"code_changed": changed} if changed else {}
