import asyncio
import re
from pathlib import Path

import pytest
from prefect.context import FlowRunContext
from prefect.logging import disable_run_logger
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer

from flows.training_pipeline import training_pipeline
from src.artifacts import Artifacts
from src.errors import CorruptFileError
from src.training.config import ConfigFile, read_config_file
from tasks import results
from tasks.results import StepResults, step_results

KEY = "load_config-0123-4567"


@pytest.fixture
def storage(artifacts):
    """The storage of results below an artifacts root, on each back end in turn."""
    return StepResults.in_folder(artifacts.cache)


# --- The storage block ---------------------------------------------------------------------------


def test_a_written_result_is_read_again(storage):
    storage.write_path(KEY, b"one")
    assert storage.read_path(KEY) == b"one"
    storage.write_path(KEY, b"two")
    assert storage.read_path(KEY) == b"two"


def test_a_result_is_written_and_read_asynchronously(storage):
    asyncio.run(storage.awrite_path(KEY, b"one"))
    assert storage.read_path(KEY) == b"one"
    assert asyncio.run(storage.aread_path(KEY)) == b"one"


def test_a_missing_result_raises_an_error_that_names_the_file(storage):
    storage.write_path("evaluate-0123-4567", b"other")
    message = f"artifacts/.cache/{KEY}: no such result."
    with pytest.raises(FileNotFoundError) as caught:
        storage.read_path(KEY)
    assert str(caught.value) == message
    with pytest.raises(FileNotFoundError) as caught:
        asyncio.run(storage.aread_path(KEY))
    assert str(caught.value) == message


def test_reading_a_missing_result_creates_no_file(storage, artifacts, files, project):
    before = files(artifacts)
    with pytest.raises(FileNotFoundError):
        storage.read_path(KEY)
    assert files(artifacts) == before
    assert not (project / "artifacts/.cache").exists()


def test_results_are_written_through_the_store_below_its_cache_folder(storage, artifacts, files):
    before = files(artifacts)
    storage.write_path(KEY, b"one")
    assert files(artifacts) == before | {f".cache/{KEY}": b"one"}
    assert (artifacts.cache / KEY).read(10) == b"one"


def test_a_result_is_read_by_the_location_that_prefect_records(storage):
    storage.write_path(KEY, b"one")
    location = storage._resolve_path(KEY)
    assert location == Path("artifacts/.cache").resolve() / KEY
    assert storage.read_path(str(location)) == b"one"


@pytest.mark.parametrize("path", [f"../{KEY}", f"../../models/{KEY}", f"/tmp/{KEY}"])
def test_no_path_leads_out_of_the_cache_folder(storage, artifacts, files, path):
    before = files(artifacts)
    storage.write_path(path, b"one")
    assert files(artifacts) == before | {f".cache/{KEY}": b"one"}


def test_a_result_above_the_size_limit_is_not_read(storage, monkeypatch):
    monkeypatch.setattr(results, "RESULT_LIMIT", 3)
    storage.write_path(KEY, b"four")
    with pytest.raises(CorruptFileError) as caught:
        storage.read_path(KEY)
    assert str(caught.value) == f"artifacts/.cache/{KEY}: larger than 3 bytes. Left as found."


def test_results_on_a_folder_leave_no_other_file(project, tree):
    before = tree(project)
    storage = StepResults.in_folder(Artifacts.open().cache)
    storage.write_path(KEY, b"one")
    storage.write_path(KEY, b"two")
    assert tree(project) == before | {f"artifacts/.cache/{KEY}": b"two"}


def test_a_cache_folder_that_leads_out_of_the_root_is_not_written_to(project, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (project / "artifacts/.cache").symlink_to(outside)
    message = re.escape(f"leads out of artifacts, to {outside}/{KEY}.")
    with disable_run_logger(), pytest.raises(ValueError, match=message):
        StepResults.in_folder(Artifacts.open().cache).write_path(KEY, b"one")
    assert list(outside.iterdir()) == []


# --- The block in Prefect's result store ---------------------------------------------------------


def test_the_result_store_of_prefect_reads_the_value_that_it_wrote(storage, artifacts, files):
    config = read_config_file("configs/training/mistral_finetune.yaml")
    store = ResultStore(result_storage=storage, serializer=JSONSerializer())
    before = files(artifacts)
    store.write(config, KEY)
    assert set(files(artifacts)) == set(before) | {f".cache/{KEY}"}
    other = ResultStore(result_storage=storage, serializer=JSONSerializer())
    record = other.read(KEY)
    assert type(record.result) is ConfigFile
    assert record.result == config
    assert record.metadata.storage_key == str(Path("artifacts/.cache").resolve() / KEY)
    assert other.exists(KEY)
    assert not other.exists("load_config-89ab-cdef")


def test_the_result_store_of_prefect_finds_no_damaged_result(storage, artifacts):
    store = ResultStore(
        result_storage=storage, serializer=JSONSerializer(), cache_result_in_memory=False
    )
    store.write({"epochs": 3}, KEY)
    assert store.exists(KEY)
    (artifacts.cache / KEY).replace(b"{")
    assert not store.exists(KEY)


# --- Within a flow -------------------------------------------------------------------------------


def test_a_run_whose_results_cannot_be_written_warns_once_and_completes(project, tmp_path, caplog):
    (tmp_path / "outside").mkdir()
    (project / "artifacts/.cache").symlink_to(tmp_path / "outside")
    training_pipeline("configs/training/mistral_finetune.yaml", "model_v1")
    [warning] = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning.startswith("Results of steps are not cached: artifacts/.cache/load_config-")
    assert warning.endswith("Nothing was written; remove the link.")
    assert list((tmp_path / "outside").iterdir()) == []


def test_results_are_stored_only_within_a_flow(artifacts):
    assert FlowRunContext.get() is None
    with (
        pytest.raises(RuntimeError) as caught,
        step_results(artifacts),
    ):
        pass
    assert str(caught.value) == "step_results: no flow run. Call it within a flow."
