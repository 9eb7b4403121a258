"""Export of a trained model, on two back ends, read by huggingface-hub and sha256sum."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, metadata_load

from src.errors import CorruptFileError
from src.lineage.export import export_model
from src.storage import tree as storage_tree
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError
from tests.conftest import placed, stored
from tests.examples import DATA
from tests.hostile import KINDS, put
from tests.lineage.conftest import add_dataset
from tests.lineage.damage import read, remove, write
from tests.trainers import CONFIG_PATH, write_config, write_module

WEIGHTS = {
    "adapter_config.json": b'{"r": 8}',
    "adapter_model.safetensors": b"weights" * 1000,
    "tokenizer/vocab.txt": b"a\nb\n",
}
RECORD = {
    "metadata.json": "models/model_v1/metadata.json",
    "provenance.json": "models/model_v1/provenance.json",
    "training.jsonl": "models/model_v1/training.jsonl",
    "evaluation.json": "evaluations/model_v1/evaluation.json",
    "evaluation-provenance.json": "evaluations/model_v1/provenance.json",
}
MODULE = """
def train(run):
    for name, data in {weights!r}.items():
        (run.output / name).parent.mkdir(exist_ok=True)
        (run.output / name).write_bytes(data)
    run.log(1, loss=0.5)

def evaluate(run):
    return {{"loss": 0.25}}
"""


def train(weights=WEIGHTS, version="model_v1"):
    write_module(MODULE.format(weights=weights))
    write_config({"use": "mine:train"}, {"use": "mine:evaluate"})
    run_training_pipeline(CONFIG_PATH, version)


@pytest.fixture(scope="module")
def trained_artifacts(tmp_path_factory):
    """The folder `artifacts` with `model_v1`, trained once and never changed."""
    folder = tmp_path_factory.mktemp("trained")
    add_dataset(folder / "artifacts", "dataset_v1", DATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train()
    return folder / "artifacts"


@pytest.fixture(params=["folder", "memory, none"])
def model(request, project, trained_artifacts):
    """The artifacts root with `model_v1`."""
    shutil.copytree(trained_artifacts, project / "artifacts", dirs_exist_ok=True)
    return stored(project / "artifacts", request.param)


def listing():
    """Return what an export could have left in the working directory."""
    return sorted(path.name for path in Path().iterdir() if "out" in path.name)


def test_the_export_has_the_weights_the_card_and_the_record(model, tree):
    files = export_model("model_v1", "out", model.root)
    found = tree(Path("out"))
    assert {name: found[name] for name in WEIGHTS} == WEIGHTS
    assert {name: found[f"record/{name}"] for name in RECORD} == {
        name: read(model, key) for name, key in RECORD.items()
    }
    others = ["README.md", "record/SHA256SUMS"]
    assert sorted(found) == sorted([*WEIGHTS, *(f"record/{name}" for name in RECORD), *others])
    assert {name: each.size for name, each in files.items()} == {
        name: len(data) for name, data in found.items()
    }


def test_the_hub_reads_the_card(model):
    export_model("model_v1", "out", model.root)
    metadata = metadata_load(Path("out/README.md"))
    assert metadata["base_model"] == "mistral-7b"
    assert metadata["library_name"] == "peft"
    card = ModelCard.load(Path("out/README.md"))
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("loss", 0.25)
    assert (result.source_name, result.dataset_name) == ("mine:evaluate", "dataset_v1")
    card.save("again.md")
    assert metadata_load(Path("again.md")) == metadata


def test_a_base_model_that_is_a_local_folder_is_not_named_to_the_hub(model):
    Path("mistral-7b").mkdir()
    export_model("model_v1", "out", model.root)
    assert "base_model" not in metadata_load(Path("out/README.md"))


def test_sha256sum_finds_a_changed_file(model):
    export_model("model_v1", "out", model.root)
    command = ["sha256sum", "--check", "--strict", "--quiet", "record/SHA256SUMS"]
    assert subprocess.run(command, cwd="out").returncode == 0
    Path("out/tokenizer/vocab.txt").write_bytes(b"a\nc\n")
    done = subprocess.run(command, cwd="out", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "tokenizer/vocab.txt: FAILED\n")


def test_two_exports_of_a_model_have_the_same_bytes(model, tree):
    export_model("model_v1", "out", model.root)
    export_model("model_v1", "out2", model.root)
    assert tree(Path("out")) == tree(Path("out2"))


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer/vocab.txt"])
def test_weights_that_are_not_as_recorded_are_named_and_nothing_is_left(model, name):
    write(model, f"models/model_v1/weights/{name}", b"other")
    with pytest.raises(CorruptFileError, match=rf"/{name}: expected sha256 .*, found"):
        export_model("model_v1", "out", model.root)
    assert listing() == []


@pytest.mark.parametrize("name", ["metadata.json", "training.jsonl", "evaluation.json"])
def test_a_file_of_the_record_that_is_not_as_recorded_is_named_and_nothing_is_left(model, name):
    data, key = read(model, RECORD[name]), placed(model, RECORD[name])
    write(model, RECORD[name], data + b"\n")
    with pytest.raises(CorruptFileError, match=rf"^artifacts/{key}: expected sha256 "):
        export_model("model_v1", "out", model.root)
    remove(model, RECORD[name])
    if name != "evaluation.json":  # without it, the model was not evaluated
        with pytest.raises(CorruptFileError) as caught:
            export_model("model_v1", "out", model.root)
        assert str(caught.value) == f"artifacts/{key}: no such file. Restore it from a backup."
    assert listing() == []


def test_a_model_that_was_not_evaluated_is_exported_without_an_evaluation(model, tree):
    remove(model, RECORD["evaluation.json"])
    remove(model, RECORD["evaluation-provenance.json"])
    export_model("model_v1", "out", model.root)
    assert "record/evaluation.json" not in tree(Path("out"))
    assert ModelCard.load(Path("out/README.md")).data.eval_results is None


@pytest.mark.parametrize("name", ["provenance.json", "evaluation-provenance.json"])
def test_a_missing_statement_is_an_error_that_says_what_to_do(model, name):
    remove(model, RECORD[name])
    with pytest.raises(FileNotFoundError, match=rf"^artifacts/{RECORD[name]}: no such file, so"):
        export_model("model_v1", "out", model.root)
    assert listing() == []


def test_the_evaluation_of_another_model_is_refused(model):
    statement = json.loads(read(model, RECORD["evaluation-provenance.json"]))
    for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]:
        if each["name"] == "provenance.json":
            each["digest"]["sha256"] = "0" * 64
    write(model, RECORD["evaluation-provenance.json"], json.dumps(statement).encode())
    with pytest.raises(CorruptFileError) as caught:
        export_model("model_v1", "out", model.root)
    assert str(caught.value) == (
        "artifacts/evaluations/model_v1/provenance.json: not the statement of an evaluation of "
        "artifacts/models/model_v1/provenance.json. Left as found; evaluate the model again."
    )


def test_a_model_without_weights_and_a_missing_model_are_errors_that_say_so(project):
    run_training_pipeline(write_config(path="simulated.yaml"), "model_v1")
    with pytest.raises(ValueError) as caught:  # the whole message is compared
        export_model("model_v1", "out")
    assert str(caught.value) == (
        "model_v1: expected a model with weights, found one of the simulated trainer. Name a "
        "trainer in its config; see docs/training.md."
    )
    with pytest.raises(ModelNotFoundError):
        export_model("model_v2", "out")
    assert listing() == []


def test_a_folder_with_files_is_not_changed(model, tree):
    Path("out").mkdir()
    Path("out/mine").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or an empty folder"):
        export_model("model_v1", "out", model.root)
    assert (tree(Path("out")), listing()) == ({"mine": b"mine"}, ["out"])


def test_a_file_that_changes_while_it_is_copied_leaves_nothing(model, monkeypatch):
    pieces = storage_tree.copy_pieces

    def changing(folder, name, digest):
        if name == "adapter_model.safetensors":
            (folder / name).write_bytes(b"changed")
        return pieces(folder, name, digest)

    monkeypatch.setattr("src.storage.new_folder.copy_pieces", changing)
    with pytest.raises(OSError, match=r"adapter_model\.safetensors: written to"):
        export_model("model_v1", "out", model.root)
    assert listing() == []


def test_the_card_has_readme_and_the_record_has_a_folder_that_no_weights_have(project, tree):
    weights = {
        "README.md": b"of the trainer",
        "readme.MD": b"another one",
        "README.trainer.md": b"a third one",
        "Record": b"1",
        "record.2/x": b"2",
    }
    train(weights)
    export_model("model_v1", "out")
    found = tree(Path("out"))
    assert found.pop("README.md").startswith(b"---\nbase_model: mistral-7b\n")
    assert {name: data for name, data in found.items() if not name.startswith("record.3/")} == {
        "README.trainer.2.md": b"of the trainer",
        "README.trainer.3.md": b"another one",
        "README.trainer.md": b"a third one",
        "Record": b"1",
        "record.2/x": b"2",
    }
    assert "sha256sum --check record.3/SHA256SUMS" in Path("out/README.md").read_text()
    assert subprocess.run(["sha256sum", "-c", "record.3/SHA256SUMS"], cwd="out").returncode == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a number"])
@pytest.mark.parametrize("name", ["weights/tokenizer/vocab.txt", "training.jsonl", "metadata.json"])
def test_something_else_in_place_of_a_file_is_an_error_and_nothing_is_left(
    project, trained_artifacts, kind, name
):
    shutil.copytree(trained_artifacts, project / "artifacts", dirs_exist_ok=True)
    put(kind, Path("artifacts/models/model_v1", name))
    with pytest.raises((CorruptFileError, OSError)):
        export_model("model_v1", "out")
    assert listing() == []


def test_the_root_of_the_model_is_not_changed(model, files):
    before = files(model)
    export_model("model_v1", "out", model.root)
    assert files(model) == before
