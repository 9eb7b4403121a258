"""The flow against a process or a server that dies."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from flows.training_pipeline import training_pipeline
from src.training import dataset, registry
from tests.flows.conftest import failure, task_runs
from tests.flows.test_training_pipeline import CACHED, COMMAND, ROOT, STEPS, record
from tests.network import free_port

KILLED_BEFORE_EVALUATION = """
import os, signal
from flows.training_pipeline import training_pipeline
from src.evaluation import evaluator
evaluator.evaluate_model = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
training_pipeline("config.yaml", "model_v1")
"""

RUN = "from flows.training_pipeline import training_pipeline as f; f('config.yaml', 'model_v1')"


def python(code: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=env | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_killed_midway_and_run_again_takes_up_where_it_stopped(project, server):
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


def test_two_runs_of_one_version_at_once_leave_one_entry(project, server):
    runs = [python(RUN, server) for _ in range(2)]
    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0, output
    assert [model["model_version"] for model in registry.list_models()] == ["model_v1"]
    before = record()
    training_pipeline("config.yaml", "model_v1")
    assert record() == before


def test_with_no_api_at_the_start_the_command_says_so_and_nothing_is_written(project, server):
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
    assert "error: RuntimeError: Failed to reach API at http://127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr
    assert record() == before


DATA = Path("artifacts/datasets/dataset_v1/data.jsonl")


def test_data_changed_between_runs_is_noticed_though_size_and_time_are_the_same(steps):
    steps()
    before = DATA.stat()
    DATA.write_bytes(DATA.read_bytes().replace(b"a", b"b", 1))
    os.utime(DATA, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (DATA.stat().st_size, DATA.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert "not the data that metadata" in failure(training_pipeline, "config.yaml")


def test_data_written_to_while_it_is_read_is_noticed_and_read_again(project, monkeypatch):
    original = DATA.read_bytes()
    attempts = []

    class Meddled:
        """A hash during whose first use somebody writes to the file, and puts it back."""

        def __init__(self) -> None:
            self.digest = hashlib.sha256()
            self.hexdigest = self.digest.hexdigest

        def update(self, data: bytes) -> None:
            self.digest.update(data)
            attempts.append(data)
            if len(attempts) == 1:
                DATA.write_bytes(original + b"{}")
                DATA.write_bytes(original)

    monkeypatch.setattr(dataset, "hashlib", SimpleNamespace(sha256=Meddled))
    state = training_pipeline("config.yaml", "model_v1", return_state=True)
    runs = task_runs(state.state_details.flow_run_id)
    assert {step: run.run_count for step, run in runs.items()} == dict.fromkeys(STEPS, 1) | {
        "resolve_dataset": 2
    }
    assert registry.get_model("model_v1")["num_training_samples"] == 20


API_GONE = """
import os, signal, sys
from cli.main import main
from src.training import dataset, registry
register_model = registry.register_model
def without_api(*arguments):
    os.kill(int(sys.argv[1]), signal.SIGKILL)
    return register_model(*arguments)
registry.register_model = without_api
main(["run", "config.yaml", "--model-version", "model_v1"])
"""


def test_with_the_api_gone_in_mid_run_the_command_fails_and_the_record_is_whole(project, server):
    port = free_port()
    env = server | {
        "PREFECT_HOME": str(project / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_CLIENT_MAX_RETRIES": "0",  # 5 by default: more than two minutes
        "PYTHONPATH": str(ROOT),
    }
    api = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"{env['PREFECT_API_URL']}/health")
        run = subprocess.run(
            [sys.executable, "-c", API_GONE, str(api.pid)],
            env=env,
            capture_output=True,
            text=True,
        )
    finally:
        api.kill()
        api.wait()
    assert (run.returncode, run.stdout) == (1, "")
    assert "\nerror: Connect" in run.stderr
    before = record()
    assert len(before) == 8
    training_pipeline("config.yaml", "model_v1")
    assert record() == before


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url):
            return
        time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")
