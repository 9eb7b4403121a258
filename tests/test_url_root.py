"""An artifacts root that is the address of an object store: the core, from data to export."""

import shutil
from pathlib import Path

import pytest
import yaml

from src.artifacts import Artifacts, history_path, read_statement, weights_folder
from src.datasets.adding import add_dataset
from src.errors import CorruptFileError
from src.evaluation.evaluator import evaluate_model
from src.lineage.compare import compare
from src.lineage.configs import recorded_config
from src.lineage.export import export_model
from src.lineage.files import trace_file
from src.lineage.rebuild import plan_rebuild, write_registry
from src.lineage.trace import models_trained_on
from src.lineage.verify import verify, verify_all
from src.lineage.verify.checks import failed_checks, verdict
from src.prediction import predict
from src.records.statement import weights_of
from src.report import write_report
from src.storage import StorePath, open_file, open_path
from src.training.grids import write_grid, write_variant
from src.training.pipeline import run_training_pipeline
from src.training.trainer import train_model
from tests.conftest import open_in_memory
from tests.examples import DATA
from tests.stores import MemoryServer, MemoryStore, delete
from tests.trainers import CONFIG_PATH, calls, trained

CONFIG = "configs/training/mistral_finetune.yaml"
WEIGHTS = "adapter/weights.json"


@pytest.fixture
def url(project, memory_url):
    """The address of a root with `dataset_v1`; there is no folder `artifacts`."""
    shutil.rmtree(project / "artifacts")
    add_dataset([DATA], "dataset_v1", memory_url)
    yield memory_url
    made = {path.name for path in project.iterdir()}
    assert made <= {"configs", "mine.py", "calls", "__pycache__", "out", "report.html", "grid.yaml"}


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """The objects of a root with `model_v1`, and the project in which it was trained."""
    folder, url = tmp_path_factory.mktemp("trained"), "memory://bucket/artifacts"
    server = MemoryServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        open_in_memory(patch, server)
        add_dataset([DATA], "dataset_v1", url)
        run_training_pipeline(trained(), "model_v1", artifacts_dir=url)
        run_training_pipeline(CONFIG_PATH, "model_v1", artifacts_dir=url)
        assert calls() == ["train", "evaluate"]
    return server.objects, folder


@pytest.fixture
def model(url, trained_once, project):
    """The folder of `model_v1`, which was trained and evaluated by functions of the project."""
    objects, folder = trained_once
    root = open_path(url)
    for key, (data, _) in objects.items():
        (root / key.removeprefix("artifacts/")).replace(data)
    shutil.copytree(folder, project, dirs_exist_ok=True)
    return root / "models/model_v1"


def measure(_):
    return {"loss": 0.25}


def keys(url):
    return [file.key for file in open_path(url).files()]


def verdicts(url, **options):
    return {version: verdict(checks) for version, checks in verify_all(url, **options)}


def test_a_model_is_trained_registered_and_evaluated_once(url):
    first = run_training_pipeline(CONFIG, "model_v1", artifacts_dir=url)
    before = {file.key: open_path(url).store.stat(file.key) for file in open_path(url).files()}
    assert run_training_pipeline(CONFIG, "model_v1", artifacts_dir=url) == first
    assert list(before) == [
        "datasets/dataset_v1/data.jsonl",
        "datasets/dataset_v1/metadata.json",
        "evaluations/model_v1/evaluation.json",
        "evaluations/model_v1/provenance.json",
        "models/model_v1/metadata.json",
        "models/model_v1/provenance.json",
        "models/registry.json",
    ]
    assert keys(url) == list(before)
    assert verdicts(url) == {"model_v1": "MATCH"}


def test_weights_and_history_lie_where_their_contents_say(model, url):
    files = read_statement(model).files
    weights = weights_folder(model, weights_of(files))
    assert weights.digests() == weights_of(files)
    assert weights.key.startswith("models/model_v1/weights/")
    assert len(weights.name) == 64
    assert history_path(model, files).read(1 << 20).count(b"\n") == 3
    assert verdicts(url) == {"model_v1": "AS RECORDED"}


def test_a_trained_model_is_trained_and_measured_again_by_verify(model, url):
    found = verdicts(url, reevaluate=True, retrain=True)
    assert found == {"model_v1": "MATCH"}
    assert calls() == ["train", "evaluate", "evaluate", "train"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda weights: (weights / WEIGHTS).replace(b"{}"),
            f"weights/{WEIGHTS}: expected sha256",
        ),
        (lambda weights: delete(weights / WEIGHTS), f"weights/{WEIGHTS}: no such file"),
        (lambda weights: (weights / "more").create(b"1"), "weights/more: not listed"),
    ],
    ids=["altered", "missing", "additional"],
)
def test_changed_weights_are_found(change, found, model, url):
    files = read_statement(model).files
    change(weights_folder(model, weights_of(files)))
    [check] = [each for each in verify("model_v1", url) if each.what == "weights"]
    assert (check.verdict, check.found[: len(found)]) == ("MISMATCH", found)
    with pytest.raises(CorruptFileError, match=r"^memory://bucket/artifacts/models/"):
        run_training_pipeline(CONFIG_PATH, "model_v1", artifacts_dir=url)


def test_a_changed_history_is_found(model, url):
    path = history_path(model, read_statement(model).files)
    path.replace(b"{}\n")
    [check] = failed_checks(verify("model_v1", url))
    assert (check.what, check.verdict) == ("weights", "MISMATCH")
    assert check.found.startswith("training.jsonl: ")


def test_weights_that_no_statement_lists_are_not_a_part_of_a_model(model, url):
    """Another host may have stored them before this one bound the version."""
    (model / "weights/0123/adapter.bin").create(b"of another host")
    assert failed_checks(verify("model_v1", url)) == []


def test_the_functions_of_the_core_return_paths_of_the_store(url):
    folder = train_model(CONFIG, "model_v1", f"{url}/models", datasets_dir=f"{url}/datasets")
    assert isinstance(folder, StorePath)
    assert str(folder) == "memory://bucket/artifacts/models/model_v1"
    folder = evaluate_model("model_v1", f"{url}/models", f"{url}/evaluations")
    assert str(folder) == "memory://bucket/artifacts/evaluations/model_v1"
    assert (folder / "evaluation.json").read(1 << 20)


def test_two_hosts_that_evaluate_a_model_leave_an_evaluation_and_its_own_statement(
    url, monkeypatch
):
    run_training_pipeline(CONFIG, "model_v1", artifacts_dir=url)
    folders = f"{url}/models", f"{url}/evaluations"
    replace = MemoryStore.replace

    def replace_by_both(store, key, data):
        replace(store, key, data)
        if key.endswith("evaluation.json"):
            replace(store, key, data.replace(b"0.25", b"0.75"))  # measured by the other host

    monkeypatch.setattr(MemoryStore, "replace", replace_by_both)
    with pytest.raises(OSError) as caught:
        evaluate_model("model_v1", *folders, metrics=measure, replace=True)
    assert str(caught.value) == (
        f"{url}/evaluations/model_v1/evaluation.json: another run evaluated the model at the same "
        "time, and the statement beside it is of another measurement. Run again."
    )
    monkeypatch.setattr(MemoryStore, "replace", replace)
    evaluate_model("model_v1", *folders, metrics=measure)
    assert verdicts(url, metrics=measure) == {"model_v1": "MATCH"}


def test_an_error_names_the_whole_address(url):
    run_training_pipeline(CONFIG, "model_v1", artifacts_dir=url)
    Path(CONFIG).write_text(Path(CONFIG).read_text().replace("epochs: 3", "epochs: 4"))
    with pytest.raises(ValueError, match=r"memory://bucket/artifacts/models/model_v1/meta"):
        run_training_pipeline(CONFIG, "model_v1", artifacts_dir=url)
    with pytest.raises(FileNotFoundError, match="memory://bucket/artifacts/datasets/other/data"):
        Path(CONFIG).write_text(Path(CONFIG).read_text().replace("dataset_v1", "other"))
        run_training_pipeline(CONFIG, artifacts_dir=url)


def test_models_are_compared_traced_and_exported(model, url, tree):
    run_training_pipeline(CONFIG, "model_v2", artifacts_dir=url)
    comparison = compare("model_v1", "model_v2", artifacts_dir=url)
    assert [len(each) for each in comparison.losses] == [3, 0]
    found = models_trained_on("dataset_v1", url)
    assert [record.model_version for record in found.models] == ["model_v1", "model_v2"]
    export_model("model_v1", "out", url)
    exported = tree(Path("out"))
    weights = weights_folder(model, weights_of(read_statement(model).files))
    assert exported[WEIGHTS] == (weights / WEIGHTS).read(1 << 20)
    [use] = trace_file(f"out/{WEIGHTS}", url).uses
    assert (use.model_version, use.role, use.file) == ("model_v1", "weights", f"weights/{WEIGHTS}")
    with pytest.raises(ValueError, match=r"^s3://bucket/out: expected a folder of the fi"):
        export_model("model_v1", "s3://bucket/out", url)


def test_a_report_is_written(model, url, empty_charts):
    written = write_report(Artifacts.open(url), open_file("report.html"))
    assert (written.models, written.faults) == (1, ())
    assert "memory://bucket/artifacts" in Path("report.html").read_text()


def test_a_lost_registry_is_written_again(url):
    run_training_pipeline(CONFIG, "model_v1", artifacts_dir=url)
    registry = open_path(url) / "models/registry.json"
    before = registry.read(1 << 20)
    delete(registry)
    write_registry(plan_rebuild(url), url)
    assert registry.read(1 << 20) == before


def test_a_run_is_predicted_and_nothing_is_written(url):
    before = keys(url)
    prediction = predict(CONFIG, "model_v1", settings=["epochs=4"], artifacts_dir=url)
    assert prediction.error is None
    paths = [change.path for change in prediction.changes]
    assert "memory://bucket/artifacts/models/model_v1/metadata.json" in paths
    assert keys(url) == before


# --- Configs in the root -------------------------------------------------------------------------


def test_a_config_that_a_sweep_wrote_is_run_by_its_address(url):
    Path("grid.yaml").write_text(yaml.safe_dump({"base_config": CONFIG, "epochs": [1, 2]}))
    files = write_grid("grid.yaml", Artifacts.open(url))
    assert len(files) == 2
    for path in files:
        assert path.startswith("memory://bucket/artifacts/sweeps/grid-")
        run_training_pipeline(path, artifacts_dir=url)
    assert set(verdicts(url).values()) == {"MATCH"}


def test_a_variant_of_a_config_with_a_trainer_is_run_by_its_address(url):
    path = str(write_variant(trained(), ["trainer.steps=2"], Artifacts.open(url)))
    run_training_pipeline(path, "model_v1", artifacts_dir=url)
    statement = read_statement(open_path(url) / "models/model_v1")
    assert statement.dependency("config").uri == path
    assert recorded_config(statement, Artifacts.open(url)).path == path
    assert verdicts(url, reevaluate=True, retrain=True) == {"model_v1": "MATCH"}


def test_a_config_at_an_address_names_no_code(url):
    text = Path(trained()).read_bytes()
    (open_path(url) / "sweeps/own.yaml").create(text)
    with pytest.raises(ValueError, match=r"sweeps/own.yaml: names code to run \(mine:train\)"):
        run_training_pipeline(f"{url}/sweeps/own.yaml", artifacts_dir=url)


def test_a_config_does_not_name_an_address_as_its_base(url):
    text = Path(CONFIG).read_text() + f"base_config: {url}/sweeps/base.yaml\n"
    (open_path(url) / "sweeps/own.yaml").create(text.encode())
    with pytest.raises(ValueError, match="base_config: expected the path of a training config"):
        run_training_pipeline(f"{url}/sweeps/own.yaml", artifacts_dir=url)


def test_a_record_does_not_decide_which_other_store_is_asked(url, monkeypatch):
    path = str(write_variant(CONFIG, ["epochs=4"], Artifacts.open(url)))
    run_training_pipeline(path, "model_v1", artifacts_dir=url)
    copy = MemoryStore("memory://bucket/copy")
    for file in open_path(url).files():
        copy.replace(file.key, open_path(url).store.read(file.key, 1 << 20))
    monkeypatch.setattr("src.storage.open_store", lambda url: pytest.fail(f"{url} was opened"))
    artifacts = Artifacts(StorePath(copy))
    with pytest.raises(ValueError) as caught:
        recorded_config(read_statement(artifacts.models / "model_v1"), artifacts)
    assert str(caught.value) == (
        f"{path}: not read: it is not below the artifacts root memory://bucket/copy."
    )
    [check] = [each for each in verify("model_v1", artifacts.root) if each.what == "config"]
    assert check.verdict == "MATCH"
    assert check.note == (
        f"{path} cannot be read (not read: it is not below the artifacts root memory://bucket/copy)."
    )
