"""Verification on stored files; the table `KINDS` is the specification of what it detects."""

import errno
import json
import os
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import pytest

from src.artifacts import Artifacts
from src.evaluation.evaluator import SIMULATED_EVALUATOR
from src.lineage.verify import (
    Check,
    evidence,
    expected,
    failed_checks,
    verdict,
    verify,
    verify_all,
)
from src.records.canonical import canonical_json
from src.storage import StorePath
from src.training.hashing import count_and_hash
from src.training.pipeline import run_training_pipeline
from src.training.registry import ModelNotFoundError
from src.training.trainer import model_metadata, train_model
from tests.lineage.damage import (
    DATA,
    DATASET_METADATA,
    EVALUATION,
    EVALUATION_STATEMENT,
    METADATA,
    REGISTRY,
    STATEMENT,
    edit,
    local_path,
    read,
    read_json,
    remove,
    write,
)
from tests.stores import MemoryStore

METADATA_SHA256 = "e7d538341a632063d3cd0d8b71fd4c55287c4f8483da2c356f21b0e4f66da0e7"

WHAT = [
    "registry entry",
    "metadata.json",
    "provenance.json",
    "config",
    "dataset bytes",
    "dataset metadata",
    "code",
    "evaluation.json",
    "evaluation's provenance",
]
OUTPUTS = [
    "registry entry",
    "metadata.json",
    "provenance.json",
    "evaluation.json",
    "evaluation's provenance",
]
CHECK_OF_FILE = {
    REGISTRY: "registry entry",
    METADATA: "metadata.json",
    STATEMENT: "provenance.json",
    DATA: "dataset bytes",
    DATASET_METADATA: "dataset metadata",
    EVALUATION: "evaluation.json",
    EVALUATION_STATEMENT: "evaluation's provenance",
}


def failed(artifacts, version="model_v1", outcome="MISMATCH", **arguments):
    """Return the names of the failed checks, all of which must have the same verdict."""
    checks = failed_checks(verify(version, artifacts.root, **arguments))
    assert {check.verdict for check in checks} <= {outcome}
    return [check.what for check in checks]


def check_of(what, artifacts, **arguments):
    checks = verify("model_v1", artifacts.root, **arguments)
    [check] = [check for check in checks if check.what == what]
    return check


# --- An undamaged model --------------------------------------------------------------------------


def test_every_check_of_an_undamaged_model_matches(models):
    checks = verify("model_v1", models.root)
    assert [check.what for check in checks] == WHAT
    assert {check.verdict for check in checks} == {"MATCH"}
    assert {check.diverged for check in checks} == {None}
    assert checks[0] == Check(
        what="registry entry",
        verdict="MATCH",
        expected=f"sha256 {METADATA_SHA256}",
        found=f"sha256 {METADATA_SHA256}",
    )


def test_none_of_many_undamaged_models_has_a_mismatch(models):
    count = 18 if isinstance(models.root.store, MemoryStore) else 198
    for number in range(count):
        config = "one.yaml" if number % 2 else "two.yaml"
        run_training_pipeline(config, f"m{number}", artifacts_dir=models.root)
    verdicts = {
        version: {check.verdict for check in checks} for version, checks in verify_all(models.root)
    }
    assert len(verdicts) == count + 2
    assert list(verdicts)[:3] == ["model_v1", "model_v2", "m0"]
    assert all(found == {"MATCH"} for found in verdicts.values())


def test_a_dataset_is_read_once_for_all_models_trained_on_it(models):
    run_training_pipeline("one.yaml", "model_v3", artifacts_dir=models.root)
    paths = []

    def hash_dataset(path):
        paths.append(str(path))
        return count_and_hash(path)

    assert len(list(verify_all(models.root, hash_dataset=hash_dataset))) == 3
    assert paths == [
        "artifacts/datasets/dataset_v1/data.jsonl",
        "artifacts/datasets/dataset_v2/data.jsonl",
    ]


def test_only_the_given_versions_are_verified(models):
    found = verify_all(models.root, versions=["model_v2"])
    assert [version for version, _ in found] == ["model_v2"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: None,
        lambda artifacts: remove(artifacts, METADATA),
        lambda artifacts: write(artifacts, DATA, b""),
    ],
    ids=["undamaged", "metadata deleted", "data emptied"],
)
def test_verification_changes_nothing(damage, models):
    def everything():
        store = models.root.store
        objects = dict(store.server.objects) if isinstance(store, MemoryStore) else {}
        files = [
            (path, path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
            for path in sorted(Path.cwd().rglob("*"))
        ]
        return objects, files

    damage(models)
    before = everything()
    verify("model_v1", models.root)
    assert everything() == before


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("model_v3", "model_v2, model_v1"),
        ("", "none; `llm-train models` lists all"),
        ("../models", "none; `llm-train models` lists all"),
        ("registry.json", "none; `llm-train models` lists all"),
        (None, "none; `llm-train models` lists all"),
    ],
)
def test_a_missing_version_raises_an_error_that_names_the_nearest(name, nearest, models):
    with pytest.raises(ModelNotFoundError) as caught:
        verify(name, models.root)
    assert str(caught.value) == f"artifacts/models: no model {name!r}. Nearest: {nearest}."


def test_a_missing_version_is_reported_before_any_is_verified(models):
    with pytest.raises(ModelNotFoundError) as caught:
        next(verify_all(models.root, versions=["model_v1", "model_v9"]))
    assert str(caught.value) == (
        "artifacts/models: no model 'model_v9'. Nearest: model_v2, model_v1."
    )


def test_an_empty_root_has_no_model(tmp_path):
    for root in (tmp_path, StorePath(MemoryStore(str(tmp_path)))):
        assert list(verify_all(root)) == []
        with pytest.raises(ModelNotFoundError) as caught:
            verify("model_v1", root)
        assert str(caught.value) == f"{tmp_path}/models: no model 'model_v1'. Nearest: none."


# --- Every kind of damage ------------------------------------------------------------------------


def edited(key, *place, value):
    return lambda artifacts: edit(artifacts, key, *place, value=value)


def rewritten(key, change):
    return lambda artifacts: write(artifacts, key, change(read(artifacts, key)))


def deleted(key):
    return lambda artifacts: remove(artifacts, key)


def in_place_of(key, make):
    """Remove a file and make something else of its name; for the folder back end."""

    def damage(artifacts):
        remove(artifacts, key)
        make(local_path(artifacts.root / key))

    return damage


def dependency(key, name, *place, value):
    """Change one of the resolved dependencies of a statement."""

    def damage(artifacts):
        where = ("predicate", "buildDefinition", "resolvedDependencies")
        dependencies = read_json(artifacts, key)["predicate"]["buildDefinition"][where[-1]]
        index = [each["name"] for each in dependencies].index(name)
        edit(artifacts, key, *where, index, *place, value=value)

    return damage


def parameter(*place, value):
    return edited(
        STATEMENT, "predicate", "buildDefinition", "externalParameters", *place, value=value
    )


def run_detail(*place, value, key=STATEMENT):
    return edited(key, "predicate", "runDetails", *place, value=value)


def listed(key, *place, change):
    """Replace a list in a JSON file by what `change` returns for it."""

    def damage(artifacts):
        value = read_json(artifacts, key)
        for each in place:
            value = value[each]
        edit(artifacts, key, *place, value=change(value))

    return damage


def swapped(*keys):
    """Exchange files of `model_v1` or `dataset_v1` with those of `_v2`."""

    def damage(artifacts):
        for key in keys:
            other = key.replace("_v1", "_v2")
            one, two = read(artifacts, key), read(artifacts, other)
            assert one != two
            write(artifacts, key, two)
            write(artifacts, other, one)

    return damage


def to_each(key):
    """Return the kinds of damage that any file may have."""
    name = "/".join(key.split("/")[-2:])
    return {
        f"{name} {how}": damage
        for how, damage in {
            "altered": rewritten(key, lambda data: data + b" \n"),
            "truncated": rewritten(key, lambda data: data[: len(data) // 2]),
            "emptied": rewritten(key, lambda data: b""),
            "not text": rewritten(key, lambda data: b"\xff\xfe"),
            "deleted": deleted(key),
            "a folder": in_place_of(key, Path.mkdir),
            "a FIFO": in_place_of(key, os.mkfifo),
        }.items()
    }


def together(*damages):
    return lambda artifacts: [damage(artifacts) for damage in damages]


def data_and_its_metadata_agree(artifacts):
    data = read(artifacts, DATA).replace(b"two", b"TWO")
    write(artifacts, DATA, data)
    edit(artifacts, DATASET_METADATA, "dataset_hash", value=sha256(data).hexdigest())


def evaluation_and_its_provenance_agree(artifacts):
    edit(artifacts, EVALUATION, "metrics", "quality_score", value=0.9999)
    digest = sha256(read(artifacts, EVALUATION)).hexdigest()
    edit(artifacts, EVALUATION_STATEMENT, "subject", 0, "digest", "sha256", value=digest)


def entry_twice(artifacts):
    entries = read_json(artifacts, REGISTRY)["models"]
    write(artifacts, REGISTRY, canonical_json({"models": [entries[0], *entries]}))


def keys_reordered(data):
    models = json.loads(data)["models"]
    models[0] = dict(reversed(models[0].items()))
    return json.dumps({"models": models}, indent=2).encode() + b"\n"


def entry_removed(artifacts):
    edit(artifacts, REGISTRY, "models", value=read_json(artifacts, REGISTRY)["models"][1:])


def twice(items):
    return [*items, items[-1]]


def reordered(items):
    return [items[-1], *items[:-1]]


def of_run(*place, value):
    return run_detail(*place, value=value, key=EVALUATION_STATEMENT)


ENTRY = ("models", 0)
DEFINITION = ("predicate", "buildDefinition")
INPUTS = (*DEFINITION, "resolvedDependencies")
PARAMETERS = (*DEFINITION, "externalParameters")
ZEROS = "0" * 64
KINDS = {
    "metadata.json": {
        **to_each(METADATA),
        "metadata swapped": swapped(METADATA),
        "metadata: base_model": edited(METADATA, "base_model", value="other"),
        "metadata: epochs": edited(METADATA, "training_config", "epochs", value=4),
        "metadata: samples": edited(METADATA, "num_training_samples", value=4),
        "metadata: a type": edited(METADATA, "training_config", "epochs", value=3.0),
        "metadata: an extra field": edited(METADATA, "note", value="by hand"),
    },
    "registry entry": {
        **to_each(REGISTRY),
        "entry: model_version": edited(REGISTRY, *ENTRY, "model_version", value="model_v9"),
        "entry: base_model": edited(REGISTRY, *ENTRY, "base_model", value="other"),
        "entry: dataset_version": edited(REGISTRY, *ENTRY, "dataset_version", value="dataset_v2"),
        "entry: samples": edited(REGISTRY, *ENTRY, "num_training_samples", value=4),
        "entry: samples as text": edited(REGISTRY, *ENTRY, "num_training_samples", value="3"),
        "entry: training_config": edited(REGISTRY, *ENTRY, "training_config", value={}),
        **{
            f"entry: {name}": edited(REGISTRY, *ENTRY, "training_config", name, value=value)
            for name, value in {
                "training_config.learning_rate": 3e-5,
                "training_config.epochs": 4,
                "training_config.batch_size": 32,
                "training_config.base_model": "other",
                "training_config.dataset_version": "dataset_v2",
            }.items()
        },
        "entry: an extra field": edited(REGISTRY, *ENTRY, "note", value="by hand"),
        "entry removed": entry_removed,
        "entry twice": entry_twice,
        **{
            f"registry: {what}": damage
            for what, damage in {
                "an object": rewritten(REGISTRY, lambda data: b"{}\n"),
                "a number": rewritten(REGISTRY, lambda data: b"3\n"),
                "no list": rewritten(REGISTRY, lambda data: b'{\n  "models": null\n}\n'),
                "no entries": edited(REGISTRY, "models", value=[]),
                "minified": rewritten(REGISTRY, lambda data: json.dumps(json.loads(data)).encode()),
                "keys reordered": rewritten(REGISTRY, keys_reordered),
                "an extra field": edited(REGISTRY, "schema", value=2),
            }.items()
        },
    },
    "provenance.json": {
        **to_each(STATEMENT),
        "provenance swapped": swapped(STATEMENT),
        "provenance: type": edited(STATEMENT, "_type", value="https://in-toto.io/Statement/v0.1"),
        "provenance: subject": edited(STATEMENT, "subject", 0, "digest", "sha256", value=ZEROS),
        "provenance: name of the subject": edited(STATEMENT, "subject", 0, "name", value="other"),
        "provenance: model_version": parameter("model_version", value="model_v2"),
        "provenance: samples": dependency(
            STATEMENT, "dataset", "annotations", "num_samples", value=4
        ),
        "provenance: config file": dependency(STATEMENT, "config", "digest", "sha256", value=ZEROS),
        "provenance: config path": dependency(STATEMENT, "config", "uri", value="two.yaml"),
        "provenance: core": dependency(STATEMENT, "core", "digest", "sha256", value=ZEROS),
        "provenance: python": dependency(
            STATEMENT, "python", "annotations", "version", value="2.7"
        ),
        "provenance: a package": dependency(
            STATEMENT, "packages", "annotations", "filelock", value="0"
        ),
        "provenance: builder": run_detail("builder", "id", value="urn:other"),
        "provenance: run": run_detail("metadata", "invocationId", value="other"),
        "provenance: start": run_detail("metadata", "startedOn", value="2020-01-01T00:00:00Z"),
        "provenance: finish": run_detail("metadata", "finishedOn", value="2020-01-01T00:00:00Z"),
        "provenance: an extra field": edited(STATEMENT, "note", value="by hand"),
        "provenance: build type": edited(STATEMENT, *DEFINITION, "buildType", value="urn:other"),
        "provenance: second subject": listed(STATEMENT, "subject", change=twice),
        "provenance: an input twice": listed(STATEMENT, *INPUTS, change=twice),
        "provenance: inputs reordered": listed(STATEMENT, *INPUTS, change=reordered),
    },
    "provenance.json, config": {
        "provenance: config": parameter("config", "epochs", value=4),
        "provenance: no config": parameter("config", value={}),
    },
    "provenance.json, dataset bytes": {
        "provenance: data": dependency(STATEMENT, "dataset", "digest", "sha256", value=ZEROS),
    },
    "provenance.json, dataset metadata": {
        "provenance: dataset metadata": dependency(
            STATEMENT, "dataset metadata", "digest", "sha256", value=ZEROS
        ),
    },
    "dataset bytes": {
        **to_each(DATA),
        "data swapped": swapped(DATA),
        "data: line added": rewritten(DATA, lambda data: data + b"{}\n"),
        "data: line removed": rewritten(DATA, lambda data: data.partition(b"\n")[2]),
        "data: lines reordered": rewritten(
            DATA, lambda data: b"".join(reversed(data.splitlines(keepends=True)))
        ),
        "data: byte flipped": rewritten(DATA, lambda data: data.replace(b"two", b"twp")),
        "data: last line end removed": rewritten(DATA, bytes.rstrip),
    },
    "dataset metadata": {
        **to_each(DATASET_METADATA),
        "dataset metadata swapped": swapped(DATASET_METADATA),
        "dataset metadata: samples": edited(DATASET_METADATA, "num_samples", value=4),
        "dataset metadata: hash": edited(DATASET_METADATA, "dataset_hash", value=ZEROS),
        "dataset metadata: name": edited(DATASET_METADATA, "dataset_version", value="dataset_v2"),
        "dataset metadata: an extra field": edited(DATASET_METADATA, "note", value="by hand"),
    },
    "dataset bytes, dataset metadata": {
        "data and its metadata together": data_and_its_metadata_agree,
        "dataset folder deleted": deleted("datasets/dataset_v1"),
        "dataset folders swapped": swapped(DATA, DATASET_METADATA),
    },
    "evaluation.json": {
        **to_each(EVALUATION),
        "evaluation swapped": swapped(EVALUATION),
        "evaluation: metric": edited(EVALUATION, "metrics", "latency_ms", value=1),
        "evaluation: dataset": edited(EVALUATION, "dataset_version", value="dataset_v2"),
        "evaluation and its provenance together": evaluation_and_its_provenance_agree,
    },
    "evaluation's provenance": {
        **to_each(EVALUATION_STATEMENT),
        "evaluation's provenance swapped": swapped(EVALUATION_STATEMENT),
        "evaluation's provenance: type": edited(
            EVALUATION_STATEMENT, "predicateType", value="other"
        ),
        "evaluation's provenance: subject": edited(
            EVALUATION_STATEMENT, "subject", 0, "digest", "sha256", value=ZEROS
        ),
        "evaluation's provenance: metadata": dependency(
            EVALUATION_STATEMENT, "metadata.json", "digest", "sha256", value=ZEROS
        ),
        "evaluation's provenance: no provenance": dependency(
            EVALUATION_STATEMENT, "provenance.json", "digest", value={}
        ),
        **{
            f"evaluation's provenance: {what}": damage
            for what, damage in {
                "name of the subject": edited(
                    EVALUATION_STATEMENT, "subject", 0, "name", value="other"
                ),
                "second subject": listed(EVALUATION_STATEMENT, "subject", change=twice),
                "build type": edited(
                    EVALUATION_STATEMENT,
                    *DEFINITION,
                    "buildType",
                    value="urn:llm-training-pipeline:train:v1",
                ),
                "model_version": edited(
                    EVALUATION_STATEMENT, *PARAMETERS, "model_version", value="model_v2"
                ),
                "a parameter": edited(EVALUATION_STATEMENT, *PARAMETERS, "seed", value=1),
                "an input removed": listed(
                    EVALUATION_STATEMENT, *INPUTS, change=lambda inputs: inputs[:-1]
                ),
                "an input twice": listed(EVALUATION_STATEMENT, *INPUTS, change=twice),
                "inputs reordered": listed(EVALUATION_STATEMENT, *INPUTS, change=reordered),
                "name of an input": dependency(EVALUATION_STATEMENT, "core", "name", value="code"),
                "path of an input": dependency(
                    EVALUATION_STATEMENT, "metadata.json", "uri", value="models/model_v2/x"
                ),
                "note on an input": dependency(
                    EVALUATION_STATEMENT, "core", "annotations", value={"note": "by hand"}
                ),
                "core": dependency(EVALUATION_STATEMENT, "core", "digest", "sha256", value=ZEROS),
                "digest of the core": dependency(
                    EVALUATION_STATEMENT, "core", "digest", "sha256", value="none"
                ),
                "second digest": dependency(
                    EVALUATION_STATEMENT, "core", "digest", "sha512", value=ZEROS
                ),
                "builder": of_run("builder", "id", value="urn:other"),
                "known builder": of_run(
                    "builder", "id", value="urn:llm-training-pipeline:builder:prefect"
                ),
                "version": of_run("builder", "version", "llm-training-pipeline", value="9.9.9"),
                "versions": of_run("builder", "version", "other", value="1.0"),
                "run": of_run("metadata", "invocationId", value="two words"),
                "start": of_run("metadata", "startedOn", value="2020-01-01T00:00:00+00:00"),
                "finish": of_run("metadata", "finishedOn", value="2020-13-01T00:00:00.000Z"),
                "page": of_run("byproducts", value=[{"name": "run", "uri": "http://other/"}]),
                "page as a script": of_run("byproducts", value=[{"name": "run", "uri": "js:x"}]),
                "an extra field": edited(EVALUATION_STATEMENT, "note", value="by hand"),
                "an extra field of the predicate": edited(
                    EVALUATION_STATEMENT, "predicate", "note", value="by hand"
                ),
                "an extra field of the definition": edited(
                    EVALUATION_STATEMENT, *DEFINITION, "internalParameters", value={}
                ),
                "an extra field of the run": of_run("metadata", "note", value="by hand"),
                "not canonical": rewritten(
                    EVALUATION_STATEMENT, lambda data: json.dumps(json.loads(data)).encode()
                ),
            }.items()
        },
    },
    "provenance.json (or its digest)": {
        "evaluation's provenance: provenance": dependency(
            EVALUATION_STATEMENT, "provenance.json", "digest", "sha256", value=ZEROS
        ),
    },
    "registry entry, metadata.json": {
        "metadata and entry together": together(
            edited(METADATA, "num_training_samples", value=4),
            edited(REGISTRY, *ENTRY, "num_training_samples", value=4),
        ),
    },
    "metadata.json, provenance.json": {
        "model folder deleted": deleted("models/model_v1"),
        "model folders swapped": swapped(METADATA, STATEMENT),
    },
    "evaluation.json, evaluation's provenance": {
        "evaluation folder deleted": deleted("evaluations/model_v1"),
        "evaluation folders swapped": swapped(EVALUATION, EVALUATION_STATEMENT),
    },
}
UNFINISHED = {
    ("evaluation's provenance", "model_v1/provenance.json deleted"),
    ("evaluation.json, evaluation's provenance", "evaluation folder deleted"),
}
"""The kinds of damage that leave what a run that was killed leaves; the others are a MISMATCH."""


def back_ends(kind):
    """Return the back ends on which a kind of damage is possible."""
    is_file = not kind.endswith((" a folder", " a FIFO"))
    return ["folder", "memory, none"] if is_file else ["folder"]


@pytest.mark.parametrize(
    ("names", "damage", "outcome", "models"),
    [
        pytest.param(
            names.removesuffix(" (or its digest)").split(", "),
            damage,
            "UNFINISHED" if (names, kind) in UNFINISHED else "MISMATCH",
            back_end,
            id=f"{kind} ({back_end})",
        )
        for names, kinds in KINDS.items()
        for kind, damage in kinds.items()
        for back_end in back_ends(kind)
    ],
    indirect=["models"],
)
def test_every_kind_of_damage_is_found_and_the_damaged_file_is_named(
    names, damage, outcome, models
):
    damage(models)
    assert failed(models, outcome=outcome) == names
    assert verdict(verify("model_v1", models.root)) == outcome


@pytest.mark.parametrize(
    "key", [METADATA, STATEMENT, EVALUATION, EVALUATION_STATEMENT, DATA, DATASET_METADATA]
)
def test_a_deleted_file_is_reported_with_its_path(key, models):
    remove(models, key)
    outcome = "UNFINISHED" if key == EVALUATION_STATEMENT else "MISMATCH"
    assert failed(models, outcome=outcome) == [CHECK_OF_FILE[key]]
    assert check_of(CHECK_OF_FILE[key], models).found == f"artifacts/{key}: no such file"


@pytest.mark.parametrize("key", [METADATA, REGISTRY, STATEMENT, EVALUATION, EVALUATION_STATEMENT])
def test_a_truncated_file_is_reported_with_its_path_and_line(key, models):
    write(models, key, read(models, key)[:20])
    assert failed(models) == [CHECK_OF_FILE[key]]
    found = check_of(CHECK_OF_FILE[key], models).found
    assert found.startswith(f"artifacts/{key}: line ")
    assert found.endswith("). Left as found.")


@pytest.mark.parametrize("models", ["folder"], indirect=True)
@pytest.mark.parametrize(("kind", "make"), [("a folder", Path.mkdir), ("a FIFO", os.mkfifo)])
@pytest.mark.parametrize("key", CHECK_OF_FILE)
def test_something_other_than_a_file_is_a_mismatch_that_names_it(key, kind, make, models):
    in_place_of(key, make)(models)
    check = check_of(CHECK_OF_FILE[key], models)
    assert check.verdict == "MISMATCH"
    assert check.found == f"artifacts/{key}: expected a regular file, found {kind}. Left as found."


@pytest.mark.parametrize(
    "key", [METADATA, REGISTRY, STATEMENT, EVALUATION, EVALUATION_STATEMENT, DATASET_METADATA]
)
@pytest.mark.parametrize("depth", [100, 450, 900, 100_000])
def test_any_depth_of_nesting_is_one_mismatch(key, depth, models):
    data = read(models, key).rstrip().removesuffix(b"}")
    write(models, key, data + b',"deep":' + b'{"a":' * depth + b"0" + b"}" * depth + b"}\n")
    assert failed(models) == [CHECK_OF_FILE[key]]


def test_a_value_that_only_a_damaged_file_has_does_not_match(models):
    remove(models, "evaluations")
    remove(models, STATEMENT)
    remove(models, REGISTRY)
    write(models, METADATA, b"{")
    assert failed(models) == OUTPUTS


# --- The contents of a check ---------------------------------------------------------------------


def test_altered_metadata_is_shown_field_by_field(models):
    edit(models, METADATA, "training_config", "epochs", value=4)
    found = sha256(read(models, METADATA)).hexdigest()
    assert check_of("metadata.json", models) == Check(
        what="metadata.json",
        verdict="MISMATCH",
        expected=f"sha256 {METADATA_SHA256}",
        found=f"sha256 {found}",
        note="training_config.epochs: expected 3, found 4.",
    )


def test_an_altered_metric_is_shown_with_the_derived_one(models):
    edit(models, EVALUATION, "metrics", "latency_ms", value=12)
    assert check_of("evaluation.json", models).note == "metrics.latency_ms: expected 92, found 12."


def test_a_model_without_an_entry_is_a_mismatch_of_the_entry(models):
    entry_removed(models)
    assert check_of("registry entry", models) == Check(
        what="registry entry",
        verdict="MISMATCH",
        expected=f"sha256 {METADATA_SHA256}",
        found="artifacts/models/registry.json: no entry of 'model_v1'",
    )
    assert "model_v1" in [version for version, _ in verify_all(models.root)]


def test_a_registry_that_cannot_be_parsed_is_reported_with_the_place(models):
    write(models, REGISTRY, b'{"models": [3]}')
    assert check_of("registry entry", models).found == (
        "artifacts/models/registry.json: models[0]: expected an object, found 3. Left as found."
    )


def test_a_file_that_is_not_in_canonical_form_is_reported_as_edited(models):
    for key in (REGISTRY, METADATA, STATEMENT, EVALUATION_STATEMENT):
        write(models, key, json.dumps(read_json(models, key)).encode())
        assert check_of(CHECK_OF_FILE[key], models).found == (
            f"artifacts/{key}: not in canonical form: edited after it was written."
        )


def test_data_of_another_length_is_shown_with_both_counts(models):
    write(models, DATA, read(models, DATA) + b"{}\n")
    check = check_of("dataset bytes", models)
    assert check.note == "expected 3 samples, found 4."
    assert check.diverged is None


def test_an_altered_provenance_is_distinguished_from_altered_data(models):
    dependency(STATEMENT, "dataset", "digest", "sha256", value=ZEROS)(models)
    assert check_of("dataset bytes", models).diverged == "provenance.json"


def test_a_dataset_without_metadata_may_stay_without(models):
    remove(models, DATASET_METADATA)
    run_training_pipeline("one.yaml", "model_v3", artifacts_dir=models.root)
    assert failed(models, "model_v3") == []
    write(models, DATASET_METADATA, b'{"num_samples": 4}')
    assert failed(models, "model_v3") == ["dataset metadata"]


def test_data_with_nothing_to_compare_it_to_is_not_checked(models):
    remove(models, STATEMENT)
    remove(models, METADATA)
    # The only other witness is the evaluation's statement, which has the digest alone.
    edited(REGISTRY, *ENTRY, "base_model", value="other")(models)
    assert failed(models) == ["registry entry", "metadata.json", "provenance.json"]
    assert "dataset bytes" not in [check.what for check in verify("model_v1", models.root)]
    remove(models, "datasets/dataset_v1/data.jsonl")
    assert check_of("dataset bytes", models) == Check(
        what="dataset bytes",
        verdict="MISMATCH",
        expected="unknown",
        found="artifacts/datasets/dataset_v1/data.jsonl: no such file",
    )


def test_without_provenance_the_other_checks_remain(models):
    remove(models, STATEMENT)
    names = [check.what for check in verify("model_v1", models.root)]
    assert names == [name for name in WHAT if name not in ("config", "code")]
    assert check_of("provenance.json", models).note == (
        "The config, the code and the digest of the data are unknown. "
        "Older releases did not write this file; a run of the version writes it."
    )
    data = check_of("dataset bytes", models)
    assert (data.verdict, data.found, data.note) == (
        "MATCH",
        "3 samples",
        "The digest of the data is not recorded.",
    )


def test_a_provenance_that_cannot_be_parsed_is_not_taken_for_an_older_release(models):
    write(models, STATEMENT, b"{")
    assert check_of("provenance.json", models).note == (
        "The config, the code and the digest of the data are unknown."
    )


def test_a_model_of_an_older_release_lacks_only_its_provenance(models):
    remove(models, STATEMENT)
    remove(models, EVALUATION_STATEMENT)
    assert failed(models) == ["provenance.json", "evaluation's provenance"]
    run_training_pipeline("one.yaml", "model_v1", artifacts_dir=models.root)
    assert failed(models) == []


def test_a_version_with_only_an_evaluation_has_no_matching_output(models):
    entry_removed(models)
    remove(models, "models/model_v1")
    remove(models, EVALUATION_STATEMENT)
    assert [asdict(check) for check in verify("model_v1", models.root)][1] == {
        "what": "metadata.json",
        "verdict": "MISMATCH",
        "expected": "unknown",
        "found": "artifacts/models/model_v1/metadata.json: no such file",
        "diverged": None,
        "note": None,
        "details": (),
    }
    assert failed(models) == OUTPUTS


def test_a_model_that_is_not_registered_or_evaluated_lacks_only_that(models):
    train_model("one.yaml", "model_v3", models.models, datasets_dir=models.datasets)
    missing = ["registry entry", "evaluation.json", "evaluation's provenance"]
    assert failed(models, "model_v3", outcome="UNFINISHED") == missing
    remove(models, "models/model_v3/provenance.json")  # as an older release wrote it
    assert failed(models, "model_v3") == [missing[0], "provenance.json", *missing[1:]]


# --- Records that a run did not finish -----------------------------------------------------------

WRITTEN = {  # in the order in which a run writes them
    "provenance.json": deleted(STATEMENT),
    "metadata.json": deleted(METADATA),
    "registry entry": entry_removed,
    "evaluation.json": deleted(EVALUATION),
    "evaluation's provenance": deleted(EVALUATION_STATEMENT),
}


@pytest.mark.parametrize("models", ["memory, none"], indirect=True)
@pytest.mark.parametrize(
    "removed",
    [each for count in range(len(WRITTEN)) for each in combinations(WRITTEN, count + 1)],
    ids=", ".join,
)
def test_only_a_record_that_lacks_what_a_run_writes_last_is_unfinished(removed, models):
    for what in removed:
        WRITTEN[what](models)
    if len(removed) == len(WRITTEN):
        (models.models / "model_v1/.left").replace(b"")  # the memory has no empty folders
    is_last = removed == tuple(WRITTEN)[-len(removed) :]
    checks = failed_checks(verify("model_v1", models.root))
    assert verdict(checks) == ("UNFINISHED" if is_last else "MISMATCH")
    assert {check.what for check in checks} >= set(removed)


def test_the_first_model_of_a_root_is_unfinished_before_there_is_a_registry(models):
    entry_removed(models)
    remove(models, "evaluations")
    remove(models, REGISTRY)
    assert failed(models, outcome="UNFINISHED") == [
        "registry entry",
        "evaluation.json",
        "evaluation's provenance",
    ]
    assert check_of("registry entry", models).found == (
        "artifacts/models/registry.json: no such file"
    )


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (rewritten(REGISTRY, lambda data: b"{"), ["registry entry"]),
        (edited(METADATA, "num_training_samples", value=4), ["metadata.json"]),
        (parameter("config", "epochs", value=4), ["provenance.json", "config"]),
        (rewritten(DATA, lambda data: data + b"{}\n"), ["dataset bytes"]),
    ],
    ids=["registry", "metadata", "provenance", "data"],
)
def test_an_unfinished_record_does_not_hide_a_mismatch(damage, names, models):
    remove(models, "evaluations/model_v1")
    damage(models)
    checks = verify("model_v1", models.root)
    assert verdict(checks) == "MISMATCH"
    assert [check.what for check in checks if check.verdict == "MISMATCH"] == names
    assert [check.what for check in checks if check.verdict == "UNFINISHED"] == [
        "evaluation.json",
        "evaluation's provenance",
    ]


def test_a_model_that_a_run_finishes_during_the_verification_of_others_matches(models):
    train_model("one.yaml", "model_v3", models.models, datasets_dir=models.datasets)
    found = verify_all(models.root)
    assert next(found)[0] == "model_v1"
    run_training_pipeline("one.yaml", "model_v3", artifacts_dir=models.root)
    assert {version: verdict(checks) for version, checks in found} == {
        "model_v2": "MATCH",
        "model_v3": "MATCH",
    }


def test_an_unfinished_record_does_not_hide_an_unreadable_file(models):
    remove(models, "evaluations/model_v1")
    assert verdict(verify("model_v1", failing(models, METADATA, io_error()).root)) == "UNREADABLE"


# --- Files that cannot be read -------------------------------------------------------------------


class FailingStore:
    """A store that raises an error when one file is read."""

    def __init__(self, store, key, error):
        self.store, self.key, self.error = store, key, error

    def __getattr__(self, name):
        return getattr(self.store, name)

    def read(self, key, limit):
        if key == self.key:
            raise self.error
        return self.store.read(key, limit)

    def open(self, key):
        if key == self.key:
            raise self.error
        return self.store.open(key)


def failing(artifacts, key, error):
    return Artifacts(StorePath(FailingStore(artifacts.root.store, key, error)))


def io_error():
    return OSError(errno.EIO, os.strerror(errno.EIO))


def assert_only_this_file_is_unreadable(artifacts, key, reason):
    found = dict(verify_all(artifacts.root))
    assert list(found) == ["model_v1", "model_v2"]
    what = CHECK_OF_FILE[key]
    not_checked = ("config", "code") if key == STATEMENT else ()
    assert [check.what for check in found["model_v1"]] == [
        name for name in WHAT if name not in not_checked
    ]
    assert {check.what: check.verdict for check in found["model_v1"]} == {
        check.what: "UNREADABLE" if check.what == what else "MATCH" for check in found["model_v1"]
    }
    [check] = [check for check in found["model_v1"] if check.what == what]
    assert check.found == f"artifacts/{key}: cannot be read ({reason})"
    assert check.diverged is None
    assert verdict(found["model_v1"]) == "UNREADABLE"
    # The registry is a file of all models; every other file belongs to one.
    unreadable = ["registry entry"] if key == REGISTRY else []
    assert [check.what for check in found["model_v2"]] == WHAT
    assert {check.what: check.verdict for check in found["model_v2"]} == {
        name: "UNREADABLE" if name in unreadable else "MATCH" for name in WHAT
    }


@pytest.mark.parametrize("key", CHECK_OF_FILE)
def test_a_file_with_an_io_error_is_unreadable_and_nothing_else_fails(key, models):
    assert_only_this_file_is_unreadable(failing(models, key, io_error()), key, "Input/output error")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("models", ["folder"], indirect=True)
@pytest.mark.parametrize("key", CHECK_OF_FILE)
def test_a_file_without_permission_is_unreadable_and_nothing_else_fails(key, models):
    local_path(models.root / key).chmod(0o000)
    assert_only_this_file_is_unreadable(models, key, "Permission denied")


def test_data_with_an_io_error_half_way_is_unreadable(models):
    def hash_dataset(path):
        with path.open() as file:
            file.readinto(memoryview(bytearray(10)))
            raise io_error()

    checks = verify("model_v1", models.root, hash_dataset=hash_dataset)
    [check] = failed_checks(checks)
    assert (check.what, check.verdict) == ("dataset bytes", "UNREADABLE")
    assert check.found == f"artifacts/{DATA}: cannot be read (Input/output error)"


@pytest.mark.parametrize("models", ["folder"], indirect=True)
def test_data_written_to_while_it_is_read_is_unreadable(models):
    def hash_dataset(path):
        with path.open():
            local_path(path).write_bytes(b"{}\n")
        raise AssertionError("the change is detected at the end of the block")

    check = check_of("dataset bytes", models, hash_dataset=hash_dataset)
    assert check.verdict == "UNREADABLE"
    assert check.found == (
        f"artifacts/{DATA}: written to while it was being read. Wait until the writer has "
        "finished, then run again."
    )


def test_a_registered_model_is_verified_although_the_folder_cannot_be_listed(models, monkeypatch):
    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(StorePath, "folders", refused)
    assert verdict(verify("model_v1", models.root)) == "MATCH"


def test_an_unreadable_file_does_not_hide_a_mismatch(models):
    edit(models, EVALUATION, "metrics", "latency_ms", value=12)
    artifacts = failing(models, METADATA, io_error())
    checks = verify("model_v1", artifacts.root)
    assert {check.what: check.verdict for check in failed_checks(checks)} == {
        "metadata.json": "UNREADABLE",
        "evaluation.json": "MISMATCH",
    }
    assert verdict(checks) == "MISMATCH"


def test_an_unreadable_provenance_is_not_taken_for_an_older_release(models):
    check = check_of("provenance.json", failing(models, STATEMENT, io_error()))
    assert check.note == "The config, the code and the digest of the data are unknown."


@pytest.mark.parametrize("error", [ConnectionResetError, TimeoutError])
@pytest.mark.parametrize("key", CHECK_OF_FILE)
def test_a_lost_connection_to_the_store_is_raised(key, error, models):
    lost = error("the store cannot be reached")
    with pytest.raises(error) as caught:
        verify("model_v1", failing(models, key, lost).root)
    assert caught.value is lost


# --- The config file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda path: None, None),
        (
            lambda path: path.write_bytes(path.read_bytes() + b"# more\n"),
            "was edited after the run.",
        ),
        (lambda path: path.write_bytes(b"epochs"), "is no longer a valid config."),
        (Path.unlink, "no longer exists."),
        (lambda path: (path.unlink(), path.mkdir()), "is no longer a valid config."),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is no longer a valid config."),
    ],
    ids=["unchanged", "edited", "not a config", "deleted", "a folder", "a FIFO"],
)
def test_a_change_of_the_config_file_is_a_note_and_no_mismatch(change, note, models):
    change(Path("one.yaml"))
    check = check_of("config", models)
    assert check.verdict == "MATCH"
    assert check.note == (note and f"one.yaml {note}")


def test_a_provenance_without_a_config_file_has_no_note_about_it(models):
    dependency(STATEMENT, "config", "name", value="other")(models)
    assert check_of("config", models).note is None


# --- Other code, other metrics -------------------------------------------------------------------


@pytest.fixture
def changed_core(monkeypatch):
    """A core whose source is another than that which made the models."""
    monkeypatch.setattr(evidence, "source_digest", lambda folder: "1" * 64)


def other_metrics(metadata):
    return {"quality_score": 1.0}


def test_changed_code_with_the_same_results_is_a_note_and_no_mismatch(models, changed_core):
    assert failed(models) == []
    check = check_of("code", models)
    assert check.found == f"sha256 {'1' * 64}"
    assert check.note.endswith("The code changed since; the results agree.")


@pytest.fixture
def derived(monkeypatch):
    """Replace the metrics of the simulated evaluator by those of a function."""

    def derived(metrics):
        simulated = replace(SIMULATED_EVALUATOR, measure=lambda metadata, _: metrics(metadata))
        monkeypatch.setattr("src.lineage.verify.SIMULATED_EVALUATOR", simulated)

    return derived


def test_changed_code_with_another_evaluation_is_the_cause(models, changed_core, derived):
    derived(other_metrics)
    assert failed(models) == ["code", "evaluation.json"]
    check = check_of("evaluation.json", models)
    assert check.diverged == "code"
    assert check.note == (
        "metrics.cost_per_1k_tokens: expected None, found 0.015; "
        "metrics.latency_ms: expected None, found 92; "
        "metrics.quality_score: expected 1.0, found 0.9031."
    )
    note = check_of("code", models).note
    assert note.endswith("The code changed since; the results differ.")


def test_changed_code_with_other_metadata_is_the_cause(models, changed_core, monkeypatch):
    def other(*arguments):
        return {**model_metadata(*arguments), "schema": 2}

    monkeypatch.setattr(expected, "model_metadata", other)
    assert failed(models) == ["metadata.json", "code"]
    assert check_of("metadata.json", models).diverged == "code"


def test_the_metrics_are_the_cause_of_another_evaluation_by_the_same_code(models, derived):
    derived(other_metrics)
    assert failed(models) == ["evaluation.json"]
    assert check_of("evaluation.json", models).diverged == "metrics"


def test_without_derived_metrics_the_evaluation_is_checked_by_its_provenance(models, derived):
    derived(lambda _: {"quality_score": None})
    assert failed(models) == []
    edit(models, EVALUATION, "metrics", "latency_ms", value=12)
    assert failed(models) == ["evaluation.json", "evaluation's provenance"]


def test_the_commit_is_noted_if_it_is_recorded(models):
    place = "predicate", "buildDefinition", "resolvedDependencies"
    code = {"name": "code", "digest": {"gitCommit": "ab" * 20}, "annotations": {"dirty": True}}
    edit(models, STATEMENT, *place, value=[code])
    assert check_of("code", models).note == (
        f"Made by commit {'ab' * 20} with uncommitted changes. "
        "The code changed since; the results agree."
    )
    edit(models, STATEMENT, *place, value=[])
    assert check_of("code", models).note == "The code changed since; the results agree."


def test_a_record_that_is_nested_deeply_is_a_mismatch_and_no_error(models):
    deep = "deep"
    for _ in range(600):
        deep = [deep]
    edit(models, METADATA, "training_config", value={"deep": deep})
    remove(models, STATEMENT)
    remove(models, EVALUATION_STATEMENT)
    found = dict(verify_all(models.root))
    assert verdict(found["model_v1"]) == "MISMATCH"
    assert verdict(found["model_v2"]) == "MATCH"
