"""What the trainer `lora` and the evaluator `held-out-loss` declare, without their libraries."""

import ast
import json
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.evaluation.contract import EvaluationRun
from src.finetuning import held_out_loss, lora
from src.finetuning.base_model import BaseModel
from src.finetuning.language_model import (
    faults_end_the_process,
    prepare_libraries,
    read_finetuning,
)
from src.finetuning.options import trainer_options
from src.records.dataset_version import DatasetVersion
from tests.conftest import REPOSITORY

PACKAGE = "src.finetuning"
SHA = "a" * 64


def imported(module):
    """Return the files of the modules of the package that a module imports, directly or not."""
    found, waiting = set(), [module]
    while waiting:
        path = Path(import_module(waiting.pop()).__file__)
        if str(path) in found:
            continue
        found.add(str(path))
        waiting += [
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module.startswith(f"{PACKAGE}.")
        ]
    return found


@pytest.mark.parametrize("component", [lora.train, held_out_loss.evaluate])
def test_the_code_of_a_component_is_all_that_it_imports_of_the_package(component):
    own = import_module(component.__module__).__file__
    assert imported(component.__module__) == {own, *component.code}


def test_both_are_installed_under_their_names():
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]
    found = {name: target for group in groups.values() for name, target in group.items()}
    assert found == {
        "lora": "src.finetuning.lora:train",
        "held-out-loss": "src.finetuning.held_out_loss:evaluate",
    }
    for target in found.values():
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name))


def test_a_sweep_ranks_by_the_loss_and_a_latency_is_not_compared():
    assert held_out_loss.evaluate.better == {"loss": "lower"}
    assert held_out_loss.evaluate.measured == ("latency_ms",)


def test_libraries_that_are_not_installed_are_an_error_that_says_what_to_do(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "")
    for name in ("CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError) as caught:
        prepare_libraries(threads=1, device=None)
    assert str(caught.value).startswith(f"{sys.executable}: ")
    assert str(caught.value).endswith(
        ". Set `python: .venv-train/bin/python` in the config; `make train-env` creates it."
    )


def test_a_fault_of_the_settings_ends_a_component_with_its_message_and_no_traceback():
    fault = "run.device: expected cpu or cuda, found 'gpu'."
    for component in (lora.train, held_out_loss.evaluate):
        with pytest.raises(SystemExit) as caught:
            component(SimpleNamespace(settings={"device": "gpu"}))
        assert caught.value.code == fault


def test_an_unexpected_error_keeps_its_traceback():
    with pytest.raises(KeyError), faults_end_the_process():
        raise KeyError


# --- The lines of a training ---------------------------------------------------------------------


class Characters:
    """A tokenizer whose tokens are characters."""

    eos_token_id = 0

    def __call__(self, text, **_):
        return {"input_ids": [ord(each) for each in text]}


def training_samples(tmp_path, **options):
    """Return the samples to train on, of eight lines; line 3 has the longest prompt."""
    path = tmp_path / "data.jsonl"
    prompts = ["1", "2", "3" * 100, "4", "5", "6", "7", "8"]
    path.write_text("".join(f'{{"input": "{each}", "output": "x"}}\n' for each in prompts))
    dataset = DatasetVersion(name="data", path=str(path), num_samples=8, sha256=SHA)
    run = SimpleNamespace(dataset=dataset, options=trainer_options(options))
    return lora._training_samples(run, Characters())


def test_lines_that_are_held_out_are_not_trained_on(tmp_path):
    lines = [each.line for each in training_samples(tmp_path, held_out=0.5)]
    assert lines == [2, 7]
    with pytest.raises(ValueError, match="all 8 lines are held out, so none is left to train on"):
        training_samples(tmp_path, held_out=0.999999)


def test_a_line_that_cannot_be_measured_is_found_before_the_training(tmp_path):
    assert 3 not in [each.line for each in training_samples(tmp_path, held_out=0.5)]
    with pytest.raises(ValueError, match="line 3: its prompt has 101 tokens, and max_length 50"):
        training_samples(tmp_path, held_out=0.5, max_length=50)


# --- The files of an adapter ---------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """The folder of an adapter, made from a checkpoint with sets in another order."""
    monkeypatch.chdir(tmp_path)
    for name in ("base", "checkpoint-1", "output"):
        Path(name).mkdir()
    Path("base/model.safetensors").write_text("1")
    Path("checkpoint-1/adapter_model.safetensors").write_text("weights")
    config = {
        "base_model_name_or_path": "/home/user/.cache/base",
        "exclude_modules": None,
        "modules_to_save": ["b", "a"],
        "target_modules": ["v", "q"],
    }
    Path("checkpoint-1/adapter_config.json").write_text(json.dumps(config))
    run = SimpleNamespace(
        output=Path("output"),
        options=trainer_options({"held_out": 0.5}),
        dataset=SimpleNamespace(sha256=SHA),
    )
    base_model = BaseModel(name="base", revision=None)
    lora._write_adapter(run, Path("checkpoint-1"), base_model)
    return Path("output")


def test_the_config_of_an_adapter_depends_on_no_order_of_sets_and_no_path(adapter):
    assert json.loads((adapter / "adapter_config.json").read_bytes()) == {
        "base_model_name_or_path": "base",
        "exclude_modules": None,
        "modules_to_save": ["a", "b"],
        "revision": None,
        "target_modules": ["q", "v"],
    }
    assert (adapter / "adapter_model.safetensors").read_text() == "weights"


def test_an_adapter_has_what_its_evaluation_needs(adapter):
    assert read_finetuning(adapter) == {
        "base_model": {
            "name": "base",
            "revision": None,
            "files": {
                "model.safetensors": (
                    "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
                )
            },
        },
        "dataset_sha256": SHA,
        "prompt": "{input}\n",
        "completion": "{output}",
        "max_length": 512,
        "held_out": 0.5,
        "dtype": "float32",
    }


def test_a_model_of_another_trainer_is_not_measured(adapter):
    other = Path("other")
    other.mkdir()
    (other / "adapter_model.safetensors").write_text("weights")
    (other / "finetuning.json").write_text('{"base_model": "base"}')
    (adapter / "finetuning.json").unlink()
    for folder, found in (
        (adapter, "output"),
        (other, "other"),
        (None, "a model without weights"),
    ):
        with pytest.raises(ValueError) as caught:
            read_finetuning(folder)
        assert str(caught.value) == (
            "held-out-loss: expected a model that the trainer `lora` has trained, with "
            f"adapter_model.safetensors and finetuning.json, found {found}."
        )


# --- The lines of an evaluation ------------------------------------------------------------------


def lines_measured(tmp_path, *, sha256, held_out):
    """Return the lines that are measured, of eight, for a model that was trained on `SHA`."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(f'{{"input": "{n}", "output": "{n}"}}\n' for n in range(1, 9)))
    dataset = DatasetVersion(name="data", path=str(path), num_samples=8, sha256=sha256)
    run = EvaluationRun(model=None, metadata={}, dataset=dataset, options={}, seed=0, settings={})
    finetuning = {
        "dataset_sha256": SHA,
        "prompt": "{input}",
        "completion": "{output}",
        "held_out": held_out,
    }
    return [each.line for each in held_out_loss._samples(run, finetuning)]


def test_of_the_training_data_only_held_out_lines_are_measured(tmp_path):
    assert lines_measured(tmp_path, sha256=SHA, held_out=0.5) == [3, 4, 5, 8]


def test_of_other_data_all_lines_are_measured(tmp_path):
    assert lines_measured(tmp_path, sha256="b" * 64, held_out=0.0) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_without_a_held_out_line_there_is_nothing_to_measure(tmp_path):
    with pytest.raises(ValueError) as caught:
        lines_measured(tmp_path, sha256=SHA, held_out=0.0)
    assert str(caught.value) == (
        f"{tmp_path / 'data.jsonl'}: the model was trained on all of its lines (`held_out: 0`), so "
        "none is left to measure on. Raise `held_out` of the trainer, or set `dataset_version` of "
        "the evaluator to other data."
    )
