"""JSON Schemas of training configs and of sweeps, with which editors complete and check the YAML.

    python -m src.training.config_schema training > configs/training/schema.json
    python -m src.training.config_schema sweep > configs/sweeps/schema.json

A schema accepts all that the loader accepts. It refuses unknown keys and most values that are not
valid; the descriptions have the rules that JSON Schema cannot express.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

import yaml

from src.components.component import COMMAND, SIMULATED
from src.names import MAX_LENGTH, RESERVED, VERSION_NAME
from src.training.component_config import (
    COMPONENT_KEYS,
    COMPONENT_NAME,
    MAX_SECONDS,
    OBJECT_NAME,
    keys_refused,
)
from src.training.component_config import MAX_TEXT as MAX_COMPONENT_TEXT
from src.training.config import BASE, MAX_PATH
from src.training.settings import EXAMPLES, MAX_INTEGER, MAX_RATE, MAX_TEXT
from src.training.yaml12 import scalar_value

__all__ = ["schema_text", "sweep_schema", "training_schema"]

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
OPTION_KEYS = rf"^({'|'.join(COMPONENT_KEYS)})\.."  # e.g. trainer.rank
END = r"(?![\s\S])"  # `$` of Python also matches before a last line end


def training_schema() -> Schema:
    """Return the schema of the files in configs/training/."""
    components = {kind: _component(kind) for kind in COMPONENT_KEYS}
    base = {BASE: _base("Of a config that a sweep wrote: the config that names its components.")}
    return {
        "$schema": DIALECT,
        "title": "Training config",
        "description": "Five settings and, optionally, a trainer and an evaluator. "
        "See docs/training.md.",
        "type": "object",
        "required": [*_settings()],
        "properties": {**_settings(), **components, **base},
        "patternProperties": {OPTION_KEYS: {"description": f"Only with {BASE}."}},
        "additionalProperties": False,
        "if": {"required": [BASE]},
        "then": {"properties": dict.fromkeys(COMPONENT_KEYS, False)},
        "else": {"patternProperties": {OPTION_KEYS: False}},
        "$defs": _definitions(),
    }


def sweep_schema() -> Schema:
    """Return the schema of the files in configs/sweeps/."""
    lists = {
        name: {
            "description": f"The values to try. {setting['description']}",
            "examples": [setting["examples"]],
            "anyOf": [
                setting,
                {"type": "array", "minItems": 1, "uniqueItems": True, "items": setting},
            ],
        }
        for name, setting in _settings().items()
    }
    option = {"description": "The values to try of an option of the trainer or the evaluator."}
    return {
        "$schema": DIALECT,
        "title": "Sweep",
        "description": "A base config and, for some of its keys, the values to try: a run for each "
        "combination, at most 10,000. See docs/usage.md.",
        "type": "object",
        "required": [BASE],
        "properties": {BASE: _base("The config that is varied."), **lists},
        "patternProperties": {OPTION_KEYS: {**option, "not": {"type": "array", "maxItems": 0}}},
        "additionalProperties": False,
    }


def schema_text(schema: Mapping[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=2) + "\n"


def _settings() -> dict[str, Schema]:
    count = {"type": "integer", "minimum": 1, "maximum": MAX_INTEGER}
    described: dict[str, Schema] = {
        "base_model": {
            "description": "The base model: an identifier such as org/name, or a folder. At most "
            f"{MAX_TEXT} printable characters.",
            "type": "string",
            "pattern": rf"^\s*\S(.{{0,{MAX_TEXT - 2}}}\S)?\s*{END}",
        },
        "dataset_version": {
            "description": "The data: the name of a folder below artifacts/datasets/.",
            "type": "string",
            "pattern": _version_pattern(r"\s*"),
        },
        "learning_rate": {
            "description": "The step size of the optimizer, above 0; no unit.",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_RATE,
        },
        "epochs": {
            "description": "Passes over the data, at least 1. Written without a decimal point.",
            **count,
        },
        "batch_size": {
            "description": "Samples per step of the optimizer, at least 1. Written without a "
            "decimal point.",
            **count,
        },
    }
    return {
        name: {**described[name], "examples": [scalar_value(yaml.ScalarNode("", example))]}
        for name, example in EXAMPLES.items()
    }


def _version_pattern(space: str = "") -> str:
    """Return a pattern of the names of versions, perhaps between white space."""
    reserved = "|".join(map(_any_case, sorted(RESERVED)))
    return rf"^{space}(?!({reserved}){space}{END}){VERSION_NAME}{space}{END}"


def _any_case(text: str) -> str:
    """Return a pattern that matches a text in upper and lower case."""
    return "".join(f"[{each.upper()}{each}]" if each.isalpha() else rf"\{each}" for each in text)


def _base(description: str) -> Schema:
    return {
        "description": f"{description} A path of at most {MAX_PATH} printable characters.",
        "type": "string",
        "maxLength": MAX_PATH,
        "examples": ["configs/training/mistral_finetune.yaml"],
    }


def _component(kind: str) -> Schema:
    keys = COMPONENT_KEYS[kind]
    properties = _component_properties(kind)
    # `use: simulated` is the default, and takes no key with another value than the default.
    defaults: dict[str, Any] = {
        "use": True,
        "seed": {"const": 0},
        "options": {"maxProperties": 0},
        "run": {"maxProperties": 0},
    }
    is_used = {
        use: {"properties": {"use": {"const": use}}, "required": ["use"]}
        for use in (COMMAND, SIMULATED)
    }
    return {
        "description": f"The {kind}: a function, an installed component or a command. Without "
        f"this key, the simulated {kind}.",
        "type": "object",
        "required": ["use"],
        "properties": {key: properties[key] for key in keys},
        "additionalProperties": False,
        "allOf": [
            {
                "if": is_used[COMMAND],
                "then": {
                    "required": ["argv"],
                    "properties": _refused(keys, is_command=True),
                },
                "else": {"properties": _refused(keys, is_command=False)},
            },
            {
                "if": is_used[SIMULATED],
                "then": {"properties": {key: defaults.get(key, False) for key in keys}},
            },
        ],
    }


def _refused(keys: list[str], *, is_command: bool) -> Schema:
    return {name: False for name in keys_refused(is_command=is_command) if name in keys}


def _component_properties(kind: str) -> dict[str, Schema]:
    shipped = {"trainer": "lora", "evaluator": "held-out-loss"}[kind]
    function = {"trainer": "my_trainers:train", "evaluator": "my_trainers:measure"}[kind]
    names = rf"^({COMPONENT_NAME}|{OBJECT_NAME}){END}"
    texts = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/text"}}
    metrics = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/metric"}}
    return {
        "use": {
            "description": "`module:attribute`, `command`, the name of an installed component, or "
            "`simulated`.",
            "type": "string",
            # The loader matches ASCII only; validators differ in what `\w` matches.
            "pattern": names.replace(r"\w", "[A-Za-z0-9_]"),
            "examples": [shipped, function, COMMAND, SIMULATED],
        },
        "options": {
            "description": "Values for the component, which checks them. At most 1,000 values in 8 "
            "levels; keys of at most 40 characters.",
            "type": "object",
        },
        "seed": {
            "description": "Seed of its random numbers.",
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_INTEGER,
            "default": 0,
        },
        "argv": {
            "description": "Of a command: the program and its arguments.",
            **texts,
            "examples": [["python", "train.py"]],
        },
        "code": {
            "description": "Patterns of further files of its code, below the working directory.",
            "$ref": "#/$defs/patterns",
        },
        "base_model": {
            "description": "Patterns of the files of the base model, below the working directory.",
            "$ref": "#/$defs/patterns",
        },
        "dataset_version": {
            "description": "Other data to measure on: the name of a folder below "
            "artifacts/datasets/.",
            "$ref": "#/$defs/version",
        },
        "measured": {
            "description": "Of a command: metrics that are measured on the clock.",
            **metrics,
            "examples": [["latency_ms"]],
        },
        "better": {
            "description": "Of a command: whether a higher or a lower value is better, by metric.",
            "type": "object",
            "additionalProperties": {"enum": ["higher", "lower"]},
            "examples": [{"loss": "lower"}],
        },
        "python": {
            "description": "Of a function: the Python interpreter of its environment.",
            "$ref": "#/$defs/text",
            "examples": [".venv-train/bin/python"],
        },
        "timeout_seconds": {
            "description": "Seconds after which it is ended. Not limited by default.",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_SECONDS,
            "examples": [3600],
        },
        "run": {
            "description": "Values for this run only, e.g. a device. Not a part of its identity.",
            "type": "object",
        },
    }


def _definitions() -> dict[str, Schema]:
    text: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_COMPONENT_TEXT}
    pattern = {**text, "pattern": rf"^(?!/)(?!([\s\S]*/)?\.\.(/|{END}))"}
    return {
        "text": text,
        "version": {"type": "string", "pattern": _version_pattern()},
        "metric": {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH},
        "pattern": pattern,
        "patterns": {
            "anyOf": [
                {"$ref": "#/$defs/pattern"},
                {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/pattern"}},
            ]
        },
    }


SCHEMAS = {"training": training_schema, "sweep": sweep_schema}

if __name__ == "__main__":
    parser = ArgumentParser(description="Print the JSON Schema of a kind of config.")
    parser.add_argument("kind", choices=SCHEMAS)
    sys.stdout.write(schema_text(SCHEMAS[parser.parse_args().kind]()))
