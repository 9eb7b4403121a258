import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src import storage
from src.storage import CorruptFileError, canonical_json
from src.training.registry import ModelNotFoundError, get_model, list_models, register_model
from src.versions import ModelVersionConflict
from tests.examples import METADATA
from tests.strategies import names, texts

REGISTRY = Path("artifacts/models/registry.json")


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_registry(value):
    REGISTRY.parent.mkdir(parents=True, exist_ok=True)
    REGISTRY.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())


# --- Registering ---------------------------------------------------------------------------------


def test_the_first_model_makes_the_registry_in_its_specified_form(metadata):
    assert register_model(metadata) is True
    assert (
        REGISTRY.read_text()
        == """\
{
  "models": [
    {
      "base_model": "mistral-7b",
      "dataset_version": "dataset_v1",
      "model_version": "model_v1",
      "num_training_samples": 3,
      "training_config": {
        "base_model": "mistral-7b",
        "batch_size": 16,
        "dataset_version": "dataset_v1",
        "epochs": 3,
        "learning_rate": 2e-05
      }
    }
  ]
}
"""
    )


def test_only_the_registry_and_its_lock_are_left(metadata, working_directory, tree):
    register_model(metadata)
    assert list(tree(working_directory)) == [str(REGISTRY), f"{REGISTRY}.lock"]


def test_models_are_listed_in_the_order_of_registration(metadata):
    versions = ["model_v2", "model_v10", "model_v1"]
    for version in versions:
        register_model({**metadata, "model_version": version})
    assert [model["model_version"] for model in list_models()] == versions


def test_registering_the_same_model_twice_adds_nothing(metadata):
    register_model(metadata)
    before = REGISTRY.read_bytes(), REGISTRY.stat().st_mtime_ns, REGISTRY.stat().st_ino
    assert register_model(metadata) is False
    assert (REGISTRY.read_bytes(), REGISTRY.stat().st_mtime_ns, REGISTRY.stat().st_ino) == before


def test_registering_other_content_is_a_conflict_and_changes_nothing(metadata):
    register_model(metadata)
    before = REGISTRY.read_bytes()
    config = {**metadata["training_config"], "learning_rate": 1e-5, "epochs": 4}
    with pytest.raises(ModelVersionConflict) as caught:
        register_model({**metadata, "num_training_samples": 4, "training_config": config})
    assert str(caught.value) == (
        "artifacts/models/registry.json: model version 'model_v1' is already bound to other "
        "content:\n"
        "  num_training_samples: recorded 3, now 4\n"
        "  training_config.epochs: recorded 3, now 4\n"
        "  training_config.learning_rate: recorded 2e-05, now 1e-05\n"
        "Nothing was changed. A version never changes: choose another model_version."
    )
    assert REGISTRY.read_bytes() == before


def test_fields_that_this_release_does_not_know_stay(metadata):
    old = {**metadata, "model_version": "model_v0", "stage": "production"}
    old["training_config"] = {**old["training_config"], "warmup": 0.1}
    write_registry({"schema": 2, "models": [old], "owner": {"team": "x"}})
    register_model(metadata)
    assert json.loads(REGISTRY.read_bytes()) == {
        "schema": 2,
        "models": [old, metadata],
        "owner": {"team": "x"},
    }


def test_an_entry_with_fields_of_a_newer_release_is_the_same_model(metadata):
    write_registry({"models": [{**metadata, "stage": "production"}]})
    before = REGISTRY.read_bytes()
    assert register_model(metadata) is False
    assert REGISTRY.read_bytes() == before


@given(versions=st.lists(names, unique=True, min_size=1, max_size=5), text=texts)
def test_the_registry_is_canonical_however_many_entries_were_added(versions, text):
    config = {"a": [], "b": {}, "c": [{"d": text}], "e": 1e-5}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "registry.json")
        models = [
            {**METADATA, "model_version": name, "base_model": text, "training_config": config}
            for name in versions
        ]
        for model in models:
            register_model(model, path)
        assert path.read_bytes() == canonical_json({"models": models})


def test_a_tuple_is_the_list_that_the_registry_holds_of_it(metadata):
    config = {**metadata["training_config"], "layers": (1, 2)}
    assert register_model({**metadata, "training_config": config}) is True
    assert register_model({**metadata, "training_config": config}) is False


def test_the_registry_may_lie_elsewhere(metadata, tmp_path):
    path = tmp_path / "else/where/list.json"
    register_model(metadata, path)
    assert list_models(path) == [metadata]
    assert not REGISTRY.exists()


def test_the_caller_keeps_its_own_metadata(metadata):
    given = json.loads(json.dumps(metadata))
    register_model(given)
    assert given == metadata


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model": None}, "metadata: base_model: expected text, found None."),
        (
            {"num_training_samples": True},
            "metadata: num_training_samples: expected a whole number, found True.",
        ),
        (
            {"model_version": "../x"},
            "metadata: model_version: expected a name of at most 128 letters, digits, '.', '_' "
            "and '-' that starts with a letter or digit and is not "
            "'registry.json', found '../x'.",
        ),
    ],
)
def test_what_is_no_metadata_is_refused_before_any_file_is_touched(
    change, message, metadata, working_directory
):
    with pytest.raises(ValueError) as caught:
        register_model({**metadata, **change})
    assert str(caught.value) == message
    assert list(working_directory.iterdir()) == []


def test_metadata_that_json_cannot_hold_leaves_the_registry_as_it_was(metadata):
    register_model(metadata)
    before = REGISTRY.read_bytes()
    config = {**metadata["training_config"], "learning_rate": float("nan")}
    with pytest.raises(ValueError):
        register_model({**metadata, "model_version": "model_v2", "training_config": config})
    assert REGISTRY.read_bytes() == before


def test_a_registry_that_is_a_link_to_elsewhere_is_refused(metadata, tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_bytes(b'{"models": []}')
    REGISTRY.parent.mkdir(parents=True)
    REGISTRY.symlink_to(outside)
    with pytest.raises(ValueError, match=f"leads out of artifacts/models, to {outside}"):
        register_model(metadata)
    assert outside.read_bytes() == b'{"models": []}'


# --- A registry that cannot be read --------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"", "line 1, column 1: the file is empty."),
        (b'{"models": [', "line 1, column 13: not valid JSON (Expecting value)."),
        (b"[]", "expected a JSON object, found a list."),
        (b"{}", "models: expected a list."),
        (b'{"models": null}', "models: expected a list."),
        (b'{"models": {}}', "models: expected a list."),
        (b'{"models": [], "models": []}', "the key 'models' is given twice."),
        (b'{"models": [1]}', "models[0]: expected an object, found 1."),
        (b'{"models": [{}]}', "models[0]: model_version: expected text, found nothing."),
    ],
)
def test_a_damaged_registry_stops_everything_and_is_left_as_found(value, fault, metadata):
    write_registry(value)
    for work in (
        lambda: register_model(metadata),
        list_models,
        lambda: get_model("model_v1"),
    ):
        with pytest.raises(CorruptFileError) as caught:
            work()
        assert str(caught.value) == f"artifacts/models/registry.json: {fault} Left as found."
    assert REGISTRY.read_bytes() == value


def test_a_version_that_is_listed_twice_is_a_damaged_registry(metadata):
    write_registry({"models": [metadata, {**metadata, "model_version": "model_v2"}, metadata]})
    with pytest.raises(CorruptFileError) as caught:
        list_models()
    assert str(caught.value) == (
        "artifacts/models/registry.json: models[2]: 'model_v1' is listed twice. Left as found."
    )


def test_an_entry_with_a_bad_field_is_named_by_its_place(metadata):
    write_registry({"models": [metadata, {**metadata, "dataset_version": 1}]})
    with pytest.raises(CorruptFileError) as caught:
        list_models()
    assert str(caught.value) == (
        "artifacts/models/registry.json: models[1]: dataset_version: expected text, found 1. "
        "Left as found."
    )


# --- Looking up ----------------------------------------------------------------------------------


def test_without_a_registry_no_model_is_listed_and_none_is_made(working_directory):
    assert list_models() == []
    assert list(working_directory.iterdir()) == []


def test_a_model_is_found_by_its_version(metadata):
    register_model({**metadata, "model_version": "model_v0"})
    register_model(metadata)
    assert get_model("model_v1") == metadata


def test_a_model_that_is_not_there_is_named_with_the_nearest_that_are(metadata):
    for version in ("model_v1", "other", "model_v2", "zzz"):
        register_model({**metadata, "model_version": version})
    with pytest.raises(KeyError) as caught:
        get_model("model_v7")
    assert isinstance(caught.value, ModelNotFoundError)
    assert str(caught.value) == (
        "artifacts/models/registry.json: no model 'model_v7'. Nearest: model_v2, model_v1, other."
    )


def test_without_any_model_the_message_says_so():
    with pytest.raises(KeyError) as caught:
        get_model("model_v1", "r.json")
    assert str(caught.value) == "r.json: no model 'model_v1'. Nearest: none."


# --- Several processes ---------------------------------------------------------------------------


REGISTER = """
import json
import tempfile
from src.training.registry import register_model
---
models = json.loads(sys.argv[1])
print(sum(register_model(model) for model in models))
"""


def test_processes_that_register_at_once_leave_an_entry_each(metadata, at_once):
    batches = [
        [{**metadata, "model_version": f"{process}-{n}"} for n in range(10)]
        for process in ("a", "b", "c")
    ]
    assert at_once(REGISTER, *[(json.dumps(batch),) for batch in batches]) == ["10"] * 3
    listed = [model["model_version"] for model in list_models()]
    assert sorted(listed) == [f"{process}-{n}" for process in "abc" for n in range(10)]
    for process in "abc":  # and each in the order of its own registrations
        own = [version for version in listed if version.startswith(process)]
        assert own == [f"{process}-{n}" for n in range(10)]


def test_processes_that_register_one_model_at_once_leave_one_entry(metadata, at_once):
    models = [{**metadata, "model_version": f"model_v{n}"} for n in range(10)]
    added = at_once(REGISTER, *[(json.dumps(models),)] * 3)
    assert sum(map(int, added)) == 10
    assert list_models() == models
    assert sorted(path.name for path in REGISTRY.parent.iterdir()) == [
        "registry.json",
        "registry.json.lock",
    ]


def test_a_registration_killed_anywhere_leaves_old_or_new_and_can_be_repeated(
    metadata, crashes, tmp_path
):
    before = tmp_path / "before"
    old = canonical_json({"models": [{**metadata, "model_version": "model_v0"}]})
    new = canonical_json({"models": [{**metadata, "model_version": "model_v0"}, metadata]})
    storage.create(before / REGISTRY, old, root=tmp_path)
    steps = crashes(
        "from src.training.registry import register_model\n"
        f"def work(): register_model({metadata!r})",
        before,
    )
    states = []
    for step in steps:
        states.append((step / REGISTRY).read_bytes())
        register_model(metadata, step / REGISTRY)
        assert (step / REGISTRY).read_bytes() == new
        assert sorted(path.name for path in (step / REGISTRY).parent.iterdir()) == [
            "registry.json",
            "registry.json.lock",
        ]
    assert set(states) == {old, new}
    assert states == sorted(states, key=[old, new].index)  # once there, it stays there
