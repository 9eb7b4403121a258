"""Adding a dataset version."""

import json
import signal
from hashlib import sha256
from pathlib import Path

import pytest

from src.artifacts import Artifacts
from src.datasets.adding import DatasetVersionConflict, Outcome, add_dataset
from src.datasets.lines import InvalidLinesError
from src.training.dataset import DatasetMismatchError, resolve_dataset
from tests.examples import DATA, DATA_SHA256
from tests.stores import delete

NEW = b'{"a": 1}\n{"a": 2}\n'
SHA256 = sha256(NEW).hexdigest()
METADATA = f"""\
{{
  "config": {{
    "generator": "llm-train dataset add/1"
  }},
  "dataset_hash": "{SHA256}",
  "dataset_version": "new",
  "num_samples": 2
}}
"""
IMPORTS = """
from src.datasets.adding import add_dataset
"""
PAUSED = f"""{IMPORTS}
def pieces():
    yield {NEW!r}
    print("writing", flush=True)
    input()
print(add_dataset(pieces(), "new").outcome, flush=True)
"""


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def added(data, name, artifacts, **options):
    return add_dataset([data], name, artifacts.root, **options).outcome


def test_a_version_has_the_data_and_its_count_digest_and_source(artifacts, files):
    before = files(artifacts)
    found = add_dataset([NEW[:5], NEW[5:]], "new", artifacts.root)
    assert found.outcome is Outcome.ADDED
    assert (found.path, found.num_samples) == ("artifacts/datasets/new/data.jsonl", 2)
    assert files(artifacts) == before | {
        "datasets/new/data.jsonl": NEW,
        "datasets/new/metadata.json": METADATA.encode(),
    }
    add_dataset([NEW], "sourced", artifacts.root, source="our chats, May")
    metadata = json.loads(files(artifacts)["datasets/sourced/metadata.json"])
    assert metadata["config"] == {
        "generator": "llm-train dataset add/1",
        "source": "our chats, May",
    }


def test_an_added_version_can_be_trained_on(artifacts):
    add_dataset([NEW], "new", artifacts.root)
    found = resolve_dataset("new", artifacts.datasets)
    assert (found.num_samples, found.sha256) == (2, SHA256)
    assert found.metadata_sha256 == sha256(METADATA.encode()).hexdigest()


def test_the_root_is_created(tmp_path):
    add_dataset([NEW], "new", tmp_path / "a/b")
    assert (tmp_path / "a/b/datasets/new/data.jsonl").read_bytes() == NEW


def test_the_same_data_again_changes_nothing(artifacts, files):
    assert added(NEW, "new", artifacts) is Outcome.ADDED
    before = files(artifacts)
    assert added(NEW, "new", artifacts, source="another") is Outcome.UNCHANGED
    assert files(artifacts) == before


def test_other_data_is_a_conflict_and_changes_nothing(artifacts, files):
    before = files(artifacts)
    with pytest.raises(DatasetVersionConflict) as caught:
        add_dataset([NEW], "dataset_v1", artifacts.root, place="my.jsonl")
    assert str(caught.value) == (
        "artifacts/datasets/dataset_v1/data.jsonl: dataset version 'dataset_v1' exists with other "
        "data. Nothing was changed; choose another name.\n"
        f"  exists: 3 samples, sha256 {DATA_SHA256}\n"
        f"  my.jsonl: 2 samples, sha256 {SHA256}"
    )
    assert files(artifacts) == before


def test_a_missing_metadata_json_is_added_to_the_same_data_alone(artifacts, files):
    delete(artifacts.datasets / "dataset_v1/metadata.json")
    with pytest.raises(DatasetVersionConflict):
        add_dataset([NEW], "dataset_v1", artifacts.root)
    assert "datasets/dataset_v1/metadata.json" not in files(artifacts)
    assert added(DATA, "dataset_v1", artifacts) is Outcome.PINNED
    assert resolve_dataset("dataset_v1", artifacts.datasets).metadata_sha256 is not None


def test_data_that_differs_from_its_metadata_json_is_an_error(artifacts):
    (artifacts.datasets / "dataset_v1/data.jsonl").replace(NEW)
    with pytest.raises(DatasetMismatchError):
        add_dataset([NEW], "dataset_v1", artifacts.root)


@pytest.mark.parametrize("artifacts", ["folder"], indirect=True)
def test_a_folder_with_other_files_is_left_alone(artifacts, files):
    (artifacts.datasets / "new/train.jsonl").create(NEW)
    before = files(artifacts)
    with pytest.raises(DatasetVersionConflict) as caught:
        add_dataset([NEW], "new", artifacts.root)
    assert str(caught.value) == (
        "artifacts/datasets/new: exists without a data.jsonl. The folder has 'train.jsonl'. "
        "Nothing was changed; move the folder away, or choose another name."
    )
    assert files(artifacts) == before


@pytest.mark.parametrize("artifacts", ["memory, none"], indirect=True)
def test_an_add_to_an_object_store_that_was_killed_is_completed_by_the_same_add(artifacts):
    add_dataset([NEW], "new", artifacts.root, source="by hand")
    metadata = (artifacts.datasets / "new/metadata.json").read(1 << 20)
    delete(artifacts.datasets / "new/data.jsonl")  # which is written last
    with pytest.raises(DatasetVersionConflict) as caught:
        add_dataset([NEW + NEW], "new", artifacts.root, source="by hand")
    assert str(caught.value) == (
        "artifacts/datasets/new: exists without a data.jsonl. The folder has 'metadata.json'. "
        "Nothing was changed; move the folder away, or choose another name."
    )
    assert add_dataset([NEW], "new", artifacts.root, source="by hand").outcome == "added"
    assert (artifacts.datasets / "new/data.jsonl").read(1 << 20) == NEW
    assert (artifacts.datasets / "new/metadata.json").read(1 << 20) == metadata


@pytest.mark.parametrize("data", [b"", b'{"a": 1}\n\n', b'{"a": 1}\n' * 100_000 + b"[]\n"])
def test_nothing_is_added_if_a_line_is_not_valid(artifacts, files, project, data):
    before = files(artifacts)
    with pytest.raises(InvalidLinesError):
        add_dataset([data], "new", artifacts.root)
    assert files(artifacts) == before
    assert names_in(project / "artifacts/datasets") == ["dataset_v1"]


def test_nothing_is_added_if_the_data_cannot_be_read(artifacts, files, project):
    def failing():
        yield NEW
        raise OSError(5, "Input/output error")

    before = files(artifacts)
    with pytest.raises(OSError, match="Input/output error"):
        add_dataset(failing(), "new", artifacts.root)
    assert files(artifacts) == before
    assert names_in(project / "artifacts/datasets") == ["dataset_v1"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-a", "registry.json", "a" * 129])
def test_a_name_that_is_not_valid_is_refused_before_the_data_is_read(artifacts, name):
    def unread():
        raise AssertionError
        yield b""

    with pytest.raises(ValueError, match=r"^dataset version: expected a name"):
        add_dataset(unread(), name, artifacts.root)


@pytest.mark.parametrize("source", ["\udcff", "x" * 10_001])
def test_a_source_that_is_not_text_or_too_long_is_refused(artifacts, files, source):
    before = files(artifacts)
    with pytest.raises(ValueError, match=r"^source: expected at most 10,000 characters of text"):
        add_dataset([NEW], "new", artifacts.root, source=source)
    assert files(artifacts) == before


@pytest.mark.parametrize("link", ["artifacts/datasets/new", "artifacts/datasets"])
def test_nothing_is_written_through_a_link(project, link):
    outside = project.parent / "outside"
    outside.mkdir()
    if Path(link).exists():
        Path(link).rename(project / "moved")
    Path(link).symlink_to(outside)
    with pytest.raises((ValueError, OSError)):
        add_dataset([NEW], "new")
    assert names_in(outside) == []


def test_processes_that_add_one_version_leave_the_data_of_one_of_them(project, concurrently):
    work = f"""{IMPORTS}---
import contextlib
for number in range(20):
    data = b'{{"a": %d}}\\n' % (int(sys.argv[1]) % 2)
    with contextlib.suppress(ValueError):
        print(add_dataset([data] * 1000, f"d{{number}}").outcome, end=" ")
"""
    outcomes = [each.split() for each in concurrently(work, (0,), (1,), (2,), (3,))]
    assert sum(each.count("added") for each in outcomes) == 20
    for number in range(20):
        resolve_dataset(f"d{number}", "artifacts/datasets")
    names = [f"d{number}" for number in range(20)]
    assert names_in("artifacts/datasets") == sorted(["dataset_v1", *names])


def test_a_process_killed_anywhere_leaves_a_whole_version_or_none(project, crashes):
    work = f"{IMPORTS}def work():\n    add_dataset([{NEW!r}] * 3, 'new')\n"
    copies = crashes(work, project)
    assert len(copies) > 10
    for copy in copies:
        datasets = copy / "artifacts/datasets"
        if (datasets / "new").exists():
            assert resolve_dataset("new", datasets).metadata_sha256 is not None
        add_dataset([NEW] * 3, "new", copy / "artifacts")
        assert names_in(datasets) == ["dataset_v1", "new"]
        assert names_in(datasets / "new") == ["data.jsonl", "metadata.json"]


def test_a_killed_process_leaves_no_data_after_the_next_one(project, start):
    child = start(PAUSED)
    assert child.hear() == "writing"
    [temporary] = Path("artifacts/datasets").glob(".new.*.tmp")
    add_dataset([NEW], "other")
    assert temporary.exists()
    child.process.send_signal(signal.SIGKILL)
    child.process.wait()
    add_dataset([NEW], "new")
    assert names_in("artifacts/datasets") == ["dataset_v1", "new", "other"]


def test_a_version_being_added_by_a_living_process_is_not_disturbed(project, start):
    child = start(PAUSED)
    assert child.hear() == "writing"
    assert added(NEW, "new", Artifacts.open()) is Outcome.ADDED
    child.say()
    assert child.hear() == "unchanged"
    assert names_in("artifacts/datasets/new") == ["data.jsonl", "metadata.json"]


def test_ctrl_c_leaves_nothing(project):
    def interrupted():
        yield NEW
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_dataset(interrupted(), "new")
    assert names_in("artifacts/datasets") == ["dataset_v1"]


def test_a_link_to_the_data_of_another_disk_is_the_same_data(project):
    """A user may have linked data.jsonl by hand, as the documentation of the layout allows."""
    Path("elsewhere.jsonl").write_bytes(NEW)
    folder = Path("artifacts/datasets/linked")
    folder.mkdir()
    (folder / "data.jsonl").symlink_to(Path("elsewhere.jsonl").absolute())
    assert add_dataset([NEW], "linked").outcome is Outcome.PINNED
    assert (folder / "data.jsonl").is_symlink()
