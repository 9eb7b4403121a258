"""The schemas of configs, read by an independent library: they agree with the loader."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from src.training.component_config import COMPONENT_KEYS
from src.training.config import BASE, ConfigError, parse_training_config
from src.training.config_schema import schema_text, sweep_schema, training_schema
from src.training.grids import find_configs
from src.training.settings import CHECKS
from src.training.yaml12 import json_value
from tests.conftest import REPOSITORY
from tests.strategies import as_yaml, component_values, config_values, texts

FILES = {
    "training": REPOSITORY / "configs/training/schema.json",
    "sweep": REPOSITORY / "configs/sweeps/schema.json",
}
SCHEMAS = {"training": training_schema(), "sweep": sweep_schema()}
TRAINING, SWEEP = (Draft202012Validator(schema) for schema in SCHEMAS.values())
VALUES = {
    "base_model": "mistral-7b",
    "dataset_version": "dataset_v1",
    "learning_rate": 2e-5,
    "epochs": 3,
    "batch_size": 16,
}


def is_loaded(values):
    """Return whether the loader accepts a config."""
    try:
        parse_training_config(as_yaml(values), "c.yaml")
    except ConfigError:
        return False
    return True


def values_of(path):
    """Return the values of a YAML file, by YAML 1.2 as editors read it."""
    return json_value(yaml.compose(path.read_text()))


# --- The files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FILES)
def test_the_file_is_what_the_command_in_its_docs_prints(kind):
    done = subprocess.run(
        [sys.executable, "-m", "src.training.config_schema", kind],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == schema_text(SCHEMAS[kind])
    assert FILES[kind].read_text() == done.stdout


@pytest.mark.parametrize("kind", FILES)
def test_a_schema_is_valid_in_the_dialect_that_it_names(kind):
    Draft202012Validator.check_schema(SCHEMAS[kind])
    assert SCHEMAS[kind]["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


def test_a_schema_has_every_key_of_the_loader_in_its_order():
    properties = SCHEMAS["training"]["properties"]
    assert [*properties] == [*CHECKS, *COMPONENT_KEYS, BASE]
    for kind, keys in COMPONENT_KEYS.items():
        assert [*properties[kind]["properties"]] == keys
    assert [*SCHEMAS["sweep"]["properties"]] == [BASE, *CHECKS]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").rglob("*.yaml")), ids=str)
def test_every_config_names_the_schema_that_accepts_it_in_its_first_line(path):
    kind = "sweep" if path.parent.name == "sweeps" else "training"
    comment, _, name = path.read_text().splitlines()[0].partition("=")
    assert comment == "# yaml-language-server: $schema"
    assert (path.parent / name).resolve() == FILES[kind]
    assert [*Draft202012Validator(SCHEMAS[kind]).iter_errors(values_of(path))] == []


def test_every_key_has_a_description():
    properties = SCHEMAS["training"]["properties"]
    keys = [properties[kind]["properties"] for kind in COMPONENT_KEYS]
    for name, value in [item for each in (properties, *keys) for item in each.items()]:
        assert value["description"], name


def test_the_examples_of_the_settings_are_a_valid_config():
    properties = SCHEMAS["training"]["properties"]
    examples = {name: properties[name]["examples"][0] for name in CHECKS}
    assert examples == VALUES
    assert is_loaded(examples)


# --- The schema accepts what the loader accepts --------------------------------------------------


@given(
    config_values,
    st.fixed_dictionaries({}, optional={kind: component_values(kind) for kind in COMPONENT_KEYS}),
)
def test_a_config_that_the_loader_accepts_is_valid(settings, components):
    values = settings | components
    assert is_loaded(values)
    assert [*TRAINING.iter_errors(values)] == []


@given(st.sampled_from(sorted(CHECKS)), st.sampled_from("   x"), texts, st.sampled_from("   x"))
def test_a_text_that_the_loader_accepts_is_valid(key, before, text, after):
    values = {**VALUES, key: before + text + after}
    if is_loaded(values):
        assert TRAINING.is_valid(values)


@pytest.mark.parametrize(
    "changed",
    [
        {"base_model": " " * 300 + "a" * 256 + "\n"},
        {"base_model": "a"},
        {"dataset_version": " v1\n"},
        {"dataset_version": "registry.jsonl"},
        {"learning_rate": 1},
        {"learning_rate": 1.7976931348623157e308},
        {"learning_rate": 5e-324},
        {"epochs": 2**53 - 1},
        {"trainer": {"use": "simulated", "seed": 0}},
        {"trainer": {"use": "lora", "code": "a..b/..c"}},
        {"trainer": {"use": "lora", "code": "..\n"}},
        {BASE: "configs/training/tiny_lora.yaml", "trainer.rank": 8, "evaluator.a.b": [1]},
    ],
)
def test_the_limits_of_a_value_are_valid(changed):
    assert is_loaded(VALUES | changed)
    assert [*TRAINING.iter_errors(VALUES | changed)] == []


# --- Both refuse ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"base_model": 7},
        {"base_model": ""},
        {"base_model": "   "},
        {"base_model": "a" * 257},
        {"base_model": "a\nb"},
        {"dataset_version": "../data"},
        {"dataset_version": "a" * 129},
        {"dataset_version": "Registry.JSON"},
        {"dataset_version": "registry.json.lock"},
        {"learning_rate": 0},
        {"learning_rate": -2e-5},
        {"learning_rate": "fast"},
        {"learning_rate": "2e-5"},
        {"learning_rate": True},
        {"learning_rate": 10**400},
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"epochs": "3"},
        {"epochs": None},
        {"epochs": [3]},
        {"epochs": 2**53},
        {"batch_size": -1},
        {"batch_size": False},
        {"epoch": 3},
        {"trainer.rank": 8},
        {"trainer": "lora"},
        {"trainer": {}},
        {"trainer": {"use": "a b"}},
        {"trainer": {"use": "a:b:c"}},
        {"trainer": {"use": "a" * 101}},
        {"trainer": {"use": "lora", "rank": 8}},
        {"trainer": {"use": "lora", "seed": -1}},
        {"trainer": {"use": "lora", "seed": True}},
        {"trainer": {"use": "lora", "options": [1]}},
        {"trainer": {"use": "lora", "argv": ["a"]}},
        {"trainer": {"use": "lora", "python": ""}},
        {"trainer": {"use": "lora", "timeout_seconds": 0}},
        {"trainer": {"use": "lora", "timeout_seconds": "1h"}},
        {"trainer": {"use": "lora", "timeout_seconds": 2e9}},
        {"trainer": {"use": "lora", "code": []}},
        {"trainer": {"use": "lora", "code": "/etc/passwd"}},
        {"trainer": {"use": "lora", "code": "a/../b"}},
        {"trainer": {"use": "lora", "base_model": ["a", ".."]}},
        {"trainer": {"use": "lora", "dataset_version": "v1"}},
        {"trainer": {"use": "command"}},
        {"trainer": {"use": "command", "argv": []}},
        {"trainer": {"use": "command", "argv": "python train.py"}},
        {"trainer": {"use": "command", "argv": ["python"], "python": "p"}},
        {"trainer": {"use": "simulated", "seed": 1}},
        {"trainer": {"use": "simulated", "run": {"device": "cuda"}}},
        {"evaluator": {"use": "lora", "better": {"loss": "lower"}}},
        {"evaluator": {"use": "lora", "base_model": "*"}},
        {"evaluator": {"use": "lora", "dataset_version": " v1"}},
        {"evaluator": {"use": "command", "argv": ["a"], "measured": [""]}},
        {"evaluator": {"use": "command", "argv": ["a"], "better": {"loss": "up"}}},
        {BASE: 3},
        {BASE: "a" * 1025},
        {BASE: "c.yaml", "trainer": {"use": "lora"}},
    ],
    ids=str,
)
def test_a_fault_is_refused_by_the_loader_and_by_the_schema(changed):
    assert not is_loaded(VALUES | changed)
    assert not TRAINING.is_valid(VALUES | changed)


@pytest.mark.parametrize("key", VALUES)
def test_a_missing_key_is_refused_by_the_loader_and_by_the_schema(key):
    values = {name: value for name, value in VALUES.items() if name != key}
    assert not is_loaded(values)
    assert not TRAINING.is_valid(values)


@pytest.mark.parametrize("changed", [{"epochs": 3.0}, {"base_model": "\u202e"}], ids=str)
def test_some_faults_are_found_by_the_loader_alone(changed):
    assert not is_loaded(VALUES | changed)
    assert TRAINING.is_valid(VALUES | changed)


# --- Sweeps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "is_valid"),
    [
        ({BASE: "c.yaml"}, True),
        ({BASE: "c.yaml", "epochs": [1, 2], "learning_rate": 1e-5}, True),
        ({BASE: "c.yaml", "trainer.rank": [4, 8], "trainer.seed": 1}, True),
        ({"epochs": [1, 2]}, False),
        ({BASE: "c.yaml", "epochs": []}, False),
        ({BASE: "c.yaml", "epochs": [1, 1]}, False),
        ({BASE: "c.yaml", "epochs": [0]}, False),
        ({BASE: "c.yaml", "epoch": [1]}, False),
        ({BASE: "c.yaml", "trainer.rank": []}, False),
        ({BASE: "c.yaml", "trainer": {"use": "lora"}}, False),
    ],
    ids=str,
)
def test_a_sweep_varies_settings_and_options(values, is_valid):
    assert SWEEP.is_valid(values) is is_valid


def test_a_schema_beside_the_configs_is_not_taken_for_a_config():
    found = find_configs([f"{REPOSITORY}/configs/training/*.yaml"])
    assert {Path(path).parent for path in found} == {FILES["training"].parent}
    assert {Path(path).suffix for path in found} == {".yaml"}
