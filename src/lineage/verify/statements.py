"""The exact form of the two statements of a model, and the values that must agree. Pure.

`parse_statement` skips fields that it does not use, because a newer release may have written them.
Here every field is compared, so that no edit of a statement is without a mismatch.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from src.components.code import code_sha256
from src.components.component import COMMAND, SIMULATED
from src.environment import BUILDERS, PREFECT_BUILDER, PROJECT
from src.errors import truncated_repr
from src.evaluation.measuring import Evaluator, recorded_evaluator
from src.lineage.verify.evidence import ConfigEvidence
from src.names import is_version
from src.records.canonical import canonical_json, parse_json, sha256
from src.records.layout import (
    DATA_FILE,
    DATASETS_FOLDER,
    EVALUATION_FILE,
    METADATA_FILE,
    MODELS_FOLDER,
    STATEMENT_FILE,
)
from src.records.metadata import all_differences
from src.records.statement import (
    COMPONENT_EVALUATION_BUILD,
    COMPONENT_TRAINING_BUILD,
    EVALUATION_BUILD,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    TRAINING_BUILD,
    Statement,
    weights_of,
)

__all__ = [
    "declaration_mismatches",
    "digest_mismatches",
    "evaluation_faults",
    "model_faults",
    "run_mismatches",
    "time_notes",
    "trainer_mismatches",
    "weights_mismatches",
]

MAX_FAULTS = 5
MAX_NAMES = 10
MAX_ID_LENGTH = 200
MAX_NAME_LENGTH = 255  # of a host or a worker


def model_faults(data: bytes, version: str, dataset_version: str | None) -> list[str]:
    """Return where the statement of a model differs from the form that this project writes.

    Args:
        data: The bytes of the statement, which `parse_statement` accepts.
        version: The model version.
        dataset_version: The dataset version; any if `None`.
    """
    data_uri, metadata_uri = (
        (_STRING, _STRING)
        if dataset_version is None
        else (f"{DATASETS_FOLDER}/{dataset_version}/{name}" for name in (DATA_FILE, METADATA_FILE))
    )
    dependencies: dict[str, Any] = {
        "config": {"uri": _STRING, "digest": _SHA256},
        "dataset": {
            "uri": data_uri,
            "digest": _SHA256,
            "annotations": {"num_samples": _INTEGER},
        },
        "dataset metadata": {"uri": metadata_uri, "digest": _SHA256},
        "base config": {"uri": _STRING, "digest": _SHA256},
        "code": {"digest": {"gitCommit": _COMMIT}, "annotations": {"dirty": _BOOLEAN}},
        "core": {"digest": _SHA256},
        "python": {"annotations": {"version": _NO_SPACES, "implementation": _NO_SPACES}},
        "packages": {"annotations": _STRING_VALUES},
    }
    parameters: dict[str, Any] = {"config": _OBJECT, "model_version": version}
    optional = ["dataset metadata", "base config", "code"]
    value = parse_json(data, METADATA_FILE)
    trainer = _parameter(value, "trainer")
    if trainer is not None:
        parameters["trainer"] = _component_form(trainer)
        dependencies |= {
            "trainer": {"digest": _SHA256, "annotations": _OBJECT},
            "base model": {"digest": _SHA256, "annotations": {"files": _OBJECT}},
            "training environment": {"annotations": _OBJECT},
        }
        optional.append("base model")
    return _faults(
        value,
        subject=METADATA_FILE,
        has_files=trainer is not None,
        build_type=TRAINING_BUILD if trainer is None else COMPONENT_TRAINING_BUILD,
        parameters=parameters,
        dependencies=dependencies,
        optional=optional,
    )


def evaluation_faults(data: bytes, version: str) -> list[str]:
    """Return where the statement of an evaluation differs from the form that this project writes.

    Args:
        data: The bytes of the statement, which `parse_statement` accepts.
        version: The model version.
    """
    dependencies: dict[str, Any] = {
        name: {"uri": f"{MODELS_FOLDER}/{version}/{name}", "digest": _SHA256}
        for name in (METADATA_FILE, STATEMENT_FILE)
    }
    dependencies["core"] = {"digest": _SHA256}
    parameters: dict[str, Any] = {"model_version": version}
    value = parse_json(data, EVALUATION_FILE)
    evaluator = _parameter(value, "evaluator")
    if evaluator is not None:
        is_simulated = isinstance(evaluator, dict) and evaluator.get("use") == SIMULATED
        parameters["evaluator"] = {"use": SIMULATED} if is_simulated else _component_form(evaluator)
        dependencies |= {
            "evaluator": {"digest": _SHA256, "annotations": _OBJECT},
            "evaluation dataset": {
                "uri": _data_name(evaluator),
                "digest": _SHA256,
                "annotations": {"num_samples": _INTEGER},
            },
            "weights": {"digest": _SHA256, "annotations": {"files": _STRING_VALUES}},
        }
    return _faults(
        value,
        subject=EVALUATION_FILE,
        build_type=EVALUATION_BUILD if evaluator is None else COMPONENT_EVALUATION_BUILD,
        parameters=parameters,
        dependencies=dependencies,
        optional=("evaluation dataset", "weights"),
    )


def _parameter(value: Mapping[str, Any], name: str) -> Any:
    parameters = value["predicate"]["buildDefinition"]["externalParameters"]
    return parameters.get(name) if isinstance(parameters, dict) else None


def _component_form(value: Any) -> Any:
    """Return the form of a trainer or an evaluator, whose fields are optional but for its name."""
    if not isinstance(value, dict):
        return _OBJECT
    form: dict[str, Any] = {
        "use": _STRING,
        "seed": _SEED,
        "options": _OBJECT,
        "argv": _STRINGS,
        "dataset_version": _STRING,
        "measured": _STRINGS,
        "better": _DIRECTIONS,
    }
    return {name: each for name, each in form.items() if name == "use" or name in value}


def _data_name(evaluator: Any) -> Any:
    """Return the form of the name of the data that an evaluator measured on."""
    named = evaluator.get("dataset_version") if isinstance(evaluator, dict) else None
    return named if is_version(named) else _VERSION_NAME


def run_mismatches(model: Statement, evaluation: Statement) -> list[str]:
    """Return how the runs of two statements differ, if they are the same run.

    A run that is continued in another process, such as a retried flow run, has the same id and
    another start; its code may have changed.
    """
    if (model.invocation_id, model.started_on) != (evaluation.invocation_id, evaluation.started_on):
        return []
    one, other = (
        {
            "builder.id": each.builder,
            "builder.version": each.builder_version,
            "byproducts": each.url,
            "internalParameters": dict(each.internal_parameters),
            "core": each.digest("core"),
        }
        for each in (model, evaluation)
    )
    return [
        f"{field}: expected {truncated_repr(one[field])} as in the model's {STATEMENT_FILE}, which "
        f"the same run wrote, found {truncated_repr(other[field])}"
        for field in one
        if one[field] != other[field]
    ]


def digest_mismatches(statement: Statement) -> list[str]:
    """Return the dependencies whose digest is not that of the files that they list."""
    mismatches = []
    for name in ("trainer", "evaluator", "base model", "weights"):
        if (dependency := statement.dependency(name)) is None:
            continue
        files, version = (dependency.annotations.get(key) for key in ("files", "version"))
        expected = sha256(canonical_json(files))
        if name in ("trainer", "evaluator") and isinstance(files, dict):
            expected = code_sha256(version, files)
        if dependency.digest.get("sha256") != expected:
            mismatches.append(f"{name}: its sha256 is not that of its files")
    return mismatches


def weights_mismatches(model: Statement, evaluation: Statement) -> list[str]:
    """Return how the weights that an evaluation names differ from those of the model."""
    expected = {name: each.sha256 for name, each in weights_of(model.files).items()} or None
    found = evaluation.annotations("weights").get("files")
    return [] if found == expected else ["weights: not those of the model's statement"]


def trainer_mismatches(statement: Statement, config: ConfigEvidence) -> list[str]:
    """Return how the trainer of a model differs from that of its config, if that is unchanged.

    The options of a function are not compared: `check_options` can add defaults.
    """
    if config.sha256 is None or config.sha256 != statement.digest("config"):
        return []
    if config.base_sha256 != statement.digest("base config"):  # edited, unless it is not named
        is_named = statement.dependency("base config") is not None
        return [] if is_named else [f"base config: {config.uri} names one, found none"]
    keys = ["use", "seed", "argv"]
    expected, found = config.trainer, statement.parameters.get("trainer")
    if expected and expected["use"] == COMMAND:
        keys.append("options")
    values = [
        {"trainer": {key: each.get(key) for key in keys} if isinstance(each, Mapping) else None}
        for each in (expected, found)
    ]
    return [each.text(f"in {config.uri}", "recorded") for each in all_differences(*values)]


def declaration_mismatches(evaluation: Statement, declared: Evaluator) -> list[str]:
    """Return how an evaluation differs from what its config and its evaluator now declare."""
    expected: dict[str, Any] = {"evaluator": declared.to_dict()}
    found: dict[str, Any] = {"evaluator": recorded_evaluator(evaluation)}
    data = "evaluation dataset"
    if (dataset := declared.dataset_dependency()) is not None:
        recorded = evaluation.dependency(data)
        expected[data], found[data] = dataset.to_dict(), recorded.to_dict() if recorded else None
    return [each.text("expected", "found") for each in all_differences(expected, found)]


def time_notes(statement: Statement, model: Statement | None = None) -> list[str]:
    """Return a sentence for each time that is before an earlier event.

    Args:
        statement: A statement without faults.
        model: The statement of the model, if `statement` is that of its evaluation.
    """
    notes = []
    if statement.finished_on < statement.started_on:
        notes.append(f"Finished at {statement.finished_on}, before it started.")
    if model is not None:
        if statement.started_on < model.started_on:
            notes.append(f"Started at {statement.started_on}, before the run of the model.")
        if statement.finished_on < model.finished_on:
            notes.append(f"Finished at {statement.finished_on}, before the model.")
    return notes


# --- Forms ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of values.

    Attributes:
        name: Its name in a report.
        accepts: Returns whether a value has this form.
    """

    name: str
    accepts: Callable[[Any], bool]


def _matching(name: str, pattern: str) -> _Form:
    compiled = re.compile(pattern)
    return _Form(name, lambda value: isinstance(value, str) and bool(compiled.fullmatch(value)))


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or not _TIME_PATTERN.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _has_no_spaces(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value.split() == [value]


def _has_string_values(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _has_directions(value: Any) -> bool:
    return _has_string_values(value) and {*value.values()} <= {"higher", "lower"}


def _is_list_of_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_TIME_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_HTTP = re.compile("https?://.")
_OBJECT = _Form("an object", lambda value: isinstance(value, dict))
_INTEGER = _Form("an integer", lambda value: type(value) is int)
_BOOLEAN = _Form("true or false", lambda value: isinstance(value, bool))
_STRING = _matching("text", r"(?s:.+)")
_STRING_VALUES = _Form("an object whose values are texts", _has_string_values)
_NO_SPACES = _Form("text without spaces", _has_no_spaces)
_TIME = _Form("a time such as 2026-01-31T12:00:00.000Z", _is_time)
_URL = _Form("an HTTP address", lambda value: _has_no_spaces(value) and bool(_HTTP.match(value)))
_VERSION = _matching("a version", r"[0-9][0-9A-Za-z.!+-]*")
_COMMIT = _matching("a commit id", r"[0-9a-f]{40}|[0-9a-f]{64}")
_BUILDER = _matching(f"one of {', '.join(BUILDERS)}", "|".join(map(re.escape, BUILDERS)))
_FLOW_RUN = _matching("a UUID", r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RUN = _Form(
    f"at most {MAX_ID_LENGTH} characters without spaces",
    lambda value: _has_no_spaces(value) and len(value) <= MAX_ID_LENGTH,
)
_HOST = _Form(
    f"at most {MAX_NAME_LENGTH} characters without spaces",
    lambda value: _has_no_spaces(value) and len(value) <= MAX_NAME_LENGTH,
)
_WORKER = _Form(
    f"at most {MAX_NAME_LENGTH} printable characters",
    lambda value: isinstance(value, str) and value.isprintable() and len(value) <= MAX_NAME_LENGTH,
)
_SEED = _Form("an integer >= 0", lambda value: type(value) is int and value >= 0)
_DIRECTIONS = _Form("an object whose values are 'higher' or 'lower'", _has_directions)
_VERSION_NAME = _Form("the name of a dataset version", is_version)
_STRINGS = _Form("a list of texts", _is_list_of_strings)
_SHA256 = {"sha256": _matching("64 hexadecimal digits", r"[0-9a-f]{64}")}
_FILE = {"name": _STRING, "digest": _SHA256, "annotations": {"size": _INTEGER}}


def _faults(
    value: dict[str, Any],
    *,
    subject: str,
    has_files: bool = False,
    build_type: str,
    parameters: Mapping[str, Any],
    dependencies: Mapping[str, Mapping[str, Any]],
    optional: Collection[str] = (),
) -> list[str]:
    definition, run = value["predicate"]["buildDefinition"], value["predicate"]["runDetails"]
    found = [each["name"] for each in definition["resolvedDependencies"]]
    names = [name for name in dependencies if name not in optional or name in found]
    is_flow_run = run["builder"]["id"] == PREFECT_BUILDER
    run_form: dict[str, Any] = {
        "builder": {"id": _BUILDER, "version": {PROJECT: _VERSION}},
        "metadata": {
            "invocationId": _FLOW_RUN if is_flow_run else _RUN,
            "startedOn": _TIME,
            "finishedOn": _TIME,
        },
    }
    if "byproducts" in run:
        run_form["byproducts"] = [{"name": "run", "uri": _URL}]
    internal: dict[str, Any] = {}
    if "internalParameters" in definition:  # older releases wrote none
        internal = {"internalParameters": {"host": _HOST}}
        if "worker" in (definition["internalParameters"] or ()):
            internal["internalParameters"]["worker"] = _WORKER
    form: dict[str, Any] = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": subject, "digest": _SHA256},
            *([_FILE] * (len(value["subject"]) - 1 if has_files else 0)),
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": build_type,
                "externalParameters": parameters,
                **internal,
                "resolvedDependencies": [{"name": name, **dependencies[name]} for name in names],
            },
            "runDetails": run_form,
        },
    }
    faults = []
    if found != names:  # then their places differ, and a comparison by place shows nothing more
        shown = ", ".join(map(truncated_repr, found[:MAX_NAMES]))
        faults.append(f"resolvedDependencies: expected {', '.join(names)}, found {shown or 'none'}")
        del form["predicate"]["buildDefinition"]["resolvedDependencies"]
        del definition["resolvedDependencies"]
    faults += _differences(form, value, "")
    if (more := len(faults) - MAX_FAULTS) > 0:
        faults[MAX_FAULTS:] = [f"and {more:,} more"]
    return faults


def _differences(form: Any, value: Any, place: str) -> Iterator[str]:
    """Yield the places where a JSON value does not have a form.

    A form is a `_Form`, a text that must be equal, or an object or a list of forms.
    """
    if isinstance(form, dict) and isinstance(value, dict):
        for key, each in form.items():
            at = f"{place}.{key}" if place else key
            if key in value:
                yield from _differences(each, value[key], at)
            else:
                yield f"{at}: missing"
        for key in value:
            if key not in form:
                yield f"{place or 'statement'}: unknown field {truncated_repr(key)}"
    elif isinstance(form, list) and isinstance(value, list) and len(form) == len(value):
        for index, each in enumerate(form):
            yield from _differences(each, value[index], f"{place}.{index}")
    elif not (form.accepts(value) if isinstance(form, _Form) else form == value):
        yield f"{place}: expected {_form_name(form)}, found {truncated_repr(value)}"


def _form_name(form: Any) -> str:
    if isinstance(form, _Form):
        return form.name
    if isinstance(form, list):
        return f"a list of {len(form)}"
    return "an object" if isinstance(form, dict) else repr(form)
