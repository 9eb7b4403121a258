"""The commands on an artifacts root that is the address of an object store."""

import json
import shutil
from pathlib import Path

import pytest

from src.storage import open_path
from tests.examples import DATA

CONFIG = "configs/training/mistral_finetune.yaml"


@pytest.fixture
def url(project, memory_url, monkeypatch):
    """The address of an empty root, which a variable sets; there is no folder `artifacts`."""
    shutil.move("artifacts/datasets/dataset_v1/data.jsonl", "data.jsonl")
    shutil.rmtree("artifacts")
    monkeypatch.setenv("LLM_TRAIN_ARTIFACTS", memory_url)
    yield memory_url
    made = {path.name for path in project.iterdir()}
    assert made <= {"configs", "data.jsonl", "out", "report.html"}


@pytest.fixture
def model(url, llm_train):
    """The output of the run that made `model_v1`."""
    assert llm_train("dataset", "add", "data.jsonl", "dataset_v1").exit_code == 0
    done = llm_train("run", CONFIG, "--model-version", "model_v1", "--local")
    assert done.exit_code == 0, done.stderr
    return done


def test_a_dataset_is_added_listed_shown_and_compared(url, llm_train):
    done = llm_train("dataset", "add", "data.jsonl", "dataset_v1", "--source", "by hand")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{url}/datasets/dataset_v1/data.jsonl: added; 3 samples, sha256")
    again = llm_train("dataset", "add", f"{url}/datasets/dataset_v1/data.jsonl", "dataset_v2")
    assert again.stdout.startswith(f"{url}/datasets/dataset_v2/data.jsonl: added; 3 samples")
    rows = llm_train("dataset", "list").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["dataset_version", "dataset_v1", "dataset_v2"]
    shown = llm_train("dataset", "show", "dataset_v1")
    assert shown.stdout.startswith(f"{url}/datasets/dataset_v1/data.jsonl: 3 samples")
    assert llm_train("dataset", "diff", "dataset_v1", "dataset_v2").exit_code == 0
    missing = llm_train("dataset", "add", f"{url}/none.jsonl", "dataset_v3")
    assert (missing.exit_code, missing.stderr) == (2, f"error: {url}/none.jsonl: no such file.\n")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["models"], "model_v1"),
        (["show", "model_v1"], "memory://bucket/artifacts/models/model_v1/metadata.json"),
        (["verify", "model_v1"], "MATCH"),
        (["verify", "--all"], "MATCH     model_v1"),
        (["compare", "model_v1", "model_v1"], "No difference"),
        (["trace", "model_v1"], "datasets/dataset_v1/data.jsonl"),
        (["trace", "--dataset", "dataset_v1"], "model_v1"),
        (["trace", "--file", "data.jsonl"], "model_v1"),
        (["trace", "--line", DATA.splitlines()[0].decode()], "dataset_v1"),
        (["evaluate", "model_v1"], '"model_version": "model_v1"'),
        (["run", CONFIG, "--dry-run", "--local"], "memory://bucket/artifacts/models/"),
    ],
)
def test_a_command_reads_the_record_of_a_model(model, llm_train, arguments, found):
    done = llm_train(*arguments)
    assert done.exit_code == 0, done.stderr
    assert found in done.stdout
    assert "memory:/b" not in done.output


def test_a_run_prints_the_evaluation(model):
    assert json.loads(model.stdout)["model_version"] == "model_v1"
    assert "memory:/b" not in model.output


def test_a_run_with_other_values_writes_its_config_to_the_root(model, url, llm_train):
    done = llm_train("run", CONFIG, "--set", "epochs=4", "--local")
    assert done.exit_code == 0, done.stderr
    [config] = [file.key for file in (open_path(url) / "sweeps").files()]
    again = llm_train("run", f"{url}/{config}", "--local")
    assert again.stdout == done.stdout


def test_a_report_is_a_local_file(model, llm_train, empty_charts):
    assert llm_train("report").exit_code == 0
    assert "model_v1" in Path("report.html").read_text()
    done = llm_train("report", "--output", "s3://bucket/report.html")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: s3://bucket/report.html: expected a path of the file system, found an address.\n",
    )


def test_an_existing_registry_is_not_rebuilt(model, llm_train):
    done = llm_train("rebuild-registry")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: memory://bucket/artifacts/models/registry.json: not lost")


def test_doctor_probes_the_store_and_checks_no_folder(model, url, llm_train, monkeypatch):
    monkeypatch.setattr("ops.doctor.check_prefect", lambda _: [])
    found = json.loads(llm_train("doctor", "--json").stdout)
    checks = {each["check"]: each["found"] for each in found}
    assert checks["artifacts root"] == f"{url}: writable; conditional writes work."
    assert checks["registry"] == "1 model, in valid form."
    assert checks["datasets"] == "1 version, all pinned."
    assert not {"file system", "disk", "leftovers"} & checks.keys()


def test_doctor_names_an_address_that_cannot_be_used(project, llm_train, monkeypatch):
    monkeypatch.setattr("ops.doctor.check_prefect", lambda _: [])
    done = llm_train("doctor", "--artifacts-dir", "ftp://host/x", "--json")
    [fault] = [each for each in json.loads(done.stdout) if each["check"] == "artifacts root"]
    assert (done.exit_code, fault["level"]) == (1, "FAULT")
    assert fault["found"].startswith("ftp://host/x: expected a folder, or an address")
    assert "datasets" not in {each["check"] for each in json.loads(done.stdout)}
