"""The flow against a process or a server that dies, and data that changes."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from flows.training_pipeline import training_pipeline
from ops.server import ServerProcess, listen
from src.training import hashing, registry
from tests.flows.runs import CACHED, COMMAND, ROOT, STEPS, failure, python, record, task_runs
from tests.network import STARTUP_SECONDS, free_port

KILLED_BEFORE_EVALUATION = """
import os, signal
from flows.training_pipeline import training_pipeline
from src.evaluation import evaluator
evaluator.evaluate_model = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
training_pipeline("config.yaml", "model_v1")
"""

RUN = "from flows.training_pipeline import training_pipeline as f; f('config.yaml', 'model_v1')"


def test_a_killed_run_continues_at_the_step_that_was_killed(project, server):
    killed = python(KILLED_BEFORE_EVALUATION, server)
    output, _ = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, output
    assert not Path("artifacts/evaluations").exists()
    state = training_pipeline("config.yaml", "model_v1", return_state=True)
    states = {
        step: run.state.name for step, run in task_runs(state.state_details.flow_run_id).items()
    }
    assert states == CACHED | {"evaluate": "Completed"}
    assert len(registry.list_models()) == 1


def test_two_concurrent_runs_of_one_version_leave_one_entry(project, server):
    runs = [python(RUN, server) for _ in range(2)]
    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0, output
    assert [model["model_version"] for model in registry.list_models()] == ["model_v1"]
    before = record()
    training_pipeline("config.yaml", "model_v1")
    assert record() == before


def test_without_an_api_the_command_fails_at_the_start_and_writes_no_file(project, server):
    before = record()
    done = subprocess.run(
        [
            *[sys.executable, "-c", COMMAND, "run", str(project / "config.yaml")],
            *["--artifacts-dir", str(project / "artifacts")],
        ],
        cwd=ROOT,
        env=server | {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "/api: no Prefect server answers: [Errno 111] Connection refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert record() == before


DATA = Path("artifacts/datasets/dataset_v1/data.jsonl")


def test_data_that_changed_between_runs_is_detected_despite_equal_size_and_mtime(steps, reads):
    steps()
    steps()
    assert len(reads) == 1  # unchanged data is not read again
    before = DATA.stat()
    recorded = hashlib.sha256(DATA.read_bytes()).hexdigest()
    DATA.write_bytes(DATA.read_bytes().replace(b"a", b"b", 1))
    os.utime(DATA, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (DATA.stat().st_size, DATA.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    found = hashlib.sha256(DATA.read_bytes()).hexdigest()
    assert failure(training_pipeline, "config.yaml") == (
        f"{DATA}: does not match its metadata.json:\n"
        f"  dataset_hash: recorded '{recorded}', found '{found}'\n"
        "Build the dataset again under a new version, or restore the recorded data."
    )
    assert len(reads) > 1


def test_data_that_is_written_to_while_it_is_read_is_read_again(project, monkeypatch):
    original = DATA.read_bytes()
    attempts = []

    class Meddled:
        """A hash during whose first use another process writes to the file, and restores it."""

        def __init__(self) -> None:
            self.digest = hashlib.sha256()
            self.hexdigest = self.digest.hexdigest

        def update(self, data: bytes) -> None:
            self.digest.update(data)
            attempts.append(data)
            if len(attempts) == 1:
                DATA.write_bytes(original + b"{}")
                DATA.write_bytes(original)

    monkeypatch.setattr(hashing, "hashlib", SimpleNamespace(sha256=Meddled))
    state = training_pipeline("config.yaml", "model_v1", return_state=True)
    runs = task_runs(state.state_details.flow_run_id)
    assert {step: run.run_count for step, run in runs.items()} == dict.fromkeys(STEPS, 1) | {
        "resolve_dataset": 2
    }
    assert registry.get_model("model_v1")["num_training_samples"] == 20


API_KILLED = """
import os, signal, sys
from cli.main import main
from src.training import registry
register_model = registry.register_model
def without_api(*arguments):
    os.kill(int(sys.argv[1]), signal.SIGKILL)
    return register_model(*arguments)
registry.register_model = without_api
main(["run", "config.yaml", "--model-version", "model_v1"])
"""


def test_with_an_api_that_dies_during_the_run_the_command_fails_and_the_files_are_complete(
    project, server, homes
):
    env = server | {
        "PREFECT_HOME": str(homes.create(project / "home")),
        "PREFECT_CLIENT_MAX_RETRIES": "0",  # 5 by default: more than two minutes
        "PYTHONPATH": str(ROOT),
    }
    with (project / "server.log").open("w+b") as log:
        api = ServerProcess(listen(), env=env, log=log)
        try:
            api.wait_until_ready(STARTUP_SECONDS)
            run = subprocess.run(
                [sys.executable, "-c", API_KILLED, str(api.process.pid)],
                env=env | {"PREFECT_API_URL": api.api_url},
                capture_output=True,
                text=True,
            )
        finally:
            api.stop()
    assert (run.returncode, run.stdout) == (1, "")
    assert "\nerror: the Prefect server does not answer: Connect" in run.stderr
    before = record()
    assert len(before) == 8
    training_pipeline("config.yaml", "model_v1")
    assert record() == before
