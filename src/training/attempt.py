"""One attempt of a training: the trainer runs in a folder, and what it leaves there is checked.

<folder>/checkpoints/, history.jsonl    kept between attempts
<folder>/output/                        emptied before each attempt
<folder>/environment.json               written by a trainer in Python
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.components.component import COMMAND, Component
from src.components.description import Description, InputChangedError, changed_files
from src.components.hardware import machine
from src.components.output import line_logger
from src.components.process import dataset_values, run_component
from src.components.work import clean, make_folder, remove_tree
from src.digest import Digest
from src.errors import CorruptFileError
from src.records.canonical import MAX_PART_DEPTH, is_deep, parse_json
from src.records.dataset_version import DatasetVersion
from src.records.layout import HISTORY_FILE, HISTORY_LIMIT, WEIGHTS_FOLDER
from src.storage import FolderStore, open_file, read_file
from src.supervision.command import DEFAULTS
from src.supervision.errors import CommandError, CommandStartError, CommandTimeoutError
from src.training.hashing import count_and_hash_once
from src.training.history import History, parse_point
from src.training.settings import TrainingConfig

__all__ = [
    "InputChangedError",
    "TrainerFailedError",
    "TrainingOutputError",
    "check_inputs",
    "checked_files",
    "has_checkpoints",
    "output_fault",
    "result_files",
    "run_trainer",
]

ENVIRONMENT_LIMIT = 1 << 20
LOG_SECONDS = 10.0  # between points of the history in the log
# Names that temporary files of this project have, and names too long to derive one from.
_REFUSED_NAME = re.compile(r"(^|/)(\.[^/]*\.tmp|[^/]{201,})(/|$)")

logger = logging.getLogger(__name__)


class TrainingOutputError(ValueError):
    """Raised when a trainer has left something that is not a model."""


class TrainerFailedError(CommandError):
    """Raised when a trainer failed before it reported a step; another try fails, too."""


def run_trainer(
    config: TrainingConfig,
    dataset: DatasetVersion,
    component: Component,
    model_version: str,
    *,
    work_folder: Path,
    folder: Path,
    is_temporary: bool = False,
    on_point: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Run a trainer as a child process until it has ended.

    Afterwards `folder` has the weights in output/, the checkpoints, and history.jsonl if the
    trainer reported steps.

    Args:
        config: The five settings.
        dataset: The data, as `local_dataset` provides it.
        component: The trainer, with its checked options.
        model_version: The version that it trains.
        work_folder: Where run.json and the lock of its processes are written.
        folder: Where it works, below `work_folder`. If it has checkpoints, the trainer continues
            from them.
        is_temporary: Whether `work_folder` is removed if this process is killed.
        on_point: Receives each point of the history as it comes.

    Returns:
        The environment of the trainer; that of this process if it has written none.

    Raises:
        TrainerFailedError: It failed before its first step.
        CommandError: It failed, could not be started, or took too long.
        OSError: A file cannot be written.
    """
    checkpoints, output = folder / "checkpoints", folder / "output"
    environment_file, history_file = folder / "environment.json", folder / "history.jsonl"
    for each in (work_folder, folder):
        clean(each)
    make_folder(checkpoints)
    remove_tree(output)
    output.mkdir()
    environment_file.unlink(missing_ok=True)
    history = History(history_file)
    has_points, log_line, logged = False, line_logger(logger), time.monotonic()

    def on_line(stream: str, line: str) -> None:
        nonlocal has_points, logged
        point = parse_point(line) if stream == "stdout" else None
        if point is None:
            log_line(line)
            return
        has_points = True
        if component.use == COMMAND:  # a function writes its history itself
            history.append(point)
        on_point(point)
        if time.monotonic() > logged + LOG_SECONDS:
            logged = time.monotonic()
            logger.info("%s: %s", model_version, json.dumps(_scalars(point)))

    values = {
        "model_version": model_version,
        "config": asdict(config),
        **dataset_values(dataset),
        "output": str(output),
        "checkpoints": str(checkpoints),
        "history": str(history_file),
        "environment": str(environment_file),
    }
    try:
        with closing(history):
            run_component(
                component,
                "trainer",
                values,
                folder=work_folder,
                is_temporary=is_temporary,
                timeout_seconds=component.execution.timeout_seconds,
                on_line=on_line,
            )
    except (CommandStartError, CommandTimeoutError):
        raise
    except CommandError as error:
        if has_points or has_checkpoints(folder):
            raise
        raise TrainerFailedError(str(error)) from error
    try:
        data = read_file(environment_file, ENVIRONMENT_LIMIT)
        environment = parse_json(data, environment_file) if data else {}
    except CorruptFileError:  # written by the trainer's code; informative only
        environment = {}
    if is_deep(environment, MAX_PART_DEPTH):
        environment = {}
    return environment or machine({**DEFAULTS, **os.environ})


def _scalars(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point without its lists and objects, such as the lines of a batch."""
    return {name: value for name, value in point.items() if not isinstance(value, list | dict)}


def check_inputs(dataset: DatasetVersion, data: DatasetVersion, description: Description) -> None:
    """Check that the base model and the data did not change during the training.

    Args:
        dataset: The data, for errors.
        data: The data that the trainer has read; see `local_dataset`.
        description: The trainer.

    Raises:
        InputChangedError: One of their files did; names it.
        OSError: One of them cannot be read.
    """
    changed = {str(k): v for k, v in changed_files(description.base_model_files).items()}
    _, digest = count_and_hash_once(open_file(data.path))
    if digest != dataset.sha256:
        changed[dataset.path] = f"changed from sha256 {dataset.sha256} to {digest}"
    if changed:
        raise InputChangedError(
            "\n".join(f"{path}: {how} during the training." for path, how in changed.items())
            + "\nThe model and its checkpoints were discarded; run again."
        )


def checked_files(folder: Path) -> dict[str, Digest]:
    """Return the digests of the weights and the history, after a check that they are a model.

    Raises:
        TrainingOutputError: There is no file of weights, an empty one, one with a name that this
            project uses, or something other than files and folders.
        OSError: A file cannot be read.
    """
    try:
        files = result_files(folder)
    except CorruptFileError as error:
        raise TrainingOutputError(f"{error} A trainer may leave only files and folders.") from error
    if fault := output_fault(folder, files):
        raise TrainingOutputError(fault)
    return files


def output_fault(folder: Path, files: Mapping[str, Digest]) -> str | None:
    """Return why the files of `result_files` are not a model; `None` if they are."""
    weights = [name for name in files if name != HISTORY_FILE]
    if refused := [name for name in weights if _REFUSED_NAME.search(name)]:
        return (
            f"{_output(folder, refused[0])}: expected names of at most 200 characters, and none "
            "like `.name.tmp`, which this project uses."
        )
    if not weights:
        return f"{folder / 'output'}: the trainer has left no file."
    if empty := [name for name in weights if files[name].size == 0]:
        return f"{_output(folder, empty[0])}: the trainer has left an empty file."
    return None


def _output(folder: Path, name: str) -> Path:
    """Return where a trainer has left a file of the model."""
    return folder / "output" / name.removeprefix(f"{WEIGHTS_FOLDER}/")


def result_files(folder: Path) -> dict[str, Digest]:
    """Return the digests of the weights and the history, by path in the folder of the model.

    Raises:
        CorruptFileError: There is something other than a regular file or a folder.
        OSError: A file cannot be read.
    """
    store = FolderStore(folder)
    files = {f"{WEIGHTS_FOLDER}/{name}": each for name, each in store.digests("output").items()}
    history = read_file(folder / "history.jsonl", HISTORY_LIMIT)
    if history:
        files[HISTORY_FILE] = Digest.of(history)
    return files


def has_checkpoints(folder: Path) -> bool:
    """Return whether a trainer has left something to continue from."""
    try:
        return any((folder / "checkpoints").iterdir())
    except OSError:  # what a trainer left there must not hide its error
        return False
