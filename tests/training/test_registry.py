import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src import storage
from src.storage import CorruptFileError, canonical_json
from src.training import registry
from src.training.registry import (
    ModelNotFoundError,
    get_model,
    is_registered,
    list_models,
    register_model,
    register_models,
)
from src.versions import ModelVersionConflict
from tests.examples import METADATA
from tests.strategies import json_values, names, texts

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


# --- Many at once --------------------------------------------------------------------------------


def versions_of(metadata, *versions):
    return [{**metadata, "model_version": version} for version in versions]


def test_a_batch_is_listed_in_its_order_and_each_is_told_whether_it_was_added(metadata):
    register_model({**metadata, "model_version": "b"})
    assert register_models(versions_of(metadata, "c", "b", "a", "c")) == [True, False, True, False]
    assert list_models() == versions_of(metadata, "b", "c", "a")


def test_a_batch_may_come_from_an_iterator(metadata):
    assert register_models(iter(versions_of(metadata, "a", "b"))) == [True, True]


def test_a_batch_of_what_is_there_does_not_write(metadata):
    register_models(versions_of(metadata, "a", "b"))
    before = REGISTRY.stat().st_ino, REGISTRY.stat().st_mtime_ns
    assert register_models(versions_of(metadata, "b", "a")) == [False, False]
    assert (REGISTRY.stat().st_ino, REGISTRY.stat().st_mtime_ns) == before


def test_an_empty_batch_adds_nothing():
    assert register_models([]) == []
    assert not REGISTRY.exists()


def test_one_conflict_in_a_batch_leaves_the_registry_as_it_was(metadata):
    register_model(metadata)
    before = REGISTRY.read_bytes()
    batch = [*versions_of(metadata, "a"), {**metadata, "num_training_samples": 4}]
    with pytest.raises(ModelVersionConflict) as caught:
        register_models(batch)
    assert caught.value.model_version == "model_v1"
    assert caught.value.details == ["num_training_samples: recorded 3, now 4"]
    assert REGISTRY.read_bytes() == before


def test_two_contents_of_one_version_in_a_batch_are_a_conflict(metadata):
    with pytest.raises(ModelVersionConflict) as caught:
        register_models([metadata, {**metadata, "num_training_samples": 4}])
    assert caught.value.details == ["num_training_samples: recorded 3, now 4"]
    assert not REGISTRY.exists()


def test_what_is_no_metadata_in_a_batch_is_named_by_its_place(metadata, working_directory):
    with pytest.raises(ValueError) as caught:
        register_models([metadata, {**metadata, "base_model": None}])
    assert str(caught.value) == "metadata[1]: base_model: expected text, found None."
    assert list(working_directory.iterdir()) == []


@given(
    batches=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=5), max_size=5),
    text=texts,
    value=json_values,
)
def test_batches_leave_the_bytes_that_their_models_one_by_one_would(batches, text, value):
    def model(version):
        config = {"layers": value}
        fields = {"model_version": version, "base_model": text, "training_config": config}
        return {**METADATA, **fields}

    with tempfile.TemporaryDirectory() as folder:
        path, single = Path(folder, "registry.json"), Path(folder, "single.json")
        for batch in batches:
            added = register_models([model(version) for version in batch], path)
            assert added == [register_model(model(version), single) for version in batch]
        order = list(dict.fromkeys(version for batch in batches for version in batch))
        assert list_models(path) == [model(version) for version in order]
        if order:
            expected = canonical_json({"models": [model(version) for version in order]})
            assert path.read_bytes() == single.read_bytes() == expected


# --- The seal ------------------------------------------------------------------------------------

SEAL = "user.llm-training-pipeline.sha256"


@pytest.fixture
def sealing(tmp_path):
    """Skip the test where the file system keeps no seals."""
    try:
        os.setxattr(tmp_path, SEAL, b"x")
        os.removexattr(tmp_path, SEAL)
    except (AttributeError, OSError):
        pytest.skip("no extended attributes here")


def unsealed(path=REGISTRY):
    """Give a copy that has no seal."""
    copy = path.with_name("copy.json")
    copy.unlink(missing_ok=True)
    copy.write_bytes(path.read_bytes())
    return copy


def test_the_seal_of_a_registry_is_the_digest_of_its_bytes(metadata, sealing):
    for version in ("a", "b"):
        register_model({**metadata, "model_version": version})
        assert os.getxattr(REGISTRY, SEAL).decode() == storage.sha256(REGISTRY.read_bytes())


def test_what_is_sealed_is_not_checked_again(metadata, sealing, monkeypatch):
    register_model(metadata)
    monkeypatch.delattr(registry, "_parse")
    assert register_models(versions_of(metadata, "a", "model_v1")) == [True, False]
    assert is_registered(metadata)
    assert get_model("a") == {**metadata, "model_version": "a"}
    assert len(list_models()) == 2


def outcomes(path):
    """Give what every reader says of a registry."""
    work = (
        lambda: list_models(path),
        lambda: get_model("a", path),
        lambda: get_model("b", path),
        lambda: is_registered({**METADATA, "model_version": "a"}, path),
        lambda: register_models(versions_of(METADATA, "a", "b"), path),
        lambda: path.read_bytes(),
    )
    for each in work:
        try:
            yield each()
        except (KeyError, ValueError) as error:
            yield type(error), str(error)


@given(data=st.data())
def test_a_change_under_the_seal_is_seen_as_in_a_registry_that_never_had_one(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "one/registry.json")
        register_models(versions_of(METADATA, "a", "c"), path)
        with path.open("r+b") as file:  # in place: the seal stays
            file.seek(data.draw(st.integers(0, path.stat().st_size - 1)))
            file.write(data.draw(st.binary(min_size=1, max_size=3)))
            if data.draw(st.booleans()):
                file.truncate()
        other = Path(folder, "two/registry.json")
        other.parent.mkdir()
        other.write_bytes(path.read_bytes())
        seen = [str(list(outcomes(each))).replace(str(each), "") for each in (path, other)]
        assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b'"b"', b'"a"', "models[1]: 'a' is listed twice."),
        (b'"b"', b'"/"', "models[1]: model_version: expected a name of at most 128 letters, "),
        (b"\n}\n", b"\n \n", "line 31, column 1: not valid JSON (Expecting ',' delimiter)."),
    ],
)
def test_a_registry_edited_under_its_seal_is_damaged_as_any_other(old, new, fault, metadata):
    register_models(versions_of(metadata, "a", "b"))
    seal = storage.read_sealed(REGISTRY)[1]
    REGISTRY.write_bytes(REGISTRY.read_bytes().replace(old, new))
    assert storage.read_sealed(REGISTRY)[1] == seal
    for work in (
        list_models,
        lambda: get_model("a"),
        lambda: is_registered({**metadata, "model_version": "a"}),
        lambda: register_model(metadata),
    ):
        with pytest.raises(CorruptFileError) as caught:
            work()
        assert str(caught.value).startswith(f"artifacts/models/registry.json: {fault}")


def test_a_copy_without_the_seal_says_the_same_and_gets_one_with_the_next_model(metadata, sealing):
    register_models(versions_of(metadata, "a", "b"))
    copy = unsealed()
    assert storage.read_sealed(copy)[1] == b""
    assert list_models(copy) == list_models()
    assert get_model("b", copy) == get_model("b")
    assert register_model(metadata, copy)
    assert copy.read_bytes() == canonical_json(
        {"models": versions_of(metadata, "a", "b", "model_v1")}
    )
    assert os.getxattr(copy, SEAL).decode() == storage.sha256(copy.read_bytes())


def test_a_copy_with_the_seal_keeps_it(metadata, sealing):
    register_model(metadata)
    shutil.copy2(REGISTRY, "copy.json")
    assert storage.read_sealed(Path("copy.json")) == storage.read_sealed(REGISTRY)


def test_a_registry_that_was_written_in_another_form_is_in_its_own_form_once_sealed(
    metadata, sealing
):
    write_registry({"models": versions_of(metadata, "a")})
    register_model(metadata)
    assert REGISTRY.read_bytes() == canonical_json(
        {"models": versions_of(metadata, "a", "model_v1")}
    )
    assert os.getxattr(REGISTRY, SEAL).decode() == storage.sha256(REGISTRY.read_bytes())


def test_a_registry_that_says_more_than_this_release_knows_is_not_sealed(metadata, sealing):
    write_registry({"models": versions_of(metadata, "a"), "schema": [{"a": 1}]})
    register_model(metadata)
    assert storage.read_sealed(REGISTRY)[1] == b""
    assert json.loads(REGISTRY.read_bytes()) == {
        "models": versions_of(metadata, "a", "model_v1"),
        "schema": [{"a": 1}],
    }


def refusing(*_):
    raise OSError(errno.ENOTSUP, "Operation not supported")


@pytest.mark.parametrize("refused", [["setxattr"], ["getxattr"], ["setxattr", "getxattr"]])
@pytest.mark.parametrize("supported", [True, False])
def test_without_a_seal_a_registry_is_the_same(refused, supported, metadata, monkeypatch):
    for call in refused:
        if supported:
            monkeypatch.setattr(os, call, refusing)
        else:
            monkeypatch.delattr(os, call)
    for version in ("a", "b", "c"):
        assert register_model({**metadata, "model_version": version})
        assert not register_model({**metadata, "model_version": version})
    assert register_models(versions_of(metadata, "d", "a")) == [True, False]
    assert get_model("b") == {**metadata, "model_version": "b"}
    models = versions_of(metadata, "a", "b", "c", "d")
    assert list_models() == models
    assert REGISTRY.read_bytes() == canonical_json({"models": models})
    with pytest.raises(ModelVersionConflict):
        is_registered({**models[0], "num_training_samples": 4})


def test_entries_in_another_form_are_found_also_after_the_file_system_began_to_keep_seals(
    metadata, monkeypatch
):
    """Entries are put in before the brackets, and the whole is not sealed: it is not canonical."""
    entry = json.dumps({**metadata, "model_version": "a"}).encode()
    write_registry(b'{"models": [\n' + entry + b",\n" + canonical_json(metadata)[:-3])
    with REGISTRY.open("ab") as file:
        file.write(b"\n    }\n  ]\n}\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getxattr", refusing)
        assert register_model({**metadata, "model_version": "b"})
    assert list_models() == versions_of(metadata, "a", "model_v1", "b")
    assert [get_model(version)["model_version"] for version in ("a", "b")] == ["a", "b"]


traps = st.sampled_from(
    [
        "model_version",
        'model_version": "a',
        '\n      "model_version": "a"',
        '",\n      "model_version": "a',
        "\n    }",
        "\n    {",
        "    {\n      ",
        "\n  ]\n}\n",
        "a",
        "\r",
        "\u2028",
        "\x85",
    ]
)
trapped = st.recursive(
    traps | json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(traps | texts, inner, max_size=3),
    max_leaves=8,
)
FIELDS = set(METADATA)


@given(
    versions=st.lists(st.sampled_from("abcdefgh") | names, unique=True, min_size=1, max_size=4),
    text=traps | texts,
    config=st.dictionaries(traps | texts, trapped, max_size=3),
    more=st.dictionaries(
        (traps | texts).filter(lambda key: key not in FIELDS), trapped, max_size=3
    ),
    others=st.lists(traps | texts | names, max_size=4),
)
def test_a_sealed_registry_and_one_without_a_seal_say_the_same_of_every_version(
    versions, text, config, more, others
):
    models = [
        {**METADATA, **more, "model_version": name, "base_model": text, "training_config": config}
        for name in versions
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "registry.json")
        register_models(models, path)
        copy = unsealed(path)
        assert list_models(path) == list_models(copy) == models
        for model in models:
            assert get_model(model["model_version"], path) == model
            assert is_registered(model, path) and is_registered(model, copy)
        assert register_models([*models, *models], path) == [False] * 2 * len(models)
        for version in set(others) - set(versions):
            for each in (path, copy):
                with pytest.raises(ModelNotFoundError):
                    get_model(version, each)


@pytest.mark.parametrize("version", ["\ud800", "?", 3, None, b"a", ["a"], 'a",\n      "num'])
def test_what_is_no_version_is_not_found(version, metadata):
    register_models(versions_of(metadata, "a", "3", "None"))
    for path in (REGISTRY, unsealed()):
        with pytest.raises(ModelNotFoundError):
            get_model(version, path)


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


def test_a_model_is_registered_if_the_registry_holds_it(metadata):
    assert not is_registered(metadata)
    register_model(metadata)
    assert is_registered(metadata)
    assert not is_registered({**metadata, "model_version": "model_v2"})


def test_a_model_with_other_content_than_the_registry_holds_is_a_conflict(metadata):
    register_model(metadata)
    with pytest.raises(ModelVersionConflict) as caught:
        is_registered({**metadata, "num_training_samples": 4})
    assert caught.value.details == ["num_training_samples: recorded 3, now 4"]


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
