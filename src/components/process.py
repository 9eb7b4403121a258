"""Run a component as a child process, which reads its inputs from run.json."""

import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from src.components.child import write_json
from src.components.component import COMMAND, Component
from src.digest import Digest
from src.errors import with_filename
from src.records.dataset_version import DatasetVersion
from src.storage import open_file
from src.supervision.command import Command, run_command

__all__ = [
    "dataset_values",
    "interpreter",
    "local_dataset",
    "missing_interpreter",
    "run_component",
]

CORE = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "trainer": CORE / "training" / "child.py",
    "evaluator": CORE / "evaluation" / "child.py",
}


def interpreter(component: Component) -> str:
    """Return the Python interpreter of a component."""
    python = component.execution.python
    return sys.executable if python is None else str(Path.cwd() / python)


def missing_interpreter(component: Component) -> str | None:
    """Return why a component cannot run here: its interpreter does not exist; else `None`."""
    if Path(interpreter(component)).exists():
        return None
    return (
        f"expected a Python interpreter, found no file {component.execution.python!r}. Create its "
        "environment; `make train-env` creates .venv-train."
    )


@contextmanager
def local_dataset(dataset: DatasetVersion) -> Iterator[DatasetVersion]:
    """Provide the data of a dataset version as a local file, for a component to read.

    Yields:
        The version, with the absolute path of that file.

    Raises:
        FileNotFoundError: The data does not exist; names the file.
        FileChangedError: The data has other contents; see `Store.local_file`.
        OSError: It cannot be read.
    """
    file = open_file(dataset.path)
    found = file.stat()
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    with file.local_file(Digest(found.size, dataset.sha256)) as path:
        yield replace(dataset, path=str(path))


def dataset_values(dataset: DatasetVersion) -> dict[str, Any]:
    """Return the fields of run.json that describe the data that `local_dataset` provides."""
    return {"dataset": dataset.path, "dataset_version": asdict(dataset)}


def run_component(
    component: Component,
    kind: str,
    values: Mapping[str, Any],
    *,
    folder: Path,
    is_temporary: bool = False,
    timeout_seconds: float | None,
    on_line: Callable[[Literal["stdout", "stderr"], str], None],
) -> None:
    """Run a component until it and all its descendants have ended.

    Afterwards `folder` holds run.json, which the component reads, and processes.lock.

    Args:
        component: The component.
        kind: `trainer` or `evaluator`.
        values: The fields of run.json, except those of the component itself.
        folder: A folder for this run. Two runs in one folder never overlap.
        is_temporary: Whether the folder is removed if this process is killed.
        timeout_seconds: The longest time that it may take; not limited if `None`.
        on_line: Receives each line that it prints, immediately.

    Raises:
        CommandError, CommandStartError, CommandTimeoutError: See `src.supervision.command`.
        OSError: run.json cannot be written.
    """
    run_file = folder / "run.json"
    of_component = {
        "describe": None,
        "use": component.use,
        "options": component.options,
        "seed": component.seed,
        "settings": component.execution.settings,
    }
    with with_filename(run_file):
        write_json(run_file, {**of_component, **values})
    argv = [interpreter(component), str(PROGRAMS[kind])]
    command = Command(
        argv=component.argv if component.use == COMMAND else argv,
        cwd=Path.cwd(),
        name=None if component.use == COMMAND else f"{kind} {component.use}",
        run_file=run_file,
        lock=folder / "processes.lock",
        scratch=folder if is_temporary else None,
        timeout_seconds=timeout_seconds,
    )
    run_command(command, on_line=on_line)
