"""docs/operations.md, command by command, and three workers with sixty runs on what it sets up."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import FINAL, ROOT, copy_project, descendants, eventually, free_port

DOCUMENT = (ROOT / "docs/operations.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
PASSWORD = "a secret"
END = "-- end of block --"
WORKERS, RUNS, CONFIGS = 3, 60, 20


class Shell:
    """A bash that is given one block of the document after another."""

    def __init__(self, folder: Path, setup: str) -> None:
        self._bash = subprocess.Popen(
            ["bash", "-m"],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if "PREFECT" not in key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._blocks = iter(BLOCKS)
        self._file = folder / "block.sh"
        self._do(setup)

    def do(self, containing: str) -> str:
        """Run the next block, which is the one that contains these words; give what it printed."""
        block = next(self._blocks)
        assert containing in block
        return self._do(block)

    def _do(self, block: str) -> str:
        # From a file, so that no command of the block reads the ones after it.
        self._file.write_text(block)
        self._bash.stdin.write(f"set -e; . {self._file} < /dev/null; set +e; echo {END}\n")
        self._bash.stdin.flush()
        said = []
        for line in self._bash.stdout:
            if line.endswith(f"{END}\n"):
                return "".join(said)
            said.append(line)
        raise AssertionError(f"{block}\nended with {self._bash.wait()}:\n{''.join(said)}")

    def end(self) -> None:
        assert next(self._blocks, None) is None, "a block of the document was not run"
        self._bash.stdin.close()
        assert self._bash.wait(60) == 0

    def kill(self) -> None:
        for process in [self._bash.pid, *descendants(self._bash.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._bash.wait(60)


@pytest.fixture
def state():
    """A folder that PostgreSQL's own user may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="operations-"))
    folder.chmod(0o755)
    yield folder
    with suppress(FileNotFoundError, ProcessLookupError):  # it was stopped, as it should be
        running = (folder / "state/postgres/postmaster.pid").read_text()
        os.kill(int(running.split()[0]), signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def project(tmp_path):
    project = copy_project(tmp_path / "project")
    (project / ".venv").symlink_to(ROOT / ".venv")
    subprocess.run(
        "git init --quiet && git add --all && "
        "git -c user.name=x -c user.email=x@y.z commit --quiet --message 'The project'",
        shell=True,
        cwd=project,
        check=True,
    )
    template = (project / "configs/training/mistral_finetune.yaml").read_text()
    for n in range(CONFIGS):
        changed = re.sub("learning_rate: .*", f"learning_rate: {n + 1}e-6", template)
        (project / f"configs/training/at_once_{n}.yaml").write_text(changed)
    return project


def registered(project):
    registry = json.loads((project / "artifacts/models/registry.json").read_text())
    return [model["model_version"] for model in registry["models"]]


def run_all_at_once(api, deployment, project):
    before = registered(project)
    ids = []
    for n in range(RUNS):
        parameters = {"training_config_path": f"configs/training/at_once_{n % CONFIGS}.yaml"}
        created = api.post(
            f"deployments/{deployment}/create_flow_run", json={"parameters": parameters}
        )
        ids.append(created.json()["id"])

    def all_ended():
        runs = api.post("flow_runs/filter", json={"flow_runs": {"id": {"any_": ids}}}).json()
        ended = [run["state_name"] for run in runs if run["state_type"] in FINAL]
        return ended if len(ended) == RUNS else None

    assert eventually(all_ended, seconds=420, every=2) == ["Completed"] * RUNS
    new = [version for version in registered(project) if version not in before]
    assert len(new) == len(set(new)) == CONFIGS
    for version in new:
        metadata = json.loads((project / f"artifacts/models/{version}/metadata.json").read_text())
        assert metadata["model_version"] == version
        assert (project / f"artifacts/evaluations/{version}/evaluation.json").exists()


def test_the_commands_of_the_document_work_in_its_order(project, state):
    port, pg_port = free_port(), free_port()
    shell = Shell(
        project,
        f"STATE={state}/state PORT={port} PGPORT={pg_port} PASSWORD='{PASSWORD}'\n"
        'export PREFECT_HOME="$STATE/home"',
    )
    api = httpx.Client(
        base_url=f"http://127.0.0.1:{port}/api/", auth=("admin", PASSWORD), timeout=60
    )
    try:
        shell.do("initdb")
        shell.do("server start")
        assert httpx.post(f"{api.base_url}deployments/filter", json={}).status_code == 401
        shell.do("deploy --all")
        assert "Completed" in shell.do("worker start")
        assert registered(project) == ["from_operations"]

        deployment = api.get("deployments/name/training-pipeline/train").json()["id"]
        run_all_at_once(api, deployment, project)

        assert "Completed" in shell.do("git_clone")
        assert "from_a_clone" in registered(project)
        shell.do("ops.notify")
        before = record(project)
        shell.do("flock")
        assert "Completed" in shell.do("tar --extract")
        assert record(project) == before
        shell.do("database upgrade")
        shell.do("pg_ctl")
        shell.end()
    finally:
        shell.kill()
        api.close()


def record(project):
    return {
        str(path.relative_to(project)): path.read_bytes()
        for folder in ("models", "evaluations")
        for path in sorted((project / "artifacts" / folder).rglob("*"))
        if path.is_file()
    }
