"""Copies of an artifacts root, to each back end and back."""

import json
import shutil
from pathlib import Path

import pytest

from src.errors import CorruptFileError
from src.lineage.verify import verdict, verify_all
from src.records.canonical import canonical_json
from src.storage import StorePath, open_path
from src.training.dataset import DatasetMismatchError
from src.training.pipeline import run_training_pipeline
from src.training.registry import RegistryLostError
from src.transfer import plan
from src.transfer.plan import plan_copy
from src.transfer.steps import CopyConflict
from tests.conftest import BACK_ENDS, REPOSITORY
from tests.stores import MemoryStore
from tests.torture.harness import LONG
from tests.transfer.conftest import record

DESTINATIONS = (*BACK_ENDS, "bucket")
TRAINED = "models/trained_v1"


@pytest.fixture(params=DESTINATIONS)
def destination(request) -> StorePath:
    """An empty root, on each back end in turn."""
    if request.param == "folder":
        return open_path("copied")
    if request.param == "bucket":
        return open_path(f"{request.getfixturevalue('bucket').url}/team")
    return StorePath(MemoryStore("memory", request.param.removeprefix("memory, ")))


def verdicts(root) -> dict[str, list[tuple[str, str]]]:
    return {
        version: [(each.what, each.verdict) for each in checks]
        for version, checks in verify_all(root)
    }


def damage(path: Path) -> None:
    """Change the last byte of a file, but not its size."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


# --- What is copied ------------------------------------------------------------------------------


def test_a_copy_has_the_verdicts_of_the_source_and_its_registry(source, destination):
    plan_copy(source, destination).run()
    assert verdicts(destination) == verdicts(source)
    registry = (source / "models/registry.json").read_bytes()
    assert (destination / "models/registry.json").read(1 << 20) == registry
    found = {version: verdict(checks) for version, checks in verify_all(destination)}
    assert found == {
        "model_v1": "AS RECORDED",
        "model_v2": "MATCH",
        "trained_v1": "AS RECORDED",
    }


@pytest.mark.parametrize(
    "missing",
    [
        ["evaluations/model_v2"],
        ["evaluations/model_v2/provenance.json"],
        ["evaluations/trained_v1/evaluation.json"],
        ["evaluations", "models/registry.json"],
        ["evaluations", "models/registry.json", "models/model_v2/metadata.json"],
        ["models/model_v2/provenance.json"],
        ["datasets/bare"],
    ],
    ids=lambda missing: " ".join(missing),
)
def test_a_copy_of_an_unfinished_or_incomplete_record_has_its_verdicts(
    source, destination, missing
):
    for name in missing:
        path = source / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    plan_copy(source, destination).run()
    assert verdicts(destination) == verdicts(source)


def test_a_model_that_is_trained_while_a_copy_is_planned_is_left_out_or_unfinished(
    source, destination, monkeypatch
):
    def train_first(planner):
        run_training_pipeline("one.yaml", "model_v9")
        return plan_models(planner)

    plan_models = plan._plan_models
    monkeypatch.setattr(plan, "_plan_models", train_first)
    plan_copy(source, destination).run()
    found = {version: verdict(checks) for version, checks in verify_all(destination)}
    assert found.pop("model_v9") == "UNFINISHED"
    assert set(found.values()) == {"MATCH", "AS RECORDED"}


def test_the_artifacts_of_an_earlier_release_are_copied(destination, tmp_path, monkeypatch):
    shutil.copytree(REPOSITORY / "tests/fixtures/953db8b", tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    plan_copy("artifacts", destination).run()
    plan_copy(destination, "back").run()
    assert verdicts(destination) == verdicts("artifacts")
    assert record(Path("back")) == record(Path("artifacts"))


def test_a_copy_of_a_copy_has_the_bytes_of_the_source_file_by_file(source, destination):
    plan_copy(source, destination).run()
    plan_copy(destination, "back").run()
    assert record(Path("back")) == record(source)
    assert len(record(source)) == 25


def test_a_second_copy_writes_nothing(source, destination):
    first = plan_copy(source, destination)
    first.run()
    second = plan_copy(source, destination)
    assert second.steps == ()
    assert second.present == first.num_files
    assert first.num_files == {
        "datasets": 3,
        "sweeps": 2,
        "models": 9,
        "registry": 1,
        "evaluations": 10,
    }


def test_the_progress_is_the_size_of_what_is_copied(source, destination):
    copy, sizes = plan_copy(source, destination), []
    copy.run(sizes.append)
    size = sum(map(len, record(source).values()))
    assert sum(sizes) == sum(copy.num_bytes.values()) == size


def test_what_a_run_makes_again_is_not_copied_nor_named(source):
    for name in (".cache/step", ".work/v/state", "reports/report.html", "models/x.lock"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    copy = plan_copy(source, "copied")
    copy.run()
    assert copy.unknown == ()
    names = {path.name for path in Path("copied").iterdir()}
    assert names == {"datasets", "models", "evaluations", "sweeps"}


def test_files_that_are_no_part_of_a_record_are_named_and_not_copied(source):
    unknown = [
        "datasets/bare/notes.txt",
        "datasets/empty/metadata.json",
        "evaluations/model_v1/notes.txt",
        "evaluations/not a version/evaluation.json",
        "models/model_v1/notes.txt",
        "models/not a version/metadata.json",
        "models/notes.txt",
        "models/stopped/weights/model.bin",
        "sweeps/notes.txt",
        "sweeps/one/two-a8ff8df10810.yaml",
    ]
    before = record(source)
    for name in unknown:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    copy = plan_copy(source, "copied")
    copy.run()
    assert sorted(copy.unknown) == [f"artifacts/{name}" for name in unknown]
    assert record(Path("copied")) == before


def test_objects_that_no_run_wrote_are_named_and_not_copied(source, bucket):
    plan_copy(source, bucket.url).run()
    keys = ["models/a b/c", "models/model_v1/\u00fc", "models/registry.json/x", "sweeps/a/b"]
    for key in keys:
        bucket.put(key, b"x")
    copy = plan_copy(bucket.url, "copied")
    assert sorted(copy.unknown) == [f"{bucket.url}/{key}" for key in keys]
    copy.run()
    assert record(Path("copied")) == record(source)


def test_a_dataset_that_is_a_link_is_copied_as_files(source, tmp_path):
    folder = source / "datasets/dataset_v1"
    shutil.move(folder, tmp_path / "disk")
    folder.symlink_to(tmp_path / "disk")
    before = record(tmp_path / "disk")
    plan_copy(source, "copied").run()
    assert record(Path("copied/datasets/dataset_v1")) == before
    assert not Path("copied/datasets/dataset_v1").is_symlink()


def test_a_dataset_that_was_pinned_since_it_was_copied_is_pinned_in_the_copy(source, destination):
    plan_copy(source, destination).run()
    pin = b'{"dataset_version": "bare", "num_samples": 1}'
    (source / "datasets/bare/metadata.json").write_bytes(pin)
    plan_copy(source, destination).run()
    assert (destination / "datasets/bare/metadata.json").read(100) == pin


def test_a_second_copy_adds_the_models_that_were_trained_since(source, destination):
    plan_copy(source, destination).run()
    run_training_pipeline("one.yaml", "model_v9")
    plan_copy(source, destination).run()
    registry = (source / "models/registry.json").read_bytes()
    assert (destination / "models/registry.json").read(1 << 20) == registry
    assert verdicts(destination) == verdicts(source)
    assert "model_v9" in verdicts(destination)


def test_a_registry_of_other_models_is_refused(source, destination):
    plan_copy(source, destination).run()
    path = source / "models/registry.json"
    registry = json.loads(path.read_bytes())
    registry["models"].reverse()
    path.write_bytes(canonical_json(registry))
    with pytest.raises(CopyConflict) as caught:
        plan_copy(source, destination)
    assert str(caught.value) == (
        f"{destination}: has other files than the source, and two roots cannot be merged. Nothing "
        "was written; copy to another root, e.g. to another prefix:\n"
        f"  {destination}/models/registry.json: expected no registry, or the first entries of that "
        "of the source, found one of other models."
    )


# --- Conflicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "datasets/bare/data.jsonl",
        "datasets/dataset_v1/metadata.json",
        "evaluations/model_v1/evaluation.json",
        "evaluations/model_v1/earlier/DIGEST/evaluation.json",
        "models/registry.json",
        "models/model_v1/metadata.json",
        "models/model_v2/provenance.json",
        "models/trained_v1/training.jsonl",
        "models/trained_v1/weights/samples.txt",
        "models/trained_v1/weights/other.bin",
        "sweeps/one-a8ff8df10810.yaml",
    ],
)
@pytest.mark.parametrize("other", [b"x", None], ids=["another size", "the same size"])
def test_a_file_with_other_bytes_is_left_as_found_and_nothing_is_written(source, tree, name, other):
    [earlier] = (source / "evaluations/model_v1/earlier").iterdir()
    path, here = (Path(each, name.replace("DIGEST", earlier.name)) for each in ("copied", source))
    path.parent.mkdir(parents=True)
    path.write_bytes(other or (here.read_bytes()[:-1] + b"x" if here.exists() else b"y"))
    before = tree(Path("copied"))
    with pytest.raises(CopyConflict, match=f"\n  {path}: expected "):
        plan_copy(source, "copied")
    assert tree(Path("copied")) == before


def test_up_to_20_differences_are_listed(source):
    for name in record(source):
        Path("copied", name).parent.mkdir(parents=True, exist_ok=True)
        Path("copied", name).write_bytes(b"")
    with pytest.raises(CopyConflict) as caught:
        plan_copy(source, "copied")
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[1].startswith("  copied/datasets/bare/data.jsonl: expected 16 bytes, found 0.")
    assert lines[-1] == "  ... and 5 more."


def test_a_file_that_is_written_after_the_plan_is_left_as_found(source, destination):
    copy = plan_copy(source, destination)
    (destination / "models/model_v1/metadata.json").create(b"other")
    with pytest.raises(CopyConflict, match=r"model_v1/metadata[.]json: written by another process"):
        copy.run()
    assert (destination / "models/model_v1/metadata.json").read(100) == b"other"
    assert (destination / "models/registry.json").read(1 << 20) is None


def test_a_dataset_that_is_written_after_the_plan_is_left_as_found(source, destination):
    copy = plan_copy(source, destination)
    (destination / "datasets/dataset_v1/data.jsonl").create(b"other")
    with pytest.raises(CopyConflict, match=r"datasets/dataset_v1: found files that were not there"):
        copy.run()
    assert (destination / "datasets/dataset_v1/data.jsonl").read(100) == b"other"


def test_a_registry_that_is_written_after_the_plan_is_left_as_found(source, destination):
    copy = plan_copy(source, destination)
    (destination / "models/registry.json").create(b"other")
    with pytest.raises(CopyConflict, match=r"registry[.]json: written by another process"):
        copy.run()
    assert (destination / "models/registry.json").read(100) == b"other"


def test_files_that_are_there_with_the_same_bytes_are_kept(source, destination):
    name = "models/model_v1/provenance.json"
    (destination / name).create((source / name).read_bytes())
    copy = plan_copy(source, destination)
    assert copy.present == {"models": 1}
    copy.run()
    assert verdicts(destination) == verdicts(source)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("artifacts", "artifacts"),
        ("artifacts", "artifacts/copy"),
        ("artifacts", "../project/artifacts"),
        ("artifacts", "."),
        ("s3://bucket/a", "s3://bucket/a/"),
        ("s3://bucket/a", "s3://bucket/a/b"),
        ("s3://bucket/a", "s3://bucket"),
    ],
)
def test_a_root_is_not_copied_onto_itself_nor_into_itself(source, tree, one, other):
    before = tree(Path())
    with pytest.raises(ValueError, match=r"the same root as .*, or one lies in the other"):
        plan_copy(one, other)
    assert tree(Path()) == before


def test_a_root_beside_another_one_whose_name_begins_with_its_name_is_apart(source):
    plan_copy(source, "artifacts2").run()
    assert record(Path("artifacts2")) == record(source)


def test_a_folder_without_files_is_no_source(source):
    with pytest.raises(FileNotFoundError) as caught:
        plan_copy("nothing", "copied")
    assert str(caught.value) == (
        "nothing: no datasets and no models. Expected an artifacts root, a folder that holds "
        "datasets/ and models/."
    )


# --- Damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "evaluations/model_v1/evaluation.json",
        "evaluations/model_v1/provenance.json",
        "models/model_v1/metadata.json",
        "models/model_v1/provenance.json",
        "models/trained_v1/training.jsonl",
        "models/registry.json",
    ],
)
def test_a_damaged_file_of_the_record_is_named_and_nothing_is_written(source, name):
    damage(source / name)
    with pytest.raises(CorruptFileError, match=f"^{source / name}: "):
        plan_copy(source, "copied")
    assert not Path("copied").exists()


def test_a_damaged_earlier_evaluation_is_named(source):
    [folder] = (source / "evaluations/model_v1/earlier").iterdir()
    (folder / "provenance.json").unlink()
    with pytest.raises(CorruptFileError, match=f"^{folder}: expected the first 16 digits"):
        plan_copy(source, "copied")


@pytest.mark.parametrize("name", ["training.jsonl", "weights/samples.txt", "metadata.json"])
def test_a_file_that_is_missing_is_named(source, name):
    (source / TRAINED / name).unlink()
    with pytest.raises(CorruptFileError, match=f"^{source / TRAINED / name}: no such file"):
        plan_copy(source, "copied")
    assert not Path("copied").exists()


def test_a_file_among_the_weights_that_is_not_recorded_is_named(source):
    (source / TRAINED / "weights/other.bin").write_text("x")
    with pytest.raises(CorruptFileError, match=r"weights/other[.]bin: not a file of the model"):
        plan_copy(source, "copied")


def test_an_entry_of_the_registry_that_differs_from_its_metadata_is_named(source):
    path = source / "models/registry.json"
    value = json.loads(path.read_bytes())
    value["models"][0]["training_config"]["epochs"] += 1
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    with pytest.raises(CorruptFileError, match=r"registry[.]json: the entry of 'model_v1' differs"):
        plan_copy(source, "copied")


def test_a_lost_registry_is_an_error(source):
    (source / "models/registry.json").unlink()
    with pytest.raises(RegistryLostError):
        plan_copy(source, "copied")


def test_damaged_weights_end_the_copy_before_the_registry_and_a_second_one_continues(
    source, made, destination
):
    path = source / TRAINED / "weights/samples.txt"
    damage(path)
    copy = plan_copy(source, destination)
    with pytest.raises(CorruptFileError, match=f"^{path}: expected sha256 "):
        copy.run()
    assert (destination / TRAINED / "provenance.json").stat() is None
    assert (destination / "models/registry.json").stat() is None
    assert (destination / "models/model_v1/metadata.json").stat() is not None
    path.write_bytes((made / path).read_bytes())
    plan_copy(source, destination).run()
    assert verdicts(destination) == verdicts(source)


def test_data_that_differs_from_its_metadata_is_not_copied(source, destination):
    (source / "datasets/dataset_v1/data.jsonl").write_bytes(b'{"text": "other"}\n')
    copy = plan_copy(source, destination)
    with pytest.raises(DatasetMismatchError, match="dataset_hash: recorded"):
        copy.run()
    assert list((destination / "datasets/dataset_v1").files()) == []
    assert (destination / "datasets/bare/data.jsonl").stat() is not None


def test_damaged_weights_of_the_copy_are_a_conflict(source, destination):
    plan_copy(source, destination).run()
    [file] = [each for each in destination.files() if each.key.endswith("samples.txt")]
    StorePath(destination.store, file.key).replace(b"9")
    with pytest.raises(CopyConflict, match=r"samples[.]txt: expected sha256 "):
        plan_copy(source, destination)


# --- A copy that is killed -----------------------------------------------------------------------


KILLED = """
from src.transfer.plan import plan_copy
plan = plan_copy("artifacts", "copied")
def work():
    plan.run()
"""


def test_a_copy_that_was_killed_anywhere_leaves_no_altered_model_and_is_continued(
    small, crashes, monkeypatch, tree
):
    expected, files = verdicts(small), record(small)
    steps = crashes(KILLED, Path.cwd())
    left = {repr(tree(step / "copied")): step for step in steps}.values()
    assert len(left) > len(files) == 10
    for step in list(left)[:: 1 if LONG else 3]:
        monkeypatch.chdir(step)
        found = {verdict(checks) for _, checks in verify_all("copied")}
        assert found <= {"AS RECORDED", "UNFINISHED"}, step
        plan_copy("artifacts", "copied").run()
        assert verdicts("copied") == expected
        assert record(Path("copied")) == files
