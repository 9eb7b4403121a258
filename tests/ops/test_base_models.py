"""Base models of the demonstrations; tests/e2e_train creates one for real."""

import os
from pathlib import Path

import pytest

from ops import base_models
from tests.examples import CONFIG, WRONG_FILES

CONFIG_FILE = "tiny.yaml"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A project, and the calls of the function that creates its base model."""
    monkeypatch.chdir(tmp_path)
    calls = []

    def make(folder):
        calls.append(folder.name)
        folder.mkdir()
        (folder / "model.safetensors").write_text("1")

    monkeypatch.setitem(base_models._MAKERS, "base_models/tiny-llama", (make, "a tiny model"))
    Path(CONFIG_FILE).write_text(CONFIG.replace("mistral-7b", "base_models/tiny-llama"))
    return calls


def names():
    return sorted(path.as_posix() for path in Path("base_models").rglob("*"))


def test_the_base_model_of_a_demonstration_is_created_once(made, capsys):
    base_models.main(CONFIG_FILE)
    assert names() == ["base_models/tiny-llama", "base_models/tiny-llama/model.safetensors"]
    base_models.main(CONFIG_FILE)
    assert made == ["tiny-llama"]
    assert capsys.readouterr().err == "Creating base_models/tiny-llama: a tiny model ...\n"


def test_of_two_that_create_a_base_model_at_the_same_time_both_succeed(made, monkeypatch):
    maker, what = base_models._MAKERS["base_models/tiny-llama"]

    def make_after_another(folder):
        maker(folder)
        maker(Path("base_models/tiny-llama"))

    monkeypatch.setitem(base_models._MAKERS, "base_models/tiny-llama", (make_after_another, what))
    base_models.main(CONFIG_FILE)
    assert names() == ["base_models/tiny-llama", "base_models/tiny-llama/model.safetensors"]


def test_another_config_needs_no_base_model(made):
    Path("other.yaml").write_text(CONFIG)
    base_models.main("other.yaml")
    assert made == []
    assert not Path("base_models").exists()


@pytest.mark.parametrize("text", [*WRONG_FILES.values(), b"- a\n", b"base_model: [a]\n"])
def test_a_config_that_is_not_valid_is_left_to_the_run_which_names_its_faults(made, text):
    Path("other.yaml").write_bytes(text)
    os.mkfifo("fifo.yaml")
    for path in ("other.yaml", "missing.yaml", "fifo.yaml", "."):
        base_models.main(path)
    assert made == []


def test_a_base_model_that_was_not_finished_is_not_there(made, monkeypatch):
    def fail(folder):
        folder.mkdir()
        (folder / "model.safetensors").write_text("half")
        raise OSError("disk full")

    monkeypatch.setitem(base_models._MAKERS, "base_models/tiny-llama", (fail, "a tiny model"))
    with pytest.raises(OSError, match="disk full"):
        base_models.main(CONFIG_FILE)
    assert names() == []
