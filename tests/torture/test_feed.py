"""Hostile bytes and names give a result or a documented exception, in bounded time and memory."""

import gc
import json
import math
import os
import resource
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.make_dataset import make_dataset
from src.errors import CorruptFileError
from src.evaluation.evaluator import evaluate_model, load_evaluation
from src.records.canonical import canonical_json, sha256
from src.storage import StorePath
from src.training.config import ConfigError, load_training_config
from src.training.dataset import resolve_dataset
from src.training.hashing import count_and_hash_once
from src.training.pipeline import load_model_metadata, run_training_pipeline
from src.training.registry import ModelNotFoundError, get_model, list_models, register_model
from src.training.trainer import train_model
from tests.examples import CONFIG, DATA, DATA_SHA256, METADATA
from tests.stores import MemoryStore
from tests.torture.fuzz import feed
from tests.torture.harness import LONG
from tests.torture.strategies_feed import damaged, damaged_json, hostile_names, hostile_yaml

STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "metadata.json", "digest": {"sha256": "0" * 64}}],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {
        "buildDefinition": {
            "buildType": "urn:a",
            "externalParameters": {"model_version": "model_v1"},
            "resolvedDependencies": [{"name": "dataset", "digest": {"sha256": "0" * 64}}],
        },
        "runDetails": {
            "builder": {"id": "urn:b", "version": {"b": "1"}},
            "metadata": {"invocationId": "1", "startedOn": "now", "finishedOn": "then"},
            "byproducts": [{"name": "run", "uri": "http://localhost/"}],
        },
    },
}
VALID = {
    "json": METADATA,
    "registry": {"models": [METADATA]},
    "model": {"models": [METADATA]},
    "metadata": METADATA,
    "evaluation": {"model_version": "model_v1", "dataset_version": "d", "metrics": {"a": 1.5}},
    "provenance": STATEMENT,
    "dataset": {"dataset_version": "dataset_v1", "num_samples": 2, "dataset_hash": "0" * 64},
}
often = settings(
    max_examples=20_000 if LONG else 200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def folder(tmp_path):
    """A project with a config and a dataset; its artifacts root is `artifacts`."""
    make_dataset("dataset_v1", samples=20, datasets_dir=tmp_path / "artifacts/datasets")
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path


def run_in(folder, version="model_v1"):
    return run_training_pipeline(folder / "c.yaml", version, artifacts_dir=folder / "artifacts")


# --- Any bytes -----------------------------------------------------------------------------------


@often
@given(data=hostile_yaml)
def test_hostile_yaml_parses_or_raises_one_fault_per_line(data, tmp_path):
    (tmp_path / "c.yaml").write_bytes(data)
    try:
        load_training_config(tmp_path / "c.yaml")
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.startswith(f"{tmp_path}/c.yaml:") for line in lines)
        assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("reader", VALID)
@often
@given(data=st.data())
def test_a_damaged_file_parses_or_raises_a_documented_exception(reader, data, tmp_path):
    found = feed(reader, data.draw(damaged_json(VALID[reader]) | st.binary(max_size=100)), tmp_path)
    if isinstance(found, CorruptFileError):
        assert str(found).endswith(" Left as found.")
        assert ".json: " in str(found)


@pytest.mark.parametrize("reader", VALID)
def test_an_undamaged_file_parses(reader, tmp_path):
    found = feed(reader, json.dumps(VALID[reader]).encode(), tmp_path)
    # `model` looks for another name, and `dataset` for another digest.
    assert isinstance(found, Exception) == (reader in ("model", "dataset"))


@pytest.fixture
def in_memory():
    """A dataset and a registry in an in-memory store."""
    root = StorePath(MemoryStore())
    (root / "data.jsonl").replace(DATA)
    (root / "models/registry.json").replace(canonical_json({"models": [METADATA]}))
    return root


@often
@given(data=st.data())
def test_a_damaged_memo_changes_no_result(data, in_memory):
    path = in_memory / "data.jsonl"
    count_and_hash_once(path)
    memo = path.memo()
    memo.write_bytes(data.draw(damaged(memo.read_bytes()) | st.binary(max_size=100)))
    assert count_and_hash_once(path) == (3, DATA_SHA256)


def test_a_mixture_of_two_memos_makes_no_registry_valid(in_memory):
    registry = in_memory / "models/registry.json"
    assert list_models(registry) == [METADATA]
    memo = registry.memo()
    checksum, _, _ = memo.read_bytes().partition(b"\n")
    invalid = canonical_json({"models": [{**METADATA, "num_training_samples": "3"}]})
    memo.write_bytes(checksum + b"\n" + sha256(invalid).encode())
    registry.replace(invalid)
    with pytest.raises(CorruptFileError):
        list_models(registry)


# --- Huge inputs ---------------------------------------------------------------------------------

# Python expressions. M is 1 MiB in the long form and a quarter of it in the short form.
HUGE = {
    "config": {
        "alias bomb": "b'a0: &a0 [x]\\n' + b''.join("
        "b'a%d: &a%d [%s]\\n' % (i, i, b','.join([b'*a%d' % (i - 1)] * 9)) for i in range(1, 90))",
        "flow lists": "b'[' * M",
        "flow mappings": "b'{' * M",
        "mapping": "b'a: b\\n' * (M // 5)",
        "list": "b'- ' * (M // 2)",
        "list of lines": "b'-\\n' * (M // 2)",
        "scalar": "b'a' * M",
        "words": "b'a ' * (M // 2)",
        "lines": "b'a\\n' * (M // 2)",
        "question marks": "b'?' * M",
        "keys": "b'? ' * (M // 2)",
        "double quotes": "b'\"' * M",
        "escaped quotes": "b'\"' + b'\\\\\\\"' * (M // 2 - 1)",
        "single quotes": 'b"\'" * M',
        "tabs": "b'\\t' * M",
        "anchors": "b'&a ' * (M // 3)",
        "anchor": "b'&' + b'a' * (M - 1)",
        "comments": "b'#\\n' * (M // 2)",
        "long key": "b'? ' + b'a' * (M - 9) + b'\\n: b\\n'",
        "long integer": "b'epochs: ' + b'9' * (M - 9)",
        "staircase": "b''.join(b' ' * i + b'?\\n' for i in range(1400))",
        "flow scalars": "b'[' + b'a ' * (M // 2 - 1)",
        "10 MB": "b'#' * (10 * M)",
    },
    "json": {
        "lists": "b'[' * (10 * M)",
        "mappings": "b'{\"a\":' * (2 * M)",
        "siblings": "b'{\"a\":[' + b'[],' * (3 * M) + b'[]]}'",
        "digits": "b'{\"a\":' + b'9' * (10 * M) + b'}'",
        "5,000 digits": "b'{\"a\":' + b'9' * 5000 + b'}'",
        "exponent": "b'{\"a\":1e' + b'9' * (10 * M) + b'}'",
        "escapes": "b'{\"a\":\"' + b'\\\\u0041' * (10 * M // 6) + b'\"}'",
        "spaces": "b' ' * (10 * M)",
        "zeros": "bytes(10 * M)",
        "very many keys": "b'{' + b','.join(b'\"%d\":0' % i for i in range(M // 2)) + b'}'",
    },
    "registry": {
        "models that are lists": "b'{\"models\":[[' + b'0,' * (5 * M) + b'0]]}'",
        "models": "b'{\"models\":[' + b','.join(MODEL % i for i in range(M // 32)) + b']}'",
    },
    "dataset": {"hash": "b'{\"dataset_hash\":[' + b'0,' * (5 * M) + b'0]}'"},
}


def guarded(reader, code, folder, seconds=5):
    """Return the type of a reader's result, in a process with limited CPU time and 500 MiB."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        sys.settrace(None)
        gc.freeze()  # so that garbage of earlier tests costs the reader no time
        try:
            model = json.dumps({**METADATA, "model_version": "model_%d"}).encode()
            data = eval(code, {"M": 1 << (20 if LONG else 18), "MODEL": model})
            pages = int(Path("/proc/self/statm").read_text().split()[5])
            room = pages * resource.getpagesize() + (500 << 20)
            resource.setrlimit(resource.RLIMIT_DATA, (room, room))
            spent = math.ceil(time.process_time())
            resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, spent + seconds))
            os.write(theirs, type(feed(reader, data, folder)).__name__.encode())
        except BaseException as error:
            os.write(theirs, f"undocumented: {error!r}"[:1000].encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return found or "ran out of time"


@pytest.mark.parametrize(
    ("reader", "kind"), [(reader, kind) for reader, kinds in HUGE.items() for kind in kinds]
)
def test_a_huge_input_is_handled_within_5_seconds_and_500_mebibytes(reader, kind, tmp_path):
    accepted = {"siblings", "escapes", "very many keys", "models", "hash"}
    expected = "ConfigError" if reader == "config" else "CorruptFileError"
    if kind in accepted:
        expected = {"json": "dict", "registry": "list", "dataset": "DatasetVersion"}[reader]
    assert guarded(reader, HUGE[reader][kind], tmp_path) == expected


def test_a_duplicate_key_among_50_000_is_found_within_2_seconds(tmp_path):
    code = "b'{' + b','.join(b'\"%d\":0' % i for i in range(50_000)) + b',\"49999\":1}'"
    assert guarded("json", code, tmp_path, seconds=2) == "CorruptFileError"


@pytest.mark.parametrize("place", ["models", "model_version"])
def test_a_message_about_a_long_value_is_short(place, tmp_path):
    value = [0] * 100_000
    models = [value] if place == "models" else [{**METADATA, place: value}]
    found = feed("registry", json.dumps({"models": models}).encode(), tmp_path)
    assert isinstance(found, CorruptFileError)
    assert len(str(found)) < 2000


# --- Names ---------------------------------------------------------------------------------------


@often
@given(name=hostile_names)
def test_an_invalid_name_is_refused_before_any_file_is_written(name, tmp_path, tree):
    (tmp_path / "c.yaml").write_text(CONFIG)
    before = tree(tmp_path)
    models, registry = tmp_path / "a/models", tmp_path / "a/models/registry.json"
    for call in (
        lambda: run_training_pipeline(tmp_path / "c.yaml", name, artifacts_dir=tmp_path / "a"),
        lambda: train_model(tmp_path / "c.yaml", name, models, datasets_dir=tmp_path / "a"),
        lambda: register_model({**METADATA, "model_version": name}, registry),
        lambda: register_model({**METADATA, "dataset_version": name}, registry),
        lambda: load_model_metadata(name, models),
        lambda: evaluate_model(name, models, tmp_path / "a"),
        lambda: load_evaluation(name, tmp_path / "a"),
        lambda: resolve_dataset(name, tmp_path / "a"),
    ):
        with pytest.raises(ValueError, match="expected a name of at most 128 letters"):
            call()
    with pytest.raises(ModelNotFoundError):
        get_model(name, registry)
    assert tree(tmp_path) == before
    assert not (tmp_path / "a").exists()


# --- A registry that cannot be parsed ------------------------------------------------------------


@often
@given(data=damaged_json({"models": [METADATA]}))
def test_a_corrupt_registry_stops_every_writer_and_stays_unchanged(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "damaged_registry"
    registry, metadata = folder / "models/registry.json", folder / "models/model_v9/metadata.json"
    if not folder.exists():
        make_dataset("dataset_v1", samples=1, datasets_dir=folder / "datasets")
        registry.parent.mkdir()
        (folder / "c.yaml").write_text(CONFIG)
    metadata.unlink(missing_ok=True)
    registry.write_bytes(data)
    new = {**METADATA, "model_version": "model_v8"}
    try:
        list_models(registry)
        is_valid = canonical_json(json.loads(data)) == data
    except CorruptFileError:
        is_valid = False
    if not is_valid:
        with pytest.raises(CorruptFileError):
            register_model(new, registry)
        with pytest.raises(CorruptFileError):
            train_model(
                folder / "c.yaml", "model_v9", folder / "models", datasets_dir=folder / "datasets"
            )
        assert not metadata.exists()
        assert registry.read_bytes() == data
    else:
        before = json.loads(data)
        assert register_model(new, registry)
        assert json.loads(registry.read_bytes()) == {**before, "models": [*before["models"], new]}


newer = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text("aé\x00\u2028"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz"), inner, max_size=3),
)


@often
@given(in_registry=newer, in_model=newer, in_config=newer)
def test_fields_of_a_newer_release_survive_a_registration(
    in_registry, in_model, in_config, tmp_path
):
    config = {**METADATA["training_config"], "newer": in_config}
    old = {**METADATA, "newer": in_model, "training_config": config}
    registry = tmp_path / "registry.json"
    registry.write_bytes(canonical_json({"schema": in_registry, "models": [old]}))
    new = {**METADATA, "model_version": "model_v2"}
    assert register_model(new, registry)
    assert json.loads(registry.read_bytes()) == {"schema": in_registry, "models": [old, new]}
    assert not register_model(METADATA, registry)


# --- Links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["exists", "is missing"])
@pytest.mark.parametrize(
    "name",
    [
        "models",
        "models/model_v1",
        "models/model_v1/metadata.json",
        "models/model_v1/.metadata.json.tmp",
        "models/model_v1/provenance.json",
        "models/model_v1/.provenance.json.tmp",
        "models/registry.json",
        "models/registry.json.lock",
        "models/.registry.json.tmp",
        "evaluations",
        "evaluations/model_v1",
        "evaluations/model_v1/evaluation.json",
        "evaluations/model_v1/.evaluation.json.tmp",
        "evaluations/model_v1/provenance.json",
        "evaluations/model_v1/.provenance.json.tmp",
    ],
)
def test_nothing_is_written_through_a_link_that_leads_out_of_the_artifacts(
    name, target, folder, tree
):
    run_in(folder)
    link, outside = folder / "artifacts" / name, folder / "outside"
    outside.mkdir()
    if target == "exists":
        if link.exists():
            link.rename(outside / "theirs")
        else:
            (outside / "theirs").write_bytes(b"theirs")
        (outside / "more").write_bytes(b"more")
    elif link.is_dir():
        link.rename(folder / "away")
    else:
        link.unlink(missing_ok=True)
    link.symlink_to(outside / "theirs")
    before = tree(outside), sorted(outside.rglob("*"))
    try:
        run_in(folder, "model_v1" if "model_v1" in name else "model_v2")
    except (OSError, ValueError) as error:
        assert str(folder / "artifacts") in str(error)
    else:
        # The version was already complete, so no temporary file was opened.
        assert (name.endswith(".tmp"), target) == (True, "is missing")
    assert (tree(outside), sorted(outside.rglob("*"))) == before
    assert link.is_symlink()
