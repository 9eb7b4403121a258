"""Fixtures of the core's tests: a project, an artifacts root on each back end, other processes."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings

from src import storage
from src.artifacts import Artifacts, history_path, read_statement, weights_folder
from src.records.statement import weights_of
from src.storage import Store, StorePath
from tests.databases import Homes
from tests.examples import CONFIG, DATA, DATA_SHA256, METADATA
from tests.stores import FAULTS, MemoryBucket, MemoryServer, MemoryStore

pytest_plugins = ["tests.object_store.fixtures"]

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100 if os.environ.get("TORTURE") else 30,
)
settings.load_profile("suite")

# Tests and their processes never use the artifacts root of the shell that runs them.
os.environ.pop("LLM_TRAIN_ARTIFACTS", None)

# A shell without job control starts background jobs with SIGINT ignored, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent
UNMEASURED = {
    "cli",
    "e2e",
    "e2e_train",
    "flows",
    "lineage/verify/test_statements.py",
    "ops",
    "tasks",
    "torture",
    "transfer/test_bucket_faults.py",
}
BACK_ENDS = ("folder", *(f"memory, {fault}" for fault in FAULTS))

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
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)  # only half was written
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure coverage only in examples of the core.

    It doubles the CPU time of all Python in a process: of Prefect, and of Hypothesis.
    """
    for item in items:
        path = item.path.relative_to(REPOSITORY / "tests")
        is_unmeasured = not UNMEASURED.isdisjoint({path.parts[0], str(path)})
        if is_unmeasured or is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(autouse=True, scope="session")
def _cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the memos of the tests, and of the processes they start, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """Prefect home folders for servers; the processes of pytest-xdist share their template."""
    folder = tmp_path_factory.getbasetemp()
    return Homes(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


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


@pytest.fixture(params=BACK_ENDS)
def artifacts(request: pytest.FixtureRequest, project: Path) -> Artifacts:
    """The artifacts root of the project, on each back end in turn.

    All back ends name the root `artifacts`, so messages are equal.
    """
    return stored(project / "artifacts", request.param)


def stored(folder: Path, back_end: str) -> Artifacts:
    """Return an artifacts root with the files of `folder`, which is `artifacts` below the cwd."""
    if back_end == "folder":
        return Artifacts.open("artifacts")
    store = MemoryStore("artifacts", back_end.removeprefix("memory, "))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.replace(str(path.relative_to(folder)), path.read_bytes())
    artifacts = Artifacts(StorePath(store))
    for key in [*store.server.objects]:
        store.server.objects[placed(artifacts, key)] = store.server.objects.pop(key)
    return artifacts


def placed(artifacts: Artifacts, key: str) -> str:
    """Return the key that a file has on a back end, by its key in a folder; see `Store.place`."""
    folder, _, name = key.removeprefix("models/").partition("/")
    model = artifacts.models / folder
    if not key.startswith("models/") or not name.startswith(("weights/", "training.jsonl")):
        return key
    statement = read_statement(model)
    files = statement.files if statement else {}
    if name == "training.jsonl":
        return history_path(model, files).key
    return (weights_folder(model, weights_of(files)) / name.removeprefix("weights/")).key


@pytest.fixture
def memory_url(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty object store in the memory of this process."""
    open_in_memory(monkeypatch, MemoryServer())
    return "memory://bucket/artifacts"


def open_in_memory(patch: pytest.MonkeyPatch, server: MemoryServer) -> None:
    """Make `open_path` accept the addresses `memory://bucket/...`."""
    open_store = storage.open_store

    def opened(url: str) -> Store:
        if not url.startswith("memory://bucket"):
            return open_store(url)
        prefix = url.removeprefix("memory://bucket").strip("/")
        return MemoryStore(url.rstrip("/"), server=MemoryBucket(server, f"{prefix}/"))

    patch.setattr(storage, "open_store", opened)


@pytest.fixture
def files() -> Callable[[Artifacts], dict[str, bytes]]:
    """Return every file below an artifacts root: its key, and its bytes."""

    def files(artifacts: Artifacts) -> dict[str, bytes]:
        found = {file.key: artifacts.root / file.key for file in artifacts.root.files()}
        return {key: path.read(1 << 20) or b"" for key, path in found.items()}

    return files


@pytest.fixture
def metadata() -> dict[str, Any]:
    """The metadata.json of `model_v1`, trained on the project's config and dataset."""
    return deepcopy(METADATA)


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Return every file below a folder: its relative path, and its bytes."""

    def tree(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return tree


@pytest.fixture
def warnings() -> Iterator[list[tuple[str, str]]]:
    """The warnings of the core, each as level and message."""
    found: list[tuple[str, str]] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append((record.levelname, record.getMessage()))
    logger = logging.getLogger("src")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


@pytest.fixture
def empty_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write reports without charts, whether the extra `report` is installed or not."""
    monkeypatch.setattr("src.report.page.check_extra", lambda: None)
    monkeypatch.setattr("src.report.page.chart_specs", dict)
    monkeypatch.setattr("src.report.page.javascript", str)


class Child:
    """Another Python process; the test talks to it line by line."""

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
        """Return the next line that the process prints."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def say(self, line: str = "go") -> None:
        """Send the process a line."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait until the process has ended with exit code 0; return the rest of its output."""
        out, err = self.process.communicate(timeout=600)  # against a hang
        assert self.process.returncode == 0, err
        return out.strip()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Start other Python processes; all are killed at the end of the test."""
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
def concurrently(start: Callable[..., Child]) -> Callable[..., list[str]]:
    """Run code in several processes at the same time; return the output of each.

    The imports of the code come first, separated from it by a line `---`.
    """

    def concurrently(code: str, *arguments: tuple[object, ...]) -> list[str]:
        imports, work = code.split("---\n")
        whole = f"import sys\n{imports}\nprint('ready', flush=True)\ninput()\n{work}"
        children = [start(whole, *each) for each in arguments]
        assert [child.hear() for child in children] == ["ready"] * len(children)
        for child in children:
            child.say()
        return [child.end() for child in children]

    return concurrently


@pytest.fixture
def crashes(start: Callable[..., Child]) -> Callable[[str, Path], list[Path]]:
    """Kill a process before and after each of its system calls that change files.

    Receives the source of a function `work()` and the folder it works in. Returns a copy of that
    folder for every kill, as the process left it; the last copy is of a process that survived.
    """

    def crashes(work: str, folder: Path) -> list[Path]:
        start(CRASHES.format(work=work), folder).end()
        return sorted(folder.parent.glob("step_*"))

    return crashes
