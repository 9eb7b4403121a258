"""What the tests of the core share: a project to work in, and other processes to work beside."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.examples import CONFIG, DATA, DATA_SHA256, METADATA

settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

REPOSITORY = Path(__file__).parent.parent

CRASHES = """
import os, shutil, stat, sys
from pathlib import Path

folder = Path(sys.argv[1])

def dying(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            if function is fsync and stat.S_ISREG(os.fstat(args[0]).st_mode):
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)  # half of it was written
            os._exit(9)
        result = function(*args, **kwargs)
        left -= 1
        if left == 0:
            os._exit(9)
        return result
    return call

{work}

fsync, left = os.fsync, 0
for step in range(1, 1000):
    here = folder.with_name(f"step_{{step:03}}")
    shutil.copytree(folder, here)
    process = os.fork()
    if process == 0:
        os.chdir(here)
        left = step
        for name in ("fsync", "link", "mkdir", "open", "replace", "unlink"):
            setattr(os, name, dying(getattr(os, name)))
        work()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code != 9:
        sys.exit(code)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one config and one dataset of three samples; the working directory."""
    folder = tmp_path / "project"
    (folder / "configs/training").mkdir(parents=True)
    (folder / "configs/training/mistral_finetune.yaml").write_text(CONFIG)
    dataset = folder / "artifacts/datasets/dataset_v1"
    dataset.mkdir(parents=True)
    (dataset / "data.jsonl").write_bytes(DATA)
    record = {"dataset_version": "dataset_v1", "num_samples": 3, "dataset_hash": DATA_SHA256}
    (dataset / "metadata.json").write_text(json.dumps(record))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def metadata() -> dict[str, Any]:
    """What metadata.json says of `model_v1`, trained on the project's config and dataset."""
    return deepcopy(METADATA)


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Give every file below a folder: its path from there, and its bytes."""

    def tree(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return tree


@pytest.fixture
def warnings() -> Iterator[list[tuple[str, str]]]:
    """What the core warns of, each as level and message, whatever else listens or not."""
    found: list[tuple[str, str]] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append((record.levelname, record.getMessage()))
    logger = logging.getLogger("src")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


class Child:
    """Another Python process, to which this one talks line by line."""

    def __init__(self, code: str, *args: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def hear(self) -> str:
        """Wait for the next line that the process prints."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def say(self, line: str = "go") -> None:
        """Give the process a line to read."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait until the process has ended well; give what else it printed."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out.strip()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Start other Python processes; none outlives the test."""
    children: list[Child] = []

    def start(code: str, *args: object) -> Child:
        children.append(Child(code, *args))
        return children[-1]

    yield start
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
            child.process.communicate()


@pytest.fixture
def at_once(start: Callable[..., Child]) -> Callable[..., list[str]]:
    """Run code in several processes that all begin it together; give what each printed.

    The code stands after the imports it needs, split from them by a line `---`.
    """

    def at_once(code: str, *arguments: tuple[object, ...]) -> list[str]:
        imports, work = code.split("---\n")
        whole = f"import sys\n{imports}\nprint('ready', flush=True)\ninput()\n{work}"
        children = [start(whole, *each) for each in arguments]
        assert [child.hear() for child in children] == ["ready"] * len(children)
        for child in children:
            child.say()
        return [child.end() for child in children]

    return at_once


@pytest.fixture
def crashes(start: Callable[..., Child]) -> Callable[[str, Path], list[Path]]:
    """Kill a process before and after each of its system calls that change files.

    Gets the source of a function `work()` and the folder it works in. Gives one copy of that
    folder for every place to die, as the dead process left it; the last is of one that lived.
    """

    def crashes(work: str, folder: Path) -> list[Path]:
        start(CRASHES.format(work=work), folder).end()
        return sorted(folder.parent.glob("step_*"))

    return crashes
