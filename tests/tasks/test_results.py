import base64
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from prefect.context import FlowRunContext
from prefect.logging import disable_run_logger
from prefect.results import ResultStore
from prefect.settings import (
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from flows.training_pipeline import training_pipeline
from src.artifacts import Artifacts
from src.errors import CorruptFileError
from src.training.config import ConfigFile, TrainingConfig, read_config_file
from src.training.dataset import DatasetVersion
from tasks import results
from tasks.caching import step_results
from tasks.results import (
    PlainSerializer,
    StepCall,
    StepResults,
    StoredResult,
    begin_call,
    file_digests,
    stale_result,
)
from tests.network import STARTUP_SECONDS
from tests.strategies import json_values

CONFIG = TrainingConfig(
    base_model="mistral-7b",
    dataset_version="dataset_v1",
    learning_rate=2e-05,
    epochs=3,
    batch_size=16,
)
CONFIG_FILE = ConfigFile(config=CONFIG, path="config.yaml", sha256="6" * 64)
CONFIG_JSON = (
    '{"config": {"base_model": "mistral-7b", "dataset_version": "dataset_v1", '
    '"learning_rate": 2e-05, "epochs": 3, "batch_size": 16}, "path": "config.yaml", '
    f'"sha256": "{"6" * 64}", '
    '"trainer": null, "evaluator": null, "base_path": null, "base_sha256": null, '
    '"changed_options": {}}'
)
DATASET = DatasetVersion(name="dataset_v1", path="data.jsonl", num_samples=3, sha256="7" * 64)
DIGESTS = "-" + "0" * 64 + "-" + "f" * 64
KEY = "evaluate" + DIGESTS


@pytest.fixture
def storage(artifacts):
    """The storage of results below an artifacts root, on each back end in turn."""
    begin_call(None)
    return StepResults.in_folder(artifacts.cache)


def store_of(storage, step=""):
    return ResultStore(
        result_storage=storage, serializer=PlainSerializer(step=step), cache_result_in_memory=False
    )


def write(storage, value, key=KEY, files=()):
    """Write the result of a call, as Prefect does after the step has run."""
    begin_call(StepCall(key=key, cached=None, stale=None, files=files))
    store_of(storage, key.partition("-")[0]).write(value, key)


# --- Serialization -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "value", "text"),
    [
        ("load_config", CONFIG_FILE, CONFIG_JSON),
        (
            "resolve_dataset",
            DATASET,
            '{"name": "dataset_v1", "path": "data.jsonl", "num_samples": 3, '
            f'"sha256": "{"7" * 64}", "metadata_sha256": null}}',
        ),
        ("evaluate", {"b": 1, "a": [2.5, None, "ü"]}, '{"b": 1, "a": [2.5, null, "ü"]}'),
        ("", None, "null"),
    ],
)
def test_a_value_is_json_that_names_no_class(step, value, text):
    serializer = PlainSerializer(step=step)
    assert serializer.dumps(value).decode() == text
    assert serializer.loads(text.encode()) == value
    assert type(serializer.loads(text.encode())) is type(value)


@given(json_values)
def test_every_json_value_is_the_same_after_a_round_trip(value):
    serializer = PlainSerializer()
    assert json.dumps(serializer.loads(serializer.dumps(value))) == json.dumps(value)


def test_an_exception_is_stored_as_its_message():
    assert PlainSerializer().dumps(ValueError("not valid")) == b'"not valid"'


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("load_config", "{}"),
        ("load_config", "null"),
        ("load_config", CONFIG_JSON.replace("3", '"3"')),
        ("load_config", CONFIG_JSON.replace("3", "true")),
        ("load_config", CONFIG_JSON.replace('"epochs": 3, ', "")),
        (
            "load_config",
            f'{{"__class__": "src.training.config.ConfigFile", "data": {CONFIG_JSON}}}',
        ),
        ("resolve_dataset", CONFIG_JSON),
        ("resolve_dataset", "[]"),
        ("evaluate", "{"),
    ],
)
def test_a_value_of_another_type_than_that_of_the_step_is_refused(step, text):
    with pytest.raises(ValueError):
        PlainSerializer(step=step).loads(text.encode())


# --- Result files --------------------------------------------------------------------------------


def test_a_result_file_is_one_line_of_json_with_the_digests_of_its_files(storage, artifacts):
    (artifacts.root / "one").replace(b"1")
    write(storage, {"b": 1, "a": 2}, files=[artifacts.root / "one", artifacts.root / "none"])
    one = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert (artifacts.cache / KEY).read(1 << 10).decode() == (
        f'{{"files": {{"one": "{one}", "none": null}}, "result": {{"b": 1, "a": 2}}}}'
    )
    assert storage.stored(KEY) == StoredResult({"b": 1, "a": 2}, {"one": one, "none": None})


def test_a_result_of_each_step_is_read_with_its_type(storage):
    for step, value in [
        ("load_config", CONFIG_FILE),
        ("resolve_dataset", DATASET),
        ("write_metadata", {"epochs": 3}),
        ("register", {"epochs": 3}),
        ("evaluate", {"metrics": {"n": 0.5}}),
    ]:
        write(storage, value, step + DIGESTS)
        assert storage.stored(step + DIGESTS) == StoredResult(value, {})


def test_a_missing_result_file_is_none(storage, artifacts, files, project):
    before = files(artifacts)
    assert storage.stored(KEY) is None
    assert files(artifacts) == before
    assert not (project / "artifacts/.cache").exists()


def test_a_result_file_above_the_size_limit_is_not_read(storage, monkeypatch):
    monkeypatch.setattr(results, "RESULT_LIMIT", 3)
    write(storage, {})
    with pytest.raises(CorruptFileError) as caught:
        storage.stored(KEY)
    assert str(caught.value) == f"artifacts/.cache/{KEY}: larger than 3 bytes. Left as found."


class Payload:
    """A value that creates a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


PICKLE = base64.b64encode(pickle.dumps(Payload())).decode()
PREFECT_JSON = {
    "type": "json",
    "jsonlib": "json",
    "object_encoder": "prefect.serializers.prefect_json_object_encoder",
    "object_decoder": "prefect.serializers.prefect_json_object_decoder",
    "dumps_kwargs": {},
    "loads_kwargs": {},
}


def record(serializer, result):
    """Return a result file in the form of Prefect."""
    metadata = {"storage_key": KEY, "expiration": None, "serializer": serializer}
    return json.dumps({"metadata": metadata, "result": result})


EVIL = '{"__class__": "evil.Payload", "data": {}}'
FORGED = {
    "pickle": record({"type": "pickle"}, PICKLE),
    "compressed pickle": record({"type": "compressed/pickle"}, PICKLE),
    "compressed, by name": record(
        {"type": "compressed", "serializer": {"type": "pickle"}, "compressionlib": "evil"}, PICKLE
    ),
    "pickle with a module": record({"type": "pickle", "picklelib": "evil"}, PICKLE),
    "class": record(PREFECT_JSON, EVIL),
    "exception": record(PREFECT_JSON, '{"__exc_type__": "evil.Payload", "message": ""}'),
    "decoder": record(PREFECT_JSON | {"object_decoder": "evil.Payload"}, "{}"),
    "library": record(PREFECT_JSON | {"jsonlib": "evil"}, "{}"),
    "unknown serializer": record({"type": "evil"}, "{}"),
    "plain serializer": record({"type": "plain-json", "step": "evaluate"}, "{}"),
    "no metadata": json.dumps({"result": PICKLE}),
    "old format": json.dumps({"data": PICKLE, "serializer": {"type": "pickle"}}),
    "bare value": "{}",
    "bare class": EVIL,
    "class within": f'{{"files": {{}}, "result": {EVIL}, "metadata": {{}}}}',
}
STEPS = ["load_config", "resolve_dataset", "write_metadata", "register", "evaluate"]


@pytest.fixture
def evil(project, monkeypatch):
    """A module that creates a file when it is imported, next to the artifacts."""
    (project / "evil.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    monkeypatch.syspath_prepend(str(project))


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("step", STEPS)
def test_a_forged_result_is_not_read_and_runs_no_code(forged, step, evil, storage, artifacts):
    (artifacts.cache / (step + DIGESTS)).replace(forged.encode())
    with pytest.raises(CorruptFileError) as caught:
        storage.stored(step + DIGESTS)
    assert str(caught.value) == (
        f"artifacts/.cache/{step}{DIGESTS}: not a result of the step {step!r}. Left as found."
    )
    assert not Path("executed").exists()


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_run_over_forged_results_runs_all_steps_and_no_code_of_the_forger(forged, evil, project):
    config = "configs/training/mistral_finetune.yaml"
    with temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: STARTUP_SECONDS}):
        expected = training_pipeline(config, "model_v1")
    files = sorted(Path("artifacts/.cache").iterdir())
    assert [file.name.partition("-")[0] for file in files] == sorted(STEPS)
    before = [file.read_bytes() for file in files]
    for file in files:
        file.write_text(forged)
    assert training_pipeline(config, "model_v1") == expected
    assert not Path("executed").exists()
    assert [file.read_bytes() for file in files] == before


# --- The block in Prefect's result store ---------------------------------------------------------


def test_prefect_reads_the_result_that_is_served_to_the_present_call(storage):
    store = store_of(storage)
    begin_call(StepCall(key=KEY, cached=StoredResult({"n": 1}, {}), stale=None, files=()))
    assert store.exists(KEY)
    assert store.read(KEY).result == {"n": 1}
    assert store.read(KEY).metadata.storage_key == str(Path("artifacts/.cache").resolve() / KEY)


def test_prefect_finds_no_result_of_a_step_that_runs_or_of_another_call(storage):
    write(storage, {})
    for call in (None, StepCall(key=KEY, cached=None, stale=StoredResult({}, {}), files=())):
        begin_call(call)
        assert not store_of(storage).exists(KEY)
    begin_call(StepCall(key=KEY, cached=StoredResult({}, {}), stale=None, files=()))
    assert not store_of(storage).exists("evaluate" + DIGESTS[:-1] + "0")


def test_a_typed_result_has_its_type_when_prefect_has_read_it(storage):
    key = "load_config" + DIGESTS
    config = read_config_file("configs/training/mistral_finetune.yaml")
    begin_call(StepCall(key=key, cached=StoredResult(config, {}), stale=None, files=()))
    assert store_of(storage, "load_config").read(key).result == config


def test_of_the_error_of_a_failed_step_only_that_there_was_one_is_stored(storage, artifacts, files):
    before = files(artifacts)
    begin_call(StepCall(key=KEY, cached=None, stale=None, files=()))
    store_of(storage).write(ValueError("not valid"), "870dee30eb80458b843d98841e3dc661")
    failed = b'{"files": {}, "result": null, "failed": true}'
    assert files(artifacts) == before | {f".cache/{KEY}": failed}
    assert storage.stored(KEY) == StoredResult(None, {}, has_failed=True)


def test_a_failed_step_leaves_the_result_that_it_had_before(storage, artifacts, files):
    before = files(artifacts)
    begin_call(StepCall(key=KEY, cached=None, stale=StoredResult({}, {}), files=()))
    store_of(storage).write(ValueError("not valid"), "870dee30eb80458b843d98841e3dc661")
    assert files(artifacts) == before


def test_the_error_of_another_call_than_that_of_a_step_is_not_stored(storage, artifacts, files):
    before = files(artifacts)
    begin_call(None)
    store_of(storage).write(ValueError("not valid"), "870dee30eb80458b843d98841e3dc661")
    assert files(artifacts) == before


@pytest.mark.parametrize("path", [f"../{KEY}", f"../../models/{KEY}", f"/tmp/{KEY}"])
def test_no_path_leads_out_of_the_cache_folder(storage, artifacts, files, path):
    before = files(artifacts)
    begin_call(StepCall(key=KEY, cached=None, stale=None, files=()))
    storage.write_path(path, b'{"result": "1"}')
    assert files(artifacts) == before | {f".cache/{KEY}": b'{"files": {}, "result": 1}'}


def test_results_on_a_folder_leave_no_other_file(project, tree):
    before = tree(project)
    storage = StepResults.in_folder(Artifacts.open().cache)
    write(storage, 1)
    write(storage, 2)
    assert tree(project) == before | {f"artifacts/.cache/{KEY}": b'{"files": {}, "result": 2}'}


def test_a_cache_folder_that_leads_out_of_the_root_is_not_written_to(project, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (project / "artifacts/.cache").symlink_to(outside)
    message = r"artifacts/\.cache: expected a folder, found a link"
    with disable_run_logger(), pytest.raises(CorruptFileError, match=message):
        write(StepResults.in_folder(Artifacts.open().cache), {})
    assert list(outside.iterdir()) == []


@pytest.fixture
def other(project, tmp_path):
    """A file outside of the artifacts root."""
    (project / "artifacts/.cache").mkdir()
    path = tmp_path / "other"
    path.write_bytes(b"data")
    return path


def test_a_result_file_that_is_a_symbolic_link_is_refused(other, project):
    (project / "artifacts/.cache" / KEY).symlink_to(other)
    with disable_run_logger(), pytest.raises(CorruptFileError, match="found a link"):
        write(StepResults.in_folder(Artifacts.open().cache), {})
    assert other.read_bytes() == b"data"


def test_a_result_file_that_is_a_hard_link_is_replaced_and_the_other_file_unchanged(other, project):
    (project / "artifacts/.cache" / KEY).hardlink_to(other)
    storage = StepResults.in_folder(Artifacts.open().cache)
    write(storage, {"n": 1})
    assert storage.stored(KEY) == StoredResult({"n": 1}, {})
    assert other.read_bytes() == b"data"


def test_the_stale_result_is_that_of_the_present_call():
    begin_call(None)
    assert stale_result() is None
    stale = StoredResult({}, {"one": "2" * 64})
    begin_call(StepCall(key=KEY, cached=None, stale=stale, files=()))
    assert stale_result() == stale


def test_the_digest_of_a_file_that_does_not_exist_is_none(artifacts):
    assert file_digests([artifacts.root / "none"]) == {"none": None}


# --- Within a flow -------------------------------------------------------------------------------


def test_a_run_whose_results_cannot_be_written_warns_once_and_completes(project, tmp_path, caplog):
    (tmp_path / "outside").mkdir()
    (project / "artifacts/.cache").symlink_to(tmp_path / "outside")
    training_pipeline("configs/training/mistral_finetune.yaml", "model_v1")
    [warning] = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning.startswith("Results of steps are not cached: artifacts/.cache: ")
    assert warning.endswith("Nothing was written; remove the link.")
    assert list((tmp_path / "outside").iterdir()) == []


def test_step_results_outside_of_a_flow_is_an_error(artifacts):
    assert FlowRunContext.get() is None
    with (
        pytest.raises(RuntimeError) as caught,
        step_results(artifacts),
    ):
        pass
    assert str(caught.value) == "step_results: no flow run. Call it within a flow."
