import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import CorruptFileError
from src.records import registry_file
from src.records.canonical import canonical_json, sha256
from src.records.metadata import ModelVersionConflict
from src.storage import StorePath, open_file
from src.storage.memo import read_memo
from src.training.registry import (
    ModelNotFoundError,
    RegistryLostError,
    check_registry,
    get_model,
    is_registered,
    list_models,
    register_model,
    register_models,
)
from tests.examples import METADATA
from tests.stores import MemoryStore
from tests.strategies import json_values, names, texts

REGISTRY = Path("artifacts/models/registry.json")


@pytest.fixture
def registry(artifacts):
    """The registry of an artifacts root, on each back end in turn; not written yet."""
    return artifacts.registry


def contents(path):
    return path.read(1 << 20)


def write(path, value):
    path.replace(value if isinstance(value, bytes) else canonical_json(value))


def versions_of(metadata, *versions):
    return [{**metadata, "model_version": version} for version in versions]


# --- Registering ---------------------------------------------------------------------------------


def test_the_first_registration_writes_the_specified_form(registry, metadata):
    assert register_model(metadata, registry) is True
    assert (
        contents(registry)
        == b"""\
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


def test_a_registration_writes_only_the_registry(artifacts, files, metadata):
    before = files(artifacts)
    register_model(metadata, artifacts.registry)
    assert files(artifacts) == {**before, "models/registry.json": contents(artifacts.registry)}


def test_a_registration_leaves_a_lock_file_next_to_the_registry(project, metadata, tree):
    register_model(metadata)
    assert list(tree(project / "artifacts/models")) == ["registry.json", "registry.json.lock"]


def test_the_default_registry_is_below_the_working_directory(project, metadata):
    register_model(metadata)
    assert REGISTRY.read_bytes() == canonical_json({"models": [metadata]})
    assert list_models() == [get_model("model_v1")] == [metadata]
    assert is_registered(metadata)
    assert register_models(versions_of(metadata, "model_v1", "a")) == [False, True]
    assert list_models(REGISTRY) == versions_of(metadata, "model_v1", "a")


def test_models_are_listed_in_the_order_of_registration(registry, metadata):
    versions = ["model_v2", "model_v10", "model_v1"]
    for version in versions:
        register_model({**metadata, "model_version": version}, registry)
    assert [model["model_version"] for model in list_models(registry)] == versions


def test_a_second_registration_of_the_same_model_adds_nothing(registry, metadata):
    register_model(metadata, registry)
    before = contents(registry), registry.stat()
    assert register_model(metadata, registry) is False
    assert (contents(registry), registry.stat()) == before


def test_a_second_registration_of_the_same_model_does_not_write_the_file(project, metadata):
    register_model(metadata)
    before = REGISTRY.read_bytes(), REGISTRY.stat().st_mtime_ns, REGISTRY.stat().st_ino
    assert register_model(metadata) is False
    assert (REGISTRY.read_bytes(), REGISTRY.stat().st_mtime_ns, REGISTRY.stat().st_ino) == before


def test_other_content_is_a_conflict_and_changes_nothing(registry, metadata):
    register_model(metadata, registry)
    before = contents(registry)
    config = {**metadata["training_config"], "learning_rate": 1e-5, "epochs": 4}
    with pytest.raises(ModelVersionConflict) as caught:
        register_model({**metadata, "num_training_samples": 4, "training_config": config}, registry)
    assert str(caught.value) == (
        "artifacts/models/registry.json: model version 'model_v1' already exists with other "
        "content:\n"
        "  num_training_samples: recorded 3, now 4\n"
        "  training_config.epochs: recorded 3, now 4\n"
        "  training_config.learning_rate: recorded 2e-05, now 1e-05\n"
        "Nothing was changed. A version never changes: choose another model_version, or restore "
        "the entry if it was edited."
    )
    assert contents(registry) == before


def test_unknown_fields_are_kept(registry, metadata):
    old = {**metadata, "model_version": "model_v0", "stage": "production"}
    old["training_config"] = {**old["training_config"], "warmup": 0.1}
    write(registry, {"schema": 2, "models": [old], "owner": {"team": "x"}})
    register_model(metadata, registry)
    assert json.loads(contents(registry)) == {
        "schema": 2,
        "models": [old, metadata],
        "owner": {"team": "x"},
    }


def test_an_entry_with_unknown_fields_is_the_same_model(registry, metadata):
    write(registry, {"models": [{**metadata, "stage": "production"}]})
    before = contents(registry)
    assert register_model(metadata, registry) is False
    assert contents(registry) == before


@given(versions=st.lists(names, unique=True, min_size=1, max_size=5), text=texts)
def test_the_registry_is_canonical_after_any_number_of_registrations(versions, text):
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


def test_a_tuple_equals_the_list_that_the_registry_has_in_its_place(registry, metadata):
    config = {**metadata["training_config"], "layers": (1, 2)}
    assert register_model({**metadata, "training_config": config}, registry) is True
    assert register_model({**metadata, "training_config": config}, registry) is False


def test_the_registry_may_be_any_file(project, metadata, tmp_path):
    path = tmp_path / "else/where/list.json"
    register_model(metadata, path)
    assert list_models(path) == list_models(str(path)) == [metadata]
    assert not REGISTRY.exists()


def test_a_registration_does_not_change_the_metadata_of_the_caller(registry, metadata):
    given = json.loads(json.dumps(metadata))
    register_model(given, registry)
    assert given == metadata


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model": None}, "metadata: base_model: expected text, found None."),
        (
            {"num_training_samples": True},
            "metadata: num_training_samples: expected an integer, found True.",
        ),
        (
            {"model_version": "../x"},
            "metadata: model_version: expected a name of at most 128 letters, digits, '.', '_' "
            "and '-' that starts with a letter or digit and is not "
            "'registry.json', found '../x'.",
        ),
    ],
)
def test_invalid_metadata_is_refused_before_any_file_is_written(
    change, message, artifacts, files, metadata
):
    before = files(artifacts)
    with pytest.raises(ValueError) as caught:
        register_model({**metadata, **change}, artifacts.registry)
    assert str(caught.value) == message
    assert files(artifacts) == before
    assert not REGISTRY.parent.exists()


def test_metadata_that_is_not_json_leaves_the_registry_unchanged(registry, metadata):
    register_model(metadata, registry)
    before = contents(registry)
    config = {**metadata["training_config"], "learning_rate": float("nan")}
    with pytest.raises(ValueError):
        register_model(
            {**metadata, "model_version": "model_v2", "training_config": config}, registry
        )
    assert contents(registry) == before


def test_a_registry_that_is_a_link_out_of_its_folder_is_refused(project, metadata, tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_bytes(b'{"models": []}')
    REGISTRY.parent.mkdir(parents=True)
    REGISTRY.symlink_to(outside)
    with pytest.raises(CorruptFileError, match=r"artifacts/models/registry.json: .* found a link"):
        register_model(metadata)
    assert outside.read_bytes() == b'{"models": []}'


# --- Batches -------------------------------------------------------------------------------------


def test_a_batch_keeps_its_order_and_returns_whether_each_entry_was_added(registry, metadata):
    register_model({**metadata, "model_version": "b"}, registry)
    batch = versions_of(metadata, "c", "b", "a", "c")
    assert register_models(batch, registry) == [True, False, True, False]
    assert list_models(registry) == versions_of(metadata, "b", "c", "a")


def test_a_batch_may_be_an_iterator(registry, metadata):
    assert register_models(iter(versions_of(metadata, "a", "b")), registry) == [True, True]


def test_a_batch_of_registered_models_does_not_write(registry, metadata):
    register_models(versions_of(metadata, "a", "b"), registry)
    before = contents(registry), registry.stat()
    assert register_models(versions_of(metadata, "b", "a"), registry) == [False, False]
    assert (contents(registry), registry.stat()) == before


def test_a_batch_of_registered_models_does_not_write_the_file(project, metadata):
    register_models(versions_of(metadata, "a", "b"))
    before = REGISTRY.stat().st_ino, REGISTRY.stat().st_mtime_ns
    assert register_models(versions_of(metadata, "b", "a")) == [False, False]
    assert (REGISTRY.stat().st_ino, REGISTRY.stat().st_mtime_ns) == before


def test_an_empty_batch_adds_nothing(registry):
    assert register_models([], registry) == []
    assert contents(registry) is None


def test_one_conflict_in_a_batch_leaves_the_registry_unchanged(registry, metadata):
    register_model(metadata, registry)
    before = contents(registry)
    batch = [*versions_of(metadata, "a"), {**metadata, "num_training_samples": 4}]
    with pytest.raises(ModelVersionConflict) as caught:
        register_models(batch, registry)
    assert caught.value.model_version == "model_v1"
    assert caught.value.details == ["num_training_samples: recorded 3, now 4"]
    assert contents(registry) == before


def test_two_contents_of_one_version_in_a_batch_are_a_conflict(registry, metadata):
    with pytest.raises(ModelVersionConflict) as caught:
        register_models([metadata, {**metadata, "num_training_samples": 4}], registry)
    assert caught.value.details == ["num_training_samples: recorded 3, now 4"]
    assert contents(registry) is None


def test_the_error_for_invalid_metadata_in_a_batch_has_its_index(artifacts, files, metadata):
    before = files(artifacts)
    with pytest.raises(ValueError) as caught:
        register_models([metadata, {**metadata, "base_model": None}], artifacts.registry)
    assert str(caught.value) == "metadata[1]: base_model: expected text, found None."
    assert files(artifacts) == before
    assert not REGISTRY.parent.exists()


@given(
    batches=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=5), max_size=5),
    text=texts,
    value=json_values,
)
def test_batches_write_the_same_bytes_as_single_registrations(batches, text, value):
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


# --- The memo ------------------------------------------------------------------------------------


class Wrapped:
    """A store that passes every call on to another store."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)


class WithoutMemos(Wrapped):
    """The store of a user without a cache folder."""

    def memo(self, key):
        return None


class ThatCannotWrite(Wrapped):
    """A store whose writes fail after their decision."""

    def update(self, key, decide):
        decide(self.store.read(key, 1 << 20))
        raise OSError(28, "No space left on device", key)


def without_memos(path):
    return StorePath(WithoutMemos(path.store), path.key)


def memo_of(path):
    return (read_memo(path.memo()) or b"").decode()


def test_the_memo_is_the_digest_of_the_registry_after_each_registration(registry, metadata):
    for version in ("a", "b"):
        register_model({**metadata, "model_version": version}, registry)
        assert memo_of(registry) == sha256(contents(registry))


def test_checked_bytes_are_not_checked_again_by_readers(registry, metadata, monkeypatch):
    register_models(versions_of(metadata, "a", "model_v1"), registry)
    monkeypatch.delattr(registry_file, "_parse")
    assert is_registered(metadata, registry)
    assert get_model("a", registry) == {**metadata, "model_version": "a"}
    assert list_models(registry) == versions_of(metadata, "a", "model_v1")


def test_checked_bytes_are_not_checked_again_by_writers(project, metadata, monkeypatch):
    register_model(metadata)
    monkeypatch.delattr(registry_file, "_parse")
    assert register_models(versions_of(metadata, "a", "model_v1")) == [True, False]
    assert register_model({**metadata, "model_version": "b"})
    assert not register_model(metadata)
    assert list_models() == versions_of(metadata, "model_v1", "a", "b")


@pytest.mark.parametrize(
    "work",
    [
        list_models,
        lambda path: get_model("a", path),
        lambda path: is_registered({**METADATA, "model_version": "a"}, path),
        lambda path: register_models(versions_of(METADATA, "b", "a"), path),
    ],
    ids=["list_models", "get_model", "is_registered", "register_models"],
)
def test_a_deleted_memo_is_written_again_when_the_registry_is_checked(work, registry, metadata):
    register_models(versions_of(metadata, "a", "b"), registry)
    registry.memo().unlink()
    assert work(registry)
    assert memo_of(registry) == sha256(contents(registry))


def results(path):
    """Yield the result or the error of each function that reads or writes a registry."""
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
def test_bytes_changed_under_the_memo_give_the_results_of_a_registry_without_one(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "one/registry.json")
        register_models(versions_of(METADATA, "a", "c"), path)
        assert memo_of(open_file(path)) == sha256(path.read_bytes())
        with path.open("r+b") as file:
            file.seek(data.draw(st.integers(0, path.stat().st_size - 1)))
            file.write(data.draw(st.binary(min_size=1, max_size=3)))
            if data.draw(st.booleans()):
                file.truncate()
        other = Path(folder, "two/registry.json")
        other.parent.mkdir()
        other.write_bytes(path.read_bytes())
        assert memo_of(open_file(other)) == ""
        found = [str(list(results(each))).replace(str(each), "") for each in (path, other)]
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b'"b"', b'"a"', "models[1]: duplicate entry of 'a'. Left as found."),
        (b'"b"', b'"/"', "models[1]: model_version: expected a name of at most 128 letters, "),
        (b"\n}\n", b"\n \n", "line 31, column 1: not valid JSON (Expecting ',' delimiter)."),
    ],
)
def test_an_invalid_registry_is_refused_although_its_old_bytes_have_a_memo(
    old, new, fault, registry, metadata
):
    register_models(versions_of(metadata, "a", "b"), registry)
    valid, memo = contents(registry), memo_of(registry)
    invalid = valid.replace(old, new)
    assert invalid != valid
    registry.replace(invalid)
    for work in (
        list_models,
        lambda path: get_model("a", path),
        lambda path: is_registered({**metadata, "model_version": "a"}, path),
        lambda path: register_model(metadata, path),
    ):
        with pytest.raises(CorruptFileError) as caught:
            work(registry)
        assert str(caught.value).startswith(f"artifacts/models/registry.json: {fault}")
    assert contents(registry) == invalid
    assert memo_of(registry) == memo == sha256(valid)


def test_another_user_gets_the_same_results(registry, metadata, monkeypatch, tmp_path):
    register_models(versions_of(metadata, "a", "b"), registry)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        assert memo_of(registry) == ""
        assert list_models(registry) == versions_of(metadata, "a", "b")
        assert get_model("b", registry) == {**metadata, "model_version": "b"}
        assert register_models(versions_of(metadata, "b", "model_v1"), registry) == [False, True]
        assert memo_of(registry) == sha256(contents(registry))
    # The first user still has the memo of the bytes before.
    assert memo_of(registry) not in ("", sha256(contents(registry)))
    assert list_models(registry) == versions_of(metadata, "a", "b", "model_v1")
    assert register_models(versions_of(metadata, "model_v1", "c"), registry) == [False, True]
    assert contents(registry) == canonical_json(
        {"models": versions_of(metadata, "a", "b", "model_v1", "c")}
    )


def test_a_copy_of_a_registry_has_another_memo_and_the_same_models(artifacts, metadata):
    register_models(versions_of(metadata, "a", "b"), artifacts.registry)
    copy = artifacts.root / "copy.json"
    copy.replace(contents(artifacts.registry))
    assert memo_of(copy) == ""
    assert list_models(copy) == versions_of(metadata, "a", "b")
    assert get_model("b", copy) == {**metadata, "model_version": "b"}
    assert register_model(metadata, copy)
    assert contents(copy) == canonical_json({"models": versions_of(metadata, "a", "b", "model_v1")})
    assert memo_of(copy) == sha256(contents(copy))
    assert memo_of(artifacts.registry) == sha256(contents(artifacts.registry))


EDITED = {
    "minified": lambda models: json.dumps({"models": models}).encode(),
    "keys reordered": lambda models: json.dumps({"models": models}, indent=2).encode() + b"\n",
    "a line end more": lambda models: canonical_json({"models": models}) + b"\n",
}


@pytest.mark.parametrize("edited", EDITED.values(), ids=EDITED)
@pytest.mark.parametrize("has_memo", [True, False])
def test_a_registry_in_another_form_can_be_read_and_stops_every_registration(
    has_memo, edited, registry, metadata
):
    models = versions_of(metadata, "a", "b")
    if has_memo:
        register_models(models, registry)
    data = edited(models)
    write(registry, data)
    assert list_models(registry) == models
    assert get_model("b", registry) == models[1]
    for work in (
        lambda: register_model(metadata, registry),
        lambda: register_model(models[0], registry),
        lambda: register_models([], registry),
        lambda: register_models([metadata, models[0]], registry),
        lambda: is_registered(models[0], registry),
    ):
        with pytest.raises(CorruptFileError) as caught:
            work()
        assert str(caught.value).startswith(
            "artifacts/models/registry.json: not in canonical form: edited after it was written. "
            "Left as found. Restore the file; or, if its entries are right, "
        )
    assert contents(registry) == data
    assert memo_of(registry) == (sha256(canonical_json({"models": models})) if has_memo else "")


def test_a_registry_with_further_keys_keeps_them_and_has_no_memo(registry, metadata):
    write(registry, {"models": versions_of(metadata, "a"), "schema": [{"a": 1}]})
    register_model(metadata, registry)
    assert list_models(registry) == versions_of(metadata, "a", "model_v1")
    assert memo_of(registry) == ""
    assert json.loads(contents(registry)) == {
        "models": versions_of(metadata, "a", "model_v1"),
        "schema": [{"a": 1}],
    }


def cache_home_is_a_file(home, registry):
    home.write_bytes(b"")


def cache_folder_is_a_file(home, registry):
    home.mkdir()
    registry.memo().parent.write_bytes(b"")


def memo_is_a_folder(home, registry):
    registry.memo().mkdir(parents=True)


def memo_is_damaged(home, registry):
    registry.memo().parent.mkdir(parents=True)
    registry.memo().write_bytes(b"\xff" * 100)


@pytest.mark.parametrize(
    "damage", [cache_home_is_a_file, cache_folder_is_a_file, memo_is_a_folder, memo_is_damaged]
)
def test_an_unusable_memo_changes_no_result(damage, registry, metadata, monkeypatch, tmp_path):
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    damage(home, registry)
    assert memo_of(registry) == ""
    check_results_of_registrations(registry, metadata)
    is_replaced = damage is memo_is_damaged
    assert memo_of(registry) == (sha256(contents(registry)) if is_replaced else "")


def test_a_user_without_a_cache_folder_gets_the_same_results(registry, metadata):
    check_results_of_registrations(without_memos(registry), metadata)


def check_results_of_registrations(registry, metadata):
    for version in ("a", "b", "c"):
        assert register_model({**metadata, "model_version": version}, registry)
        assert not register_model({**metadata, "model_version": version}, registry)
    assert register_models(versions_of(metadata, "d", "a"), registry) == [True, False]
    assert get_model("b", registry) == {**metadata, "model_version": "b"}
    models = versions_of(metadata, "a", "b", "c", "d")
    assert list_models(registry) == models
    assert contents(registry) == canonical_json({"models": models})
    with pytest.raises(ModelVersionConflict):
        is_registered({**models[0], "num_training_samples": 4}, registry)


def test_no_memo_is_written_below_the_root_of_the_registry(project, metadata, monkeypatch, tree):
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "artifacts/models/cache"))
    register_model(metadata)
    assert list_models() == [metadata]
    assert list(tree(project / "artifacts/models")) == ["registry.json", "registry.json.lock"]


def test_an_entry_in_another_form_stops_a_user_without_a_cache_folder(registry, metadata):
    entry = json.dumps({**metadata, "model_version": "a"}).encode()
    end = canonical_json(metadata)[:-3] + b"\n    }\n  ]\n}\n"
    write(registry, b'{"models": [\n' + entry + b",\n" + end)
    with pytest.raises(CorruptFileError, match="not in canonical form"):
        register_model({**metadata, "model_version": "b"}, without_memos(registry))
    assert list_models(registry) == versions_of(metadata, "a", "model_v1")


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
def test_a_registry_with_a_memo_and_one_without_give_the_same_entry_of_every_version(
    versions, text, config, more, others
):
    models = [
        {**METADATA, **more, "model_version": name, "base_model": text, "training_config": config}
        for name in versions
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = open_file(Path(folder, "registry.json"))
        register_models(models, path)
        assert memo_of(path) == sha256(contents(path))
        both = (path, without_memos(path))
        for each in both:
            assert list_models(each) == models
            for model in models:
                assert get_model(model["model_version"], each) == model
                assert is_registered(model, each)
            assert register_models([*models, *models], each) == [False] * 2 * len(models)
        for version in set(others) - set(versions):
            for each in both:
                with pytest.raises(ModelNotFoundError):
                    get_model(version, each)


@pytest.mark.parametrize("version", ["\ud800", "?", 3, None, b"a", ["a"], 'a",\n      "num'])
def test_an_invalid_version_is_not_found(version, registry, metadata):
    register_models(versions_of(metadata, "a", "3", "None"), registry)
    for path in (registry, without_memos(registry)):
        with pytest.raises(ModelNotFoundError):
            get_model(version, path)


# --- Decisions that are taken more than once -----------------------------------------------------


class Overtaken(MemoryStore):
    """A store whose updates are decided on other bytes first, as after a lost race.

    `decisions` are those on these other bytes: the result, and the new bytes.
    """

    def __init__(self, *first):
        super().__init__()
        self.first = first
        self.decisions = []

    def update(self, key, decide):
        for data in self.first:
            decision = decide(data)
            self.decisions.append(
                (decision.result, None if decision.data is None else b"".join(decision.data))
            )
        return super().update(key, decide)


def bytes_of(*versions, **more):
    return canonical_json({"models": versions_of(METADATA, *versions), **more})


STATES = {
    "no registry": (None, True, bytes_of("model_v1")),
    "empty": (bytes_of(), True, bytes_of("model_v1")),
    "another model": (bytes_of("a"), True, bytes_of("a", "model_v1")),
    "the same model": (bytes_of("a", "model_v1"), False, None),
    "further keys": (bytes_of("a", schema=2), True, bytes_of("a", "model_v1", schema=2)),
}
states = pytest.mark.parametrize(("data", "is_added", "written"), STATES.values(), ids=STATES)


@states
@pytest.mark.parametrize("first", [state[0] for state in STATES.values()], ids=STATES)
def test_a_registration_returns_and_writes_its_last_decision(
    first, data, is_added, written, metadata
):
    registry = StorePath(Overtaken(first), "models/registry.json")
    if data is not None:
        registry.replace(data)
    assert register_model(metadata, registry) is is_added
    assert contents(registry) == (written or data)
    assert get_model("model_v1", registry) == metadata
    assert list_models(registry) == json.loads(contents(registry))["models"]


@states
def test_a_decision_depends_only_on_the_bytes(data, is_added, written, metadata):
    other = bytes_of("b", "c")
    store = Overtaken(data, data, other, data, None, data)
    register_model(metadata, StorePath(store, "models/registry.json"))
    same = [store.decisions[index] for index in (0, 1, 3, 5)]
    assert same == [([is_added], written)] * 4
    assert store.decisions[2] == ([True], bytes_of("b", "c", "model_v1"))
    assert store.decisions[4] == ([True], bytes_of("model_v1"))


def test_a_conflict_on_bytes_that_were_overtaken_is_not_hidden(metadata):
    other = canonical_json({"models": [{**metadata, "num_training_samples": 4}]})
    registry = StorePath(Overtaken(other), "models/registry.json")
    with pytest.raises(ModelVersionConflict) as caught:
        register_model(metadata, registry)
    assert caught.value.details == ["num_training_samples: recorded 4, now 3"]
    assert contents(registry) is None


def test_an_update_that_loses_races_registers_each_model_once(metadata):
    registry = StorePath(MemoryStore(fault="lost races"), "models/registry.json")
    batches = [versions_of(metadata, *batch) for batch in ("ab", "bc", "cde")]
    added = [register_models(batch, registry) for batch in batches]
    assert added == [[True, True], [False, True], [False, True, True]]
    assert contents(registry) == bytes_of(*"abcde")
    assert memo_of(registry) == sha256(contents(registry))


def test_the_memo_of_bytes_that_were_not_written_changes_no_result(registry, metadata):
    register_models(versions_of(metadata, "a"), registry)
    with pytest.raises(OSError, match="No space left on device"):
        register_model(metadata, StorePath(ThatCannotWrite(registry.store), registry.key))
    assert contents(registry) == bytes_of("a")
    assert memo_of(registry) == sha256(bytes_of("a", "model_v1"))
    assert not is_registered(metadata, registry)
    assert list_models(registry) == versions_of(metadata, "a")
    assert register_model(metadata, registry)
    assert contents(registry) == bytes_of("a", "model_v1")


# --- Registries that cannot be parsed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"", "line 1, column 1: the file is empty."),
        (b'{"models": [', "line 1, column 13: not valid JSON (Expecting value)."),
        (b"[]", "expected a JSON object, found a list."),
        (b"{}", "models: expected a list, found nothing."),
        (b'{"models": null}', "models: expected a list, found None."),
        (b'{"models": {}}', "models: expected a list, found {}."),
        (b'{"models": [], "models": []}', "duplicate key 'models'."),
        (b'{"models": [1]}', "models[0]: expected an object, found 1."),
        (b'{"models": [{}]}', "models[0]: model_version: expected text, found nothing."),
    ],
)
def test_a_damaged_registry_is_an_error_of_every_function_and_left_as_found(
    value, fault, registry, metadata
):
    write(registry, value)
    for work in (
        lambda: register_model(metadata, registry),
        lambda: list_models(registry),
        lambda: get_model("model_v1", registry),
        lambda: is_registered(metadata, registry),
    ):
        with pytest.raises(CorruptFileError) as caught:
            work()
        assert str(caught.value) == f"artifacts/models/registry.json: {fault} Left as found."
    assert contents(registry) == value


def test_a_registry_with_two_entries_of_one_version_is_damaged(registry, metadata):
    write(registry, {"models": [metadata, {**metadata, "model_version": "model_v2"}, metadata]})
    with pytest.raises(CorruptFileError) as caught:
        list_models(registry)
    assert str(caught.value) == (
        "artifacts/models/registry.json: models[2]: duplicate entry of 'model_v1'. Left as found."
    )


def test_the_error_for_an_entry_with_an_invalid_field_has_its_index(registry, metadata):
    write(registry, {"models": [metadata, {**metadata, "dataset_version": 1}]})
    with pytest.raises(CorruptFileError) as caught:
        list_models(registry)
    assert str(caught.value) == (
        "artifacts/models/registry.json: models[1]: dataset_version: expected text, found 1. "
        "Left as found."
    )


# --- Look-ups ------------------------------------------------------------------------------------


def test_without_a_registry_the_list_is_empty_and_nothing_is_written(artifacts, files):
    before = files(artifacts)
    assert list_models(artifacts.registry) == []
    assert files(artifacts) == before
    assert not REGISTRY.parent.exists()


def test_a_model_is_found_by_its_version(registry, metadata):
    register_model({**metadata, "model_version": "model_v0"}, registry)
    register_model(metadata, registry)
    assert get_model("model_v1", registry) == metadata


def test_the_error_for_a_missing_model_has_the_nearest_versions(registry, metadata):
    for version in ("model_v1", "other", "model_v2", "zzz"):
        register_model({**metadata, "model_version": version}, registry)
    with pytest.raises(KeyError) as caught:
        get_model("model_v7", registry)
    assert isinstance(caught.value, ModelNotFoundError)
    assert str(caught.value) == (
        "artifacts/models/registry.json: no model 'model_v7'. Nearest: model_v2, model_v1."
    )


def test_the_error_without_any_model_says_none(artifacts):
    with pytest.raises(KeyError) as caught:
        get_model("model_v1", artifacts.root / "r.json")
    assert str(caught.value) == "artifacts/r.json: no model 'model_v1'. Nearest: none."


def test_the_error_for_a_registry_in_the_working_directory_names_the_file(project):
    with pytest.raises(KeyError) as caught:
        get_model("model_v1", "r.json")
    assert str(caught.value) == "r.json: no model 'model_v1'. Nearest: none."


def test_a_model_is_registered_if_the_registry_has_its_entry(registry, metadata):
    assert not is_registered(metadata, registry)
    register_model(metadata, registry)
    assert is_registered(metadata, registry)
    assert not is_registered({**metadata, "model_version": "model_v2"}, registry)


def test_a_model_with_other_content_than_its_entry_is_a_conflict(registry, metadata):
    register_model(metadata, registry)
    with pytest.raises(ModelVersionConflict) as caught:
        is_registered({**metadata, "num_training_samples": 4}, registry)
    assert caught.value.details == ["num_training_samples: recorded 3, now 4"]


# --- Concurrent processes ------------------------------------------------------------------------


REGISTER = """
import json
from src.training.registry import register_model
---
models = json.loads(sys.argv[1])
print(sum(register_model(model) for model in models))
"""


def test_concurrent_registrations_of_many_models_leave_an_entry_each(
    project, metadata, concurrently
):
    batches = [
        [{**metadata, "model_version": f"{process}-{n}"} for n in range(10)]
        for process in ("a", "b", "c")
    ]
    assert concurrently(REGISTER, *[(json.dumps(batch),) for batch in batches]) == ["10"] * 3
    listed = [model["model_version"] for model in list_models()]
    assert sorted(listed) == [f"{process}-{n}" for process in "abc" for n in range(10)]
    for process in "abc":  # and the models of each process are in its order
        own = [version for version in listed if version.startswith(process)]
        assert own == [f"{process}-{n}" for n in range(10)]


def test_concurrent_registrations_of_one_model_leave_one_entry(project, metadata, concurrently):
    models = [{**metadata, "model_version": f"model_v{n}"} for n in range(10)]
    added = concurrently(REGISTER, *[(json.dumps(models),)] * 3)
    assert sum(map(int, added)) == 10
    assert list_models() == models
    assert sorted(path.name for path in REGISTRY.parent.iterdir()) == [
        "registry.json",
        "registry.json.lock",
    ]


def test_a_registration_killed_at_any_step_leaves_old_or_new_bytes_and_can_be_repeated(
    metadata, crashes, tmp_path
):
    before = tmp_path / "before"
    old = canonical_json({"models": [{**metadata, "model_version": "model_v0"}]})
    new = canonical_json({"models": [{**metadata, "model_version": "model_v0"}, metadata]})
    open_file(before / REGISTRY).create(old)
    steps = crashes(
        "from src.training.registry import register_model\n"
        f"def work(): register_model({metadata!r})",
        before,
    )
    found = []
    for step in steps:
        found.append((step / REGISTRY).read_bytes())
        register_model(metadata, step / REGISTRY)
        assert (step / REGISTRY).read_bytes() == new
        assert sorted(path.name for path in (step / REGISTRY).parent.iterdir()) == [
            "registry.json",
            "registry.json.lock",
        ]
    assert set(found) == {old, new}
    assert found == sorted(found, key=[old, new].index)  # once written, the new bytes stay


def test_a_registry_that_would_be_too_large_to_read_is_not_written(
    artifacts, metadata, monkeypatch
):
    register_model(metadata, artifacts.registry)
    before = artifacts.registry.read(1 << 20)
    monkeypatch.setattr("src.records.registry_file.REGISTRY_LIMIT", len(before) + 10)
    with pytest.raises(ValueError) as caught:
        register_model({**metadata, "model_version": "model_v2"}, artifacts.registry)
    assert str(caught.value) == (
        f"artifacts/models/registry.json: full: {2 * len(before) - 21:,} bytes with the new "
        f"entries, and at most {len(before) + 10:,} can be read. Nothing was written; use another "
        "artifacts root."
    )
    assert artifacts.registry.read(1 << 20) == before


# --- A registry that is lost ---------------------------------------------------------------------


def test_a_new_registry_is_not_a_lost_one(artifacts):
    check_registry(artifacts)


def test_a_model_that_is_not_evaluated_yet_may_have_no_registry(artifacts, metadata):
    (artifacts.models / "model_v1/metadata.json").replace(canonical_json(metadata))
    (artifacts.evaluations / "model_v1/notes.txt").replace(b"not an evaluation")
    (artifacts.evaluations / ".hidden/evaluation.json").replace(b"not a version")
    check_registry(artifacts)


@pytest.mark.parametrize(
    "data", [b'{"models": []}', canonical_json({"models": [], "n": "x" * 200})]
)
def test_a_registry_without_entries_is_lost_with_any_other_fields(artifacts, data):
    (artifacts.evaluations / "model_v1/evaluation.json").replace(b"{}")
    artifacts.registry.replace(data)
    with pytest.raises(RegistryLostError):
        check_registry(artifacts)


def test_of_a_registry_with_an_entry_only_the_start_is_read(artifacts, metadata, monkeypatch):
    register_model(metadata, artifacts.registry)
    for method in ("read", "folders"):
        monkeypatch.delattr(type(artifacts.root.store), method)
    check_registry(artifacts)


def test_a_registry_in_another_form_with_entries_is_not_lost(artifacts, metadata):
    (artifacts.evaluations / "model_v1/evaluation.json").replace(b"{}")
    artifacts.registry.replace(json.dumps({"models": [metadata]}).encode())
    check_registry(artifacts)


def test_a_damaged_small_registry_is_named_with_its_fault(artifacts):
    (artifacts.evaluations / "model_v1/evaluation.json").replace(b"{}")
    artifacts.registry.replace(b'{\n  "models": [\n')
    with pytest.raises(CorruptFileError, match=r"registry\.json: line 3, column 1: not valid JSON"):
        check_registry(artifacts)


def test_a_first_run_that_another_first_run_overtakes_is_not_stopped(
    artifacts, metadata, monkeypatch
):
    folders = type(artifacts.root.store).folders

    def finishing(
        store, prefix, **options
    ):  # another run registers and evaluates its model just now
        register_model(metadata, artifacts.registry)
        (artifacts.evaluations / "model_v1/evaluation.json").replace(b"{}")
        return folders(store, prefix, **options)

    monkeypatch.setattr(type(artifacts.root.store), "folders", finishing)
    check_registry(artifacts)
