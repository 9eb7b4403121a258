"""Retraining: train a recorded model again in a temporary folder, and compare the weights."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from src.artifacts import Artifacts, history_path, weights_folder
from src.components.description import Description, InputChangedError, describe
from src.components.process import local_dataset
from src.components.work import temporary_folder
from src.digest import Digest
from src.errors import CorruptFileError
from src.lineage.configs import recorded_config
from src.lineage.verify.divergence import (
    changed_names,
    environment_differences,
    first_step_difference,
)
from src.lineage.verify.evidence import DatasetEvidence, ModelEvidence
from src.records.layout import DATA_FILE
from src.records.metadata import all_differences
from src.records.statement import Statement, weights_of
from src.storage import StorePath, open_path
from src.tensors import TensorComparison, compare_tensors
from src.training.attempt import check_inputs, checked_files, run_trainer
from src.training.config import ConfigFile
from src.training.dataset import DatasetVersion
from src.training.history import read_history
from src.training.trained import Training, recorded_training

__all__ = ["OnPoint", "Retraining", "retrain"]

OnPoint = Callable[[str, Mapping[str, Any]], None]
"""Receives the model version and each point of the history of its training, as it comes."""

TENSORS = ".safetensors"
MAX_DIFFERENCES = 5

logger = logging.getLogger(__name__)


class InputsDifferError(ValueError):
    """Raised when a model cannot be trained from its recorded inputs, because one differs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retraining:
    """A training from the recorded inputs of a model, compared with the recorded weights.

    Attributes:
        reason: Why there are no weights to compare: the trainer could not run, failed, or changed
            its inputs; empty if the weights were compared.
        has_other_inputs: Whether the reason is an input that is not as recorded; then nothing was
            trained.
        differences: The files of the weights that differ, each with how it differs, by name.
        equal: The files that have the same tensors in other bytes, by name.
        first_step: The first step at which the histories differ, and how; empty if they are equal.
        code: The files of the trainer's code that are not as recorded.
        environment: The facts of the environment that are not as recorded.
        altered: The files that were altered after they were recorded and whose recorded bytes
            were trained again, each with the tensors that were altered.
    """

    reason: str = ""
    has_other_inputs: bool = False
    differences: tuple[str, ...] = ()
    equal: tuple[str, ...] = ()
    first_step: str = ""
    code: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()


def retrain(
    evidence: ModelEvidence,
    dataset: DatasetEvidence | None,
    config_file: ConfigFile | None,
    artifacts: Artifacts,
    on_point: OnPoint,
) -> Retraining | None:
    """Train a model again from its recorded config, options, seed, data and base model.

    The trainer is that of the config, because code is never taken from the record. It works in a
    temporary folder, which is removed; no file of the model is changed. No error is raised for a
    training that cannot be repeated; the result has the reason.

    Args:
        evidence: The files of the model.
        dataset: Its dataset, as it is now.
        config_file: The config that names the trainer; that of the model if `None`.
        artifacts: The artifacts root.
        on_point: Receives step 0 at the start, and each point of the new training as it comes.

    Returns:
        The comparison; `None` if the record has no training, or no statement that can be parsed.
    """
    if (statement := evidence.statement.value) is None:
        return None
    try:
        recorded = recorded_training(statement, evidence.statement.path)
        if recorded is None:
            return None
        config_file = config_file or recorded_config(statement, artifacts)
        data = _recorded_data(statement, dataset)
        trainer = _recorded_trainer(statement, recorded, config_file)
        return _train_and_compare(
            evidence,
            recorded,
            config_file,
            data,
            trainer,
            artifacts.models / evidence.version,
            on_point,
        )
    except InputsDifferError as error:
        return Retraining(reason=str(error), has_other_inputs=True)
    except (OSError, ValueError) as error:
        return Retraining(reason=str(error))


def _recorded_data(statement: Statement, dataset: DatasetEvidence | None) -> DatasetVersion:
    """Return the dataset, after a check that it is the recorded one."""
    if dataset is None or dataset.version is None:
        raise ValueError(dataset.reason if dataset else "the record names no dataset.")
    expected = statement.digest("dataset")
    if dataset.version.sha256 != expected:
        raise InputsDifferError(
            f"{DATA_FILE}: sha256 {expected} recorded, {dataset.version.sha256} now"
        )
    return replace(dataset.version, metadata_sha256=statement.digest("dataset metadata"))


def _recorded_trainer(
    statement: Statement, recorded: Training, config_file: ConfigFile
) -> Description:
    """Describe the trainer of a config, after a check that all but its code is as recorded."""
    trainer, source = config_file.trainer, config_file.component_path
    if trainer is None:
        raise InputsDifferError(f"{config_file.path}: names no trainer")
    config = asdict(config_file.config)
    _check_same(statement.parameters.get("config"), config, f"in {config_file.path}")
    found = describe(trainer, "trainer", source, config)
    if found.identity()["code"] != recorded.trainer["code"]:
        # Other code may have other defaults, which must not take the place of recorded options.
        trainer = replace(trainer, options={**recorded.options, **trainer.options})
        found = describe(trainer, "trainer", source, config)
    new = Training.of(found)
    _check_same(_without_code(recorded.trainer), _without_code(new.trainer), "now", "trainer.")
    _check_same(recorded.inputs()["base_model"], new.inputs()["base_model"], "now", "base model: ")
    return found


def _without_code(trainer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in trainer.items() if key != "code"}


def _check_same(recorded: Any, found: Mapping[str, Any], now: str, prefix: str = "") -> None:
    recorded = recorded if isinstance(recorded, Mapping) else {}
    if differences := all_differences(recorded, found):
        texts = [prefix + each.text("recorded", now) for each in differences[:MAX_DIFFERENCES]]
        raise InputsDifferError("; ".join(texts))


def _train_and_compare(
    evidence: ModelEvidence,
    recorded: Training,
    config_file: ConfigFile,
    dataset: DatasetVersion,
    trainer: Description,
    model: StorePath,
    on_point: OnPoint,
) -> Retraining:
    on_disk = weights_of(evidence.files.digests)
    history = read_history(history_path(model, recorded.files))
    with temporary_folder() as work_folder:
        folder = work_folder / "training"
        folder.mkdir()
        logger.info("%s: trainer %s starts again.", evidence.version, trainer.component.use)
        on_point(evidence.version, {"step": 0})
        with local_dataset(dataset) as data:
            environment = run_trainer(
                config_file.config,
                data,
                trainer.component,
                evidence.version,
                work_folder=work_folder,
                folder=folder,
                is_temporary=True,
                on_point=lambda point: on_point(evidence.version, point),
            )
            check_inputs(dataset, data, trainer)
        new = weights_of(checked_files(folder))
        differences, equal = [], []
        with _unchanged_weights(weights_folder(model, recorded.weights), evidence) as weights:
            compare = partial(_compare_tensors, weights, folder / "output")
            for file in changed_names(recorded.weights, new):
                is_intact = on_disk.get(file) == recorded.weights.get(file)
                comparison = compare(file) if is_intact and file in new else None
                if comparison is not None and comparison.is_equal:
                    equal.append(f"{file}: {comparison}")
                else:
                    change = comparison or _change(recorded.weights.get(file), new.get(file))
                    differences.append(f"{file}: {change}")
            altered = [
                f"{file}: {comparison}"
                for file in changed_names(recorded.weights, on_disk)
                if recorded.weights.get(file) == new.get(file) and (comparison := compare(file))
            ]
        new_history = read_history(open_path(folder) / "history.jsonl")
    return Retraining(
        differences=tuple(differences),
        equal=tuple(equal),
        first_step=first_step_difference(history, new_history),
        code=tuple(_changed_code(recorded, Training.of(trainer))),
        environment=tuple(environment_differences(recorded.environment, environment)),
        altered=tuple(altered),
    )


@contextmanager
def _unchanged_weights(weights: StorePath, evidence: ModelEvidence) -> Iterator[Path | None]:
    """Provide the weights on disk, after a check that they did not change during the training.

    Yields:
        Their folder; `None` if they cannot be read.
    """
    if evidence.files.reason:
        yield None
        return
    with ExitStack() as stack:
        try:
            files = weights.local_files(weights_of(evidence.files.digests))
            folder = stack.enter_context(files)
        except CorruptFileError as error:
            reason = "changed during the training. Restore a backup."
            raise InputChangedError(f"{weights}: {reason}") from error
        yield folder


def _compare_tensors(weights: Path | None, output: Path, name: str) -> TensorComparison | None:
    """Compare a file of the model with that of the new training; `None` if it has no tensors."""
    if not name.endswith(TENSORS) or weights is None:
        return None
    try:
        return compare_tensors(weights / name, output / name)
    except (OSError, CorruptFileError):  # there is no such file, or it is not of this format
        return None


def _change(recorded: Digest | None, new: Digest | None) -> str:
    if recorded is None or new is None:
        return "recorded, but not trained again" if recorded else "trained again, but not recorded"
    return f"sha256 {recorded.sha256} recorded, {new.sha256} now"


def _changed_code(recorded: Training, new: Training) -> list[str]:
    """Return the files of the code that are not as recorded, or the version of it."""
    if recorded.version != new.version:
        return [f"version {recorded.version} recorded, {new.version} now"]
    return changed_names(recorded.code, new.code)
