"""The work folder of a model version: where a trainer works, until its result is in the record.

<root>/.work/.<model version>.lock           held while a run trains or evaluates the version
<root>/.work/<model version>/run.json        inputs of the trainer; see `LLM_TRAIN_RUN`
<root>/.work/<model version>/processes.lock  held while a process of the trainer lives
<root>/.work/<model version>/<digest>/       for the digest of all that the training depends on:
    checkpoints/, history.jsonl              kept between tries
    output/                                  emptied before each try
    environment.json                         of the last try; written by a trainer in Python
    result.json                              written when output/ is complete; names <digest>
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from tempfile import mkdtemp
from typing import NamedTuple

from src.components.child import RUN_VARIABLE
from src.records.canonical import parse_json
from src.records.layout import METADATA_LIMIT, WORK_FOLDER
from src.storage import StorePath, read_file
from src.storage.locking import lock, unlock

__all__ = [
    "Work",
    "clean",
    "has_lock",
    "locked_work",
    "make_folder",
    "remove_tree",
    "remove_work",
    "temporary_folder",
]

# What is a regular file in a work folder, or in a folder below it.
_FILES = ("run.json", "processes.lock", "environment.json", "history.jsonl", "result.json")
_FILES_AND_TEMPORARY = {*_FILES, *(f".{name}.tmp" for name in _FILES)}

logger = logging.getLogger(__name__)


class Work(NamedTuple):
    """The work folder of a version, which this process has locked."""

    folder: Path

    def training_folder(self, key: str) -> Path:
        """Return the folder for a digest of all that the training depends on."""
        path = self.folder / key
        make_folder(path)
        return path

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        remove_tree(self.folder)


@contextmanager
def locked_work(models: StorePath, model_version: str) -> Iterator[Work]:
    """Lock the work folder of a version; wait while another run trains or evaluates the version.

    Args:
        models: The folder of all model versions, beside which the work folder lies.
        model_version: The version.

    Raises:
        ValueError: A trainer or evaluator of this version runs this process, and so the lock would
            never be free.
        OSError: The folder or its lock file cannot be created.
    """
    folder = (models.parent / WORK_FOLDER).local_folder()
    path = folder / _lock_name(model_version)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        if not lock(descriptor, 0.0):
            _check_not_nested(path, model_version)
            logger.info("%s: another run trains or evaluates this version. Waiting.", path)
            os.close(descriptor)
            descriptor = os.open(path, flags, 0o666)
            lock(descriptor, None)
        try:
            make_folder(folder / model_version)
            yield Work(folder / model_version)
        finally:
            with suppress(OSError):  # it has files if the training is not in the record yet
                (folder / model_version).rmdir()
            unlock(descriptor)
    finally:
        os.close(descriptor)


def _check_not_nested(path: Path, model_version: str) -> None:
    """Check that the holder of a lock does not wait for this process."""
    run = None
    with suppress(KeyError, OSError, ValueError):  # variables that a user has set
        run = parse_json(read_file(Path(os.environ[RUN_VARIABLE]), METADATA_LIMIT) or b"", path)
    if run is not None and run.get("model_version") == model_version:
        raise ValueError(
            f"{path}: locked by the run whose trainer or evaluator started this one. A component "
            "of a version cannot train or evaluate the same version. Use another version."
        )


def has_lock(models: StorePath, model_version: str) -> bool:
    """Return whether a run has ever locked the work folder of a version."""
    return (models.parent / WORK_FOLDER / _lock_name(model_version)).stat() is not None


def _lock_name(model_version: str) -> str:
    return f".{model_version}.lock"  # no version begins with a dot


def remove_work(models: StorePath, model_version: str) -> None:
    """Remove the work folder of a version, if there is one; its training is in the record."""
    if ((models.parent / WORK_FOLDER).local_folder() / model_version).exists():
        with locked_work(models, model_version) as work:
            work.remove()


def clean(folder: Path) -> None:
    """Remove what no run creates in a folder: links, FIFOs, sockets, devices; folders for files.

    Through a link in place of a file, a run would write to its target. Folders below `folder` are
    not cleaned.
    """
    for path in [*folder.iterdir()]:
        mode = path.lstat().st_mode
        if S_ISDIR(mode):
            if path.name in _FILES_AND_TEMPORARY:
                remove_tree(path)
        elif not S_ISREG(mode):
            path.unlink()


def remove_tree(path: Path) -> None:
    """Remove a folder with everything in it, or a link or a file of its name.

    A trainer can leave folders that are nested too deeply for `shutil.rmtree`, or read-only.

    Raises:
        OSError: It cannot be removed.
    """
    if _run("rm", "-rf", "--", str(path)) is not None:
        # Not the modes of files: they may have another name elsewhere, by a hard link.
        _run("find", str(path), "-type", "d", "-exec", "chmod", "u+rwx", "{}", ";")
        if (error := _run("rm", "-rf", "--", str(path))) is not None:
            raise OSError(f"{path}: {error}")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder, and remove it with all that a component can leave there."""
    folder = Path(mkdtemp(prefix="llm-train-"))
    try:
        yield folder
    finally:
        remove_tree(folder)


def _run(*command: str) -> str | None:
    """Run a program of the user's PATH; return its stderr if it fails."""
    import subprocess  # slow to import

    done = subprocess.run(  # noqa: S603
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.stderr.decode(errors="replace").strip()[:500] if done.returncode else None


def make_folder(path: Path) -> None:
    """Create a folder; remove a link or a file of its name, which no run creates."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    path.mkdir(exist_ok=True)
