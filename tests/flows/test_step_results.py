"""The cached results of steps in a run: in any store, and in a folder that cannot be written."""

import logging
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from prefect import flow, task

from flows.training_pipeline import training_pipeline
from src.artifacts import Artifacts
from src.storage import StorePath, folder, memo
from tasks.caching import STEP_OPTIONS, VerifiedResult, step_results
from tasks.results import StepResults
from tests.flows.runs import failure, record
from tests.stores import FAULTS, MemoryStore


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_keeps_its_results_only_in_the_store(project, tree, fault):
    artifacts = Artifacts(StorePath(MemoryStore("memory", fault)))
    calls = []

    @task(
        cache_policy=VerifiedResult(
            depends_on=lambda number: [str(number)], stale_reason=lambda result, number: None
        ),
        **STEP_OPTIONS,
    )
    def square(number):
        calls.append(number)
        return {"square": number * number}

    @flow
    def squares(*numbers):
        with step_results(artifacts) as decisions:
            found = [square(number)["square"] for number in numbers]
        return found, decisions.is_cached

    before = tree(project)
    assert squares(3, 4) == ([9, 16], False)
    assert squares(4) == ([16], True)
    assert squares(3) == ([9], True)
    assert calls == [3, 4]
    keys = [file.key for file in artifacts.root.files()]
    assert [key.rpartition("-")[0].rpartition("-")[0] for key in keys] == [".cache/square"] * 2
    assert tree(project) == before


def test_a_run_whose_results_cannot_be_written_completes_and_serves_no_stale_result(
    project, monkeypatch
):
    training_pipeline("config.yaml", "model_v1")
    before = record()
    evaluation = Path("artifacts/evaluations/model_v1/evaluation.json")
    evaluation.unlink()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StepResults, "write_path", full)
    for _ in range(2):
        assert training_pipeline("config.yaml", "model_v1", return_state=True).is_completed()
        assert record() == before


@pytest.fixture
def disk(tmp_path):
    """A small file system."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the permission to mount a file system")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def warnings(caplog) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_on_a_full_disk_a_run_fails_with_the_first_file_it_must_write_and_changes_none(
    project, disk, caplog
):
    root = disk / "artifacts"
    shutil.copytree("artifacts", root)
    training_pipeline("config.yaml", "model_v1", str(root))
    fill(disk)
    before = record(root)
    caplog.clear()
    assert failure(training_pipeline, "config.yaml", "model_v2", str(root)) == (
        f"[Errno 28] No space left on device: '{root}/models/model_v2/provenance.json'"
    )
    assert record(root) == before
    [warning] = warnings(caplog)
    assert warning.startswith("Results of steps are not cached: [Errno 28] No space left on device")


def test_memos_on_a_full_disk_cost_a_run_one_warning(project, disk, caplog, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    monkeypatch.setattr(folder, "RACY_NS", 0)  # new files have memos, too
    memo._warn_once.cache_clear()
    fill(disk)
    assert training_pipeline("config.yaml", "model_v1", return_state=True).is_completed()
    assert warnings(caplog) == [
        f"{disk}/llm-training-pipeline: memos cannot be written: No space left on device. "
        "Continuing without them."
    ]
    assert "Retry" not in caplog.text


def test_a_cache_folder_that_leads_out_of_the_root_is_not_written_to(project, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    Path("artifacts/.cache").symlink_to(outside)
    for _ in range(2):
        assert training_pipeline("config.yaml", "model_v1", return_state=True).is_completed()
    assert list(outside.iterdir()) == []
