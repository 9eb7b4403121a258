"""Base models: a folder, or a commit of a repository of the Hugging Face hub."""

import json
import sys
from types import ModuleType

import pytest

from src.finetuning.base_model import BaseModel

ONE = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A base model in a folder, relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "README.md"):
        (folder / name).write_text("1")
    return BaseModel(name="base", revision=None)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Calls of `snapshot_download`, which returns a folder of links like the hub's cache."""
    calls = []

    def snapshot_download(repository, **options):
        calls.append((repository, options))
        if repository == "org/unknown":
            raise OSError("401\nClient Error")
        blobs, snapshot = tmp_path / "hub/blobs", tmp_path / f"hub/snapshots/{COMMIT}"
        for folder in (blobs, snapshot):
            folder.mkdir(parents=True)
        for name in ("model.safetensors", "tokenizer.json"):
            (blobs / f"of-{name}").write_text("1")
            (snapshot / name).symlink_to(f"../../blobs/of-{name}")
        return str(snapshot)

    module = ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.chdir(tmp_path)
    return calls


def fault(name, revision=None):
    with pytest.raises(ValueError) as caught:
        BaseModel(name=name, revision=revision).folder()
    return str(caught.value)


def test_a_folder_is_used_as_it_is_named(base):
    assert str(base.folder()) == "base"
    assert base.files() == {"config.json": ONE, "model.safetensors": ONE}


def test_a_folder_that_does_not_exist_is_an_error_that_says_what_to_do(base):
    assert fault("base_models/tiny-llama") == (
        "model: expected a folder, found no folder 'base_models/tiny-llama'. The option's "
        "default is `base_model` of the config. `make train` creates those of the demonstrations. "
        "For a model of the Hugging Face hub, set `revision` to the hash of a commit."
    )


def test_a_folder_has_no_revision(base):
    assert fault("base", COMMIT) == (
        f"revision: expected none, because the model is the folder 'base', found '{COMMIT}'. "
        "Remove it."
    )


def test_weights_in_a_format_that_can_contain_code_are_not_used(base, tmp_path):
    (tmp_path / "base/model.safetensors").rename(tmp_path / "base/pytorch_model.bin")
    assert fault("base") == (
        "model: base: expected weights in files *.safetensors, found none. Other formats are not "
        "loaded, because some contain code."
    )


def test_an_adapter_is_not_a_base_model_because_it_names_another_one(base, tmp_path):
    (tmp_path / "base/adapter_config.json").write_text("{}")
    assert fault("base") == (
        "model: base: expected a whole model, found an adapter, because there is "
        "adapter_config.json. Merge it into its base model, and name the result."
    )


@pytest.mark.parametrize("weights", ["../other.safetensors", "sub/other.safetensors", "/other"])
def test_weights_outside_of_the_folder_are_refused_because_nothing_records_them(
    base, tmp_path, weights
):
    file = tmp_path / "base/model.safetensors.index.json"
    file.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": weights}}))
    expected = (
        f"expected names of files in this folder, found {weights!r}. Only files in the folder "
        "are recorded."
    )
    assert fault("base") == f"model: base/{file.name}: {expected}"
    file.unlink()
    (tmp_path / "base/config.json").write_text(json.dumps({"transformers_weights": weights}))
    assert fault("base") == f"model: base/config.json: {expected}"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"weight_map": []}', '{"weight_map": {"a": "model.safetensors"}}']
)
def test_an_index_that_names_no_other_file_is_left_to_the_library(base, tmp_path, text):
    (tmp_path / "base/model.safetensors.index.json").write_text(text)
    assert str(base.folder()) == "base"


def test_a_device_in_place_of_an_index_is_not_read(base, tmp_path):
    (tmp_path / "base/model.safetensors.index.json").symlink_to("/dev/zero")
    assert str(base.folder()) == "base"


def test_nothing_is_downloaded_for_an_adapter_that_is_measured(hub):
    with pytest.raises(ValueError, match="not the one that the adapter was trained on"):
        BaseModel(name="org/name", revision=COMMIT).check_files({})
    assert hub[0][1]["local_files_only"] is True


def test_a_commit_of_the_hub_is_downloaded_without_code_and_its_links_are_followed(hub):
    base = BaseModel(name="org/name", revision=COMMIT)
    assert base.files() == {"model.safetensors": ONE, "tokenizer.json": ONE}
    [(repository, options)] = hub
    assert (repository, options["revision"]) == ("org/name", COMMIT)
    assert options["local_files_only"] is False
    assert options["allow_patterns"] == ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


def test_a_commit_that_cannot_be_downloaded_is_an_error_on_one_line(hub):
    assert fault("org/unknown", COMMIT) == (
        f"model: org/unknown at revision {COMMIT}: neither in the local cache nor downloaded (401 "
        "Client Error). If it is a folder, remove `revision`; else run `.venv-train/bin/hf "
        f"download org/unknown --revision {COMMIT}`."
    )


def test_files_other_than_those_of_the_training_are_named_with_both_digests(base, tmp_path):
    recorded = base.files()
    base.check_files(recorded)
    (tmp_path / "base/config.json").write_text("")
    (tmp_path / "base/tokenizer.json").write_text("1")
    (tmp_path / "base/README.md").unlink()
    with pytest.raises(ValueError) as caught:
        base.check_files(recorded)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert str(caught.value).splitlines()[1:] == [
        f"base/config.json: expected sha256 {ONE}, found sha256 {empty}.",
        f"base/tokenizer.json: expected no file, found sha256 {ONE}.",
    ]
