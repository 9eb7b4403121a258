"""Bytes and names that nobody meant well: only the documented exceptions come out, and soon."""

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
from src.evaluation.evaluator import evaluate_model, load_evaluation
from src.storage import CorruptFileError
from src.training.config import ConfigError, load_training_config
from src.training.dataset import resolve_dataset
from src.training.pipeline import load_model_metadata, run_training_pipeline
from src.training.registry import ModelNotFoundError, get_model, list_models, register_model
from src.training.trainer import train_model
from tests.examples import CONFIG, METADATA
from tests.torture.fuzz import feed
from tests.torture.strategies_feed import hostile_names, hostile_yaml, spoiled

LONG = os.environ.get("TORTURE") == "long"
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
    """A project with a config and a dataset; the root of its artifacts is `artifacts`."""
    make_dataset("dataset_v1", samples=20, datasets_dir=tmp_path / "artifacts/datasets")
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path


def run_in(folder, version="model_v1"):
    return run_training_pipeline(folder / "c.yaml", version, artifacts_dir=folder / "artifacts")


# --- Any bytes -----------------------------------------------------------------------------------


@often
@given(data=hostile_yaml)
def test_text_that_is_nearly_yaml_is_a_config_or_one_fault_a_line(data, tmp_path):
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
def test_a_spoiled_file_is_read_or_raises_what_its_reader_documents(reader, data, tmp_path):
    found = feed(reader, data.draw(spoiled(VALID[reader]) | st.binary(max_size=100)), tmp_path)
    if isinstance(found, CorruptFileError):
        assert str(found).endswith(" Left as found.")
        assert ".json: " in str(found)


@pytest.mark.parametrize("reader", VALID)
def test_a_file_that_was_not_spoiled_is_read(reader, tmp_path):
    found = feed(reader, json.dumps(VALID[reader]).encode(), tmp_path)
    assert isinstance(found, Exception) == (
        reader in ("model", "dataset")
    )  # other name, other hash


# --- Too much of it ------------------------------------------------------------------------------

# Each a Python expression, of M: 1 MiB in the long form, a quarter of it in the short one.
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
    """Feed a reader in a process with 500 MiB and so much processor time; give what came out."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        sys.settrace(None)
        gc.freeze()  # what the tests before left is not the reader's to look through
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
            os.write(theirs, f"not documented: {error!r}"[:1000].encode())
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
def test_however_much_there_is_it_is_read_within_5_seconds_and_500_mebibytes(
    reader, kind, tmp_path
):
    accepted = {"siblings", "escapes", "very many keys", "models", "hash"}
    expected = "ConfigError" if reader == "config" else "CorruptFileError"
    if kind in accepted:
        expected = {"json": "dict", "registry": "list", "dataset": "DatasetVersion"}[reader]
    assert guarded(reader, HUGE[reader][kind], tmp_path) == expected


def test_a_key_given_twice_among_very_many_is_found_within_2_seconds(tmp_path):
    code = "b'{' + b','.join(b'\"%d\":0' % i for i in range(50_000)) + b',\"49999\":1}'"
    assert guarded("json", code, tmp_path, seconds=2) == "CorruptFileError"


@pytest.mark.parametrize("place", ["models", "model_version"])
def test_the_message_about_a_long_value_is_short(place, tmp_path):
    value = [0] * 100_000
    models = [value] if place == "models" else [{**METADATA, place: value}]
    found = feed("registry", json.dumps({"models": models}).encode(), tmp_path)
    assert isinstance(found, CorruptFileError)
    assert len(str(found)) < 2000


# --- Names ---------------------------------------------------------------------------------------


@often
@given(name=hostile_names)
def test_what_is_no_name_is_refused_before_any_file_is_touched(name, tmp_path, tree):
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


# --- A record that cannot be read ----------------------------------------------------------------


@often
@given(data=spoiled({"models": [METADATA]}))
def test_a_registry_that_cannot_be_read_stops_every_writer_and_is_left_to_the_byte(
    data, tmp_path_factory
):
    folder = tmp_path_factory.getbasetemp() / "spoiled_registry"
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
    except CorruptFileError:
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
@given(of_the_registry=newer, of_a_model=newer, of_its_config=newer)
def test_fields_of_a_newer_release_survive_a_register(
    of_the_registry, of_a_model, of_its_config, tmp_path
):
    config = {**METADATA["training_config"], "newer": of_its_config}
    old = {**METADATA, "newer": of_a_model, "training_config": config}
    registry = tmp_path / "registry.json"
    registry.write_text(json.dumps({"schema": of_the_registry, "models": [old]}))
    new = {**METADATA, "model_version": "model_v2"}
    assert register_model(new, registry)
    assert json.loads(registry.read_bytes()) == {"schema": of_the_registry, "models": [old, new]}
    assert not register_model(METADATA, registry)


# --- Links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["there", "not there"])
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
def test_a_link_that_leads_out_of_the_artifacts_lets_nothing_be_written_there(
    name, target, folder, tree
):
    run_in(folder)
    link, outside = folder / "artifacts" / name, folder / "outside"
    outside.mkdir()
    if target == "there":
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
        # The version was complete already, so no temporary file was opened.
        assert (name.endswith(".tmp"), target) == (True, "not there")
    assert (tree(outside), sorted(outside.rglob("*"))) == before
    assert link.is_symlink()
