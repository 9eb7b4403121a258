"""Descriptions of components: the files of their code and of their base model."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from src.components import description as module
from src.components.component import Component, Execution
from src.components.description import (
    ComponentError,
    changed_files,
    describe,
    shared_descriptions,
)
from src.digest import Digest
from src.storage import folder, open_file
from src.training.hashing import count_and_hash_once

ONE = Digest(1, "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b")
OTHER = Digest(2, "785f3ec7eb32f30b90cd0fcf3657d388b5ff4297f2f9716ff66e9b69c05ddd09")


@pytest.fixture
def hashed(project, monkeypatch):
    """The names of the files that are hashed."""
    monkeypatch.setattr(folder, "RACY_NS", -(10**18))  # a file that was just written has a memo
    hashed = []
    digest = module._digest
    monkeypatch.setattr(module, "_digest", lambda path: hashed.append(path.name) or digest(path))
    Path("train.sh").write_text("true")
    Path("base").mkdir()
    Path("base/model.bin").write_text("1")
    return hashed


def described():
    component = Component(use="command", argv=("sh", "train.sh"), base_model=("base/*",))
    return describe(component, "trainer", "config.yaml")


def test_an_unchanged_file_of_a_base_model_is_hashed_once(hashed):
    assert [described().base_model for _ in range(3)] == [{"base/model.bin": ONE}] * 3
    assert hashed == ["train.sh", "model.bin", "train.sh", "train.sh"]


def test_a_file_of_a_base_model_that_was_changed_is_hashed_again(hashed):
    described()
    Path("base/model.bin").write_text("22")
    assert described().base_model == {"base/model.bin": OTHER}


def test_a_dataset_that_is_a_base_model_keeps_its_number_of_lines(hashed):
    path = open_file("base/model.bin")
    assert (count_and_hash_once(path), described().base_model) == (
        (1, ONE.sha256),
        {"base/model.bin": ONE},
    )
    assert count_and_hash_once(path) == (1, ONE.sha256)


def test_files_that_have_changed_since_are_named(hashed):
    files = described().base_model_files
    assert changed_files(files) == {}
    Path("base/model.bin").write_text("22")
    changed = Path("base/model.bin").resolve()
    how = f"changed from sha256 {ONE.sha256} to {OTHER.sha256}"
    assert changed_files(files) == {changed: how}
    shutil.rmtree("base")
    assert changed_files(files) == {changed: "deleted"}


# --- Components in Python ------------------------------------------------------------------------

MODULE = """
open("imports", "a").write("x")
def train(run): pass
"""


def described_for(epochs, **options):
    component = Component(use="mine:train", options=options)
    return describe(component, "trainer", "config.yaml", {"epochs": epochs})


def imports():
    return len(Path("imports").read_text())


def test_configs_that_share_descriptions_import_a_component_once(project):
    Path("mine.py").write_text(MODULE)
    with shared_descriptions():
        first = described_for(1)
        assert described_for(2) == first
        assert imports() == 1
        described_for(2, rank=8)
        assert imports() == 2
    described_for(2)
    assert imports() == 3


def test_folders_that_an_import_has_nested_deeply_are_removed(project, monkeypatch, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    Path("mine.py").write_text(
        MODULE
        + "import os\nhere = os.getcwd()\n"
        + "os.chdir(os.path.dirname(os.environ['LLM_TRAIN_RUN']))\n"
        + "for _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\n"
        + "os.chdir(here)\n"
    )
    described_for(1)
    assert list(folder.iterdir()) == []


def test_a_component_that_was_changed_is_imported_again(project):
    Path("mine.py").write_text(MODULE)
    with shared_descriptions():
        described_for(1)
        Path("mine.py").write_text(f"{MODULE}train.version = '2'\n")
        assert described_for(1).version == "2"


def test_a_component_whose_base_model_depends_on_the_config_is_imported_for_each_config(project):
    Path("mine.py").write_text(
        f"{MODULE}train.base_model = lambda config, options: f'base-{{config[\"epochs\"]}}'\n"
    )
    for name in ("base-1", "base-2"):
        Path(name).mkdir()
        Path(name, name).write_text("1")
    with shared_descriptions():
        found = [described_for(epochs).base_model for epochs in (1, 2)]
    assert found == [{"base-1": ONE}, {"base-2": ONE}]


BASE = "def base(run, k): pass\n"
PARTIAL = "import functools\nfrom base import base\ntrain = functools.partial(base, k=1)\n"
DECORATOR = "def deco(function):\n    def inner(run): return function(run)\n    return inner\n"
DECORATED = "from deco import deco\n@deco\ndef train(run): pass\n"
WRAPPED = (
    "import functools\nfrom base import base\ntrain = functools.wraps(base)(lambda run: None)\n"
)

ENDLESS = """
class Endless:
    func = property(lambda self: Endless())
    def __call__(self, run): pass
train = Endless()
"""


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"base.py": BASE, "mine.py": PARTIAL}, ["base.py", "mine.py"]),
        ({"deco.py": DECORATOR, "mine.py": DECORATED}, ["deco.py", "mine.py"]),
        ({"base.py": BASE, "mine.py": WRAPPED}, ["base.py", "mine.py"]),
        ({"base.py": BASE, "mine.py": "from base import base as train\n"}, ["base.py", "mine.py"]),
        ({"mine.py": "from json import loads as train\n"}, ["mine.py"]),
        ({"mine.py": ENDLESS}, ["mine.py"]),
    ],
    ids=["partial", "decorated", "wrapped", "imported", "of a library", "wrapped without end"],
)
def test_the_module_that_use_names_and_that_of_a_wrapped_function_are_code(files, code, project):
    for name, text in files.items():
        Path(name).write_text(text)
    before = described_for(1).identity()
    assert sorted(described_for(1).code) == code
    for name in code:
        Path(name).write_text(f"{files[name]}# edited\n")
        after = described_for(1).identity()
        assert after != before
        before = after


def test_modules_of_one_file_name_outside_of_the_working_directory_are_all_recorded(
    project, tmp_path, monkeypatch
):
    for name, text in (("one", "from two import train\n"), ("two", "def train(run): pass\n")):
        (tmp_path / "lib" / name).mkdir(parents=True)
        (tmp_path / "lib" / name / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    found = describe(Component(use="one:train"), "trainer", "config.yaml").code
    assert list(found) == ["__init__.py", "two/__init__.py"]


# --- What a component may describe ---------------------------------------------------------------

WRITES_ITSELF = """
import json, os
from pathlib import Path
run = json.loads(Path(os.environ["LLM_TRAIN_RUN"]).read_bytes())
Path(run["describe"]).write_text({text!r})
os._exit(0)
"""
VALID = {
    "options": {},
    "version": None,
    "modules": ["mine.py"],
    "base_model": None,
    "depends_on_config": False,
    "measured": [],
    "better": {},
}


def error_of(value):
    """Return the error for a module that writes its description itself."""
    Path("mine.py").write_text(WRITES_ITSELF.format(text=json.dumps(value)))
    with pytest.raises(ComponentError) as caught:
        described_for(1)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"measured": 5}, "measured: expected a list of texts, found 5."),
        ({"measured": [5]}, "measured: expected a list of texts, found [5]."),
        ({"modules": 5}, "modules: expected a list of texts, found 5."),
        ({"options": 7}, "options: expected an object, found 7."),
        ({"base_model": 5}, "base_model: expected text or null, found 5."),
        ({"version": 1}, "version: expected text or null, found 1."),
        ({"better": {"loss": []}}, "better: expected an object of texts, found {'loss': []}."),
        ({"depends_on_config": 1}, "depends_on_config: expected true or false, found 1."),
        ({"faults": 5}, "faults: expected a list of texts, found 5."),
        ({"faults": []}, "faults: expected a list of texts, found []."),
    ],
)
def test_a_description_of_another_form_is_an_error_that_names_the_key(change, reason, project):
    expected = f"config.yaml: trainer.use: 'mine:train': its description: {reason}"
    assert error_of({**VALID, **change}) == expected


def test_a_description_without_a_key_is_an_error(project):
    reason = "its description: options: expected an object, found nothing."
    assert error_of({"version": "1"}) == f"config.yaml: trainer.use: 'mine:train': {reason}"


def test_only_regular_files_are_hashed_as_code(project):
    os.mkfifo("pipe")
    for path, kind in (("/dev/zero", "a device"), ("pipe", "a FIFO")):
        reason = f"{path}: expected a regular file, found {kind}. Left as found."
        assert error_of({**VALID, "modules": [path]}) == f"config.yaml: trainer.use: {reason}"


@pytest.mark.parametrize("key", ["code", "base_model"])
def test_a_sparse_file_that_a_pattern_matches_is_refused_without_reading_it(key, project):
    Path("train.sh").write_text("true")
    with Path("huge.bin").open("wb") as file:
        file.truncate(1 << 40)
    component = Component(
        use="command",
        argv=("sh", "train.sh"),
        lines={"argv": 2, "code": 3, "base_model": 3},
        **{key: ("*.bin",)},
    )
    with pytest.raises(
        ComponentError, match=r"huge\.bin: a sparse file: no data is stored from byte 0"
    ) as caught:
        describe(component, "trainer", "config.yaml")
    assert str(caught.value).startswith(f"config.yaml:3: trainer.{key}: ")


@pytest.mark.parametrize("key", ["code", "base_model"])
def test_a_file_name_that_is_not_utf_8_is_named_with_its_line(key, project):
    Path(os.fsdecode(b"bad\xff.bin")).write_text("1")
    Path("train.sh").write_text("true")
    component = Component(
        use="command", argv=("sh", "train.sh"), lines={"code": 3, "base_model": 3}
    )
    with pytest.raises(ComponentError) as caught:
        describe(replace(component, **{key: ("*.bin",)}), "trainer", "config.yaml")
    file = f"'{Path.cwd()}/bad\\udcff.bin'"
    reason = f"{file}: expected a file name in UTF-8."
    assert str(caught.value) == f"config.yaml:3: trainer.{key}: {reason}"


@pytest.mark.parametrize("make", [lambda _: None, Path.mkdir], ids=["missing", "empty"])
def test_a_folder_of_a_base_model_without_files_is_refused(make, project):
    make(Path("base"))
    Path("mine.py").write_text(f"{MODULE}train.base_model = lambda config, options: 'base'\n")
    with pytest.raises(ComponentError) as caught:
        described_for(1)
    assert str(caught.value) == (
        "config.yaml: trainer.use: 'mine:train': base_model: expected a folder with files, found "
        f"'{Path.cwd()}/base', which has none."
    )


def test_options_that_no_statement_could_hold_are_refused_with_their_line(project):
    deep = f"{'[' * 40}{']' * 40}"
    Path("mine.py").write_text(f"{MODULE}train.check_options = lambda options: {{'n': {deep}}}\n")
    component = Component(use="mine:train", lines={"options": 4})
    with pytest.raises(ComponentError) as caught:
        describe(component, "trainer", "config.yaml", {})
    assert str(caught.value) == ("config.yaml:4: trainer.options: nested in more than 40 levels.")


# --- Files of a component's code, its base model, and its environment ----------------------------


def test_the_files_that_a_component_names_belong_to_its_code(project):
    Path("mine.py").write_text(
        f"{MODULE}from pathlib import Path\ntrain.code = [Path('part.py')]\n"
    )
    digests = []
    for text in ("1", "2"):
        Path("part.py").write_text(text)
        found = described_for(1)
        assert list(found.code) == ["mine.py", "part.py"]
        digests.append(found.identity()["code"])
    assert digests[0] != digests[1]


def test_a_component_with_a_version_has_no_files_of_code(project):
    Path("mine.py").write_text(f"{MODULE}train.code = ['part.py']\ntrain.version = '1'\n")
    assert (described_for(1).version, described_for(1).code) == ("1", {})


@pytest.mark.parametrize("value", ["'part.py'", "3"])
def test_code_that_is_not_a_list_of_paths_is_an_error(value, project):
    Path("mine.py").write_text(f"{MODULE}train.code = {value}\n")
    with pytest.raises(ComponentError, match=r"code: expected a list of paths, found (str|int)"):
        described_for(1)


def test_a_file_of_code_that_does_not_exist_is_named(project):
    Path("mine.py").write_text(f"{MODULE}train.code = ['part.py']\n")
    with pytest.raises(FileNotFoundError, match=r"part\.py"):
        described_for(1)


def test_a_base_model_that_a_trainer_refuses_is_an_error_of_its_option(project):
    Path("mine.py").write_text(
        f"{MODULE}def base_model(config, options):\n    raise ValueError('model: not there.')\n"
        "train.base_model = base_model\n"
    )
    with pytest.raises(ComponentError) as caught:
        described_for(1)
    assert str(caught.value) == "config.yaml: trainer.options.model: not there."


def test_files_of_a_base_model_that_are_links_are_recorded_with_their_contents(project):
    # The layout of the cache of the Hugging Face hub.
    Path("hub/blobs").mkdir(parents=True)
    Path("hub/blobs/of-model").write_text("1")
    Path("hub/snapshots/commit").mkdir(parents=True)
    Path("hub/snapshots/commit/model.safetensors").symlink_to("../../blobs/of-model")
    Path("mine.py").write_text(f"{MODULE}train.base_model = lambda *_: 'hub/snapshots/commit'\n")
    found = described_for(1)
    assert found.base_model == {"model.safetensors": ONE}
    assert changed_files(found.base_model_files) == {}
    Path("hub/blobs/of-model").write_text("22")
    assert list(changed_files(found.base_model_files)) == [
        Path("hub/snapshots/commit/model.safetensors").absolute()
    ]


def test_an_interpreter_that_does_not_exist_is_an_error_that_says_what_to_do(project):
    component = Component(
        use="mine:train", execution=Execution(python=".venv-train/bin/python"), lines={"python": 9}
    )
    with pytest.raises(ComponentError) as caught:
        describe(component, "trainer", "config.yaml", {})
    assert str(caught.value) == (
        "config.yaml:9: trainer.python: expected a Python interpreter, found no file "
        "'.venv-train/bin/python'. Create its environment; `make train-env` creates .venv-train."
    )
