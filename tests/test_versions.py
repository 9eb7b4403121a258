import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.storage import CorruptFileError, canonical_json
from src.versions import (
    ModelVersionConflict,
    check_metadata,
    check_version,
    differences,
    nearest,
    read_metadata,
)
from tests.strategies import json_objects, names

EXPECTED = (
    "model_version: expected a name of at most 128 letters, digits, '.', '_' and '-' that "
    "starts with a letter or digit and is not 'registry.json', found "
)


# --- Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["model_v1", "a", "0", "1.0", "A.b-c_d", "x..y", "a" * 128, "registry", "registry.jsonl"],
)
def test_a_name_of_one_path_component_may_name_a_version(name):
    assert check_version("model_version", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/abs",
        "a/b",
        "a\\b",
        "a\n",
        "\na",
        "a b",
        " a",
        "-a",
        "_a",
        ".a",
        "a\x00",
        "a:b",
        "é",
        "٣",
        "a" + "́",
        "registry.json",
        "REGISTRY.json",
        "Registry.JSON.lock",
        None,
        3,
        1.0,
        True,
        b"model_v1",
        ["model_v1"],
        Path("model_v1"),
    ],
)
def test_anything_else_may_not(name):
    with pytest.raises(ValueError) as caught:
        check_version("model_version", name)
    assert str(caught.value) == f"{EXPECTED}{name!r}."


def test_a_name_of_129_characters_is_refused():
    with pytest.raises(ValueError) as caught:
        check_version("model_version", "a" * 129)
    assert str(caught.value) == f"{EXPECTED}'{'a' * 129}'."


@given(names | st.text(max_size=8) | st.text("Aa0._-/\n", min_size=126, max_size=130))
def test_a_name_is_accepted_exactly_if_the_rule_says_so(name):
    rule = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
    own = name.lower() in ("registry.json", "registry.json.lock")
    if rule.match(name) and not own:
        assert check_version("model_version", name) == name
    else:
        with pytest.raises(ValueError, match="model_version: expected a name"):
            check_version("model_version", name)


def test_the_nearest_names_are_those_most_like_it():
    known = ["model_v1", "other", "model_v2", "zzz"]
    assert nearest("model_v7", known) == "model_v2, model_v1, other"
    assert nearest("model_v7", []) == "none"


def test_of_many_names_the_nearest_are_among_those_that_begin_alike():
    known = [f"{base}-{n:04}" for base in ("bert", "llama", "mistral") for n in range(1000)]
    assert nearest("llama-0500x", known) == "llama-0500, llama-0600, llama-0590"


# --- Differences ---------------------------------------------------------------------------------


def test_differences_name_each_field_with_both_values():
    recorded = {"a": 1, "b": {"c": "x", "d": {"e": 2}}, "same": [1]}
    new = {"a": 2, "b": {"c": "y", "d": {"e": None}}, "same": [1], "more": "z"}
    assert differences(recorded, new) == [
        "a: recorded 1, now 2",
        "b.c: recorded 'x', now 'y'",
        "b.d.e: recorded 2, now None",
        "more: recorded None, now 'z'",
    ]


@pytest.mark.parametrize(("recorded", "new"), [(1, 1.0), (1, True), ("1", 1), ({}, []), (None, {})])
def test_values_of_different_types_differ(recorded, new):
    assert differences({"a": recorded}, {"a": new}) == [f"a: recorded {recorded!r}, now {new!r}"]


def test_a_field_that_only_the_record_has_is_no_difference():
    assert differences({"a": 1, "b": {"c": 2, "d": 3}, "e": 4}, {"a": 1, "b": {"c": 2}}) == []


@given(json_objects)
def test_nothing_differs_from_itself(value):
    assert differences(value, value) == []


@given(json_objects, json_objects)
def test_without_differences_the_record_holds_all_of_the_new(recorded, new):
    if not differences(recorded, new):
        assert {key: recorded.get(key) for key in new} == new


def test_a_conflict_shows_file_version_and_each_difference():
    conflict = ModelVersionConflict("model_v1", Path("m.json"), ["a: recorded 1, now 2", "b: x"])
    assert isinstance(conflict, ValueError)
    assert (conflict.model_version, conflict.details) == (
        "model_v1",
        ["a: recorded 1, now 2", "b: x"],
    )
    assert str(conflict) == (
        "m.json: model version 'model_v1' is already bound to other content:\n"
        "  a: recorded 1, now 2\n"
        "  b: x\n"
        "Nothing was changed. A version never changes: choose another model_version."
    )


# --- Metadata ------------------------------------------------------------------------------------


def test_the_five_fields_are_metadata_and_name_their_version(metadata):
    assert check_metadata(metadata, "metadata") == "model_v1"


def test_metadata_may_have_fields_of_a_newer_release(metadata):
    assert check_metadata({**metadata, "licence": "MIT"}, "metadata") == "model_v1"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_version", 1, "m.json: model_version: expected text, found 1."),
        ("base_model", None, "m.json: base_model: expected text, found None."),
        ("dataset_version", [], "m.json: dataset_version: expected text, found []."),
        ("training_config", "x", "m.json: training_config: expected an object, found 'x'."),
        (
            "num_training_samples",
            True,
            "m.json: num_training_samples: expected a whole number, found True.",
        ),
        (
            "num_training_samples",
            3.0,
            "m.json: num_training_samples: expected a whole number, found 3.0.",
        ),
        ("model_version", "../x", f"m.json: {EXPECTED}'../x'."),
        (
            "dataset_version",
            "a/b",
            f"m.json: {EXPECTED}'a/b'.".replace("model_version", "dataset_version"),
        ),
    ],
)
def test_a_field_of_another_type_is_named(field, value, message, metadata):
    with pytest.raises(ValueError) as caught:
        check_metadata({**metadata, field: value}, "m.json")
    assert str(caught.value) == message


def test_each_of_the_five_fields_must_be_there(metadata):
    for field in metadata:
        rest = {key: value for key, value in metadata.items() if key != field}
        with pytest.raises(ValueError, match=rf"^m\.json: {field}: expected .*, found nothing\.$"):
            check_metadata(rest, "m.json")


def test_metadata_is_read_from_the_folder_of_its_version(metadata, tmp_path):
    (tmp_path / "model_v1").mkdir()
    (tmp_path / "model_v1/metadata.json").write_bytes(canonical_json(metadata))
    assert read_metadata("model_v1", tmp_path) == metadata


def test_reading_a_version_that_is_not_there_says_what_to_do():
    with pytest.raises(FileNotFoundError) as caught:
        read_metadata("model_v1", Path("models"))
    assert str(caught.value) == (
        "models/model_v1/metadata.json: no such file, so there is no model version 'model_v1' "
        "here. Train it first."
    )


def test_reading_a_version_checks_its_name_first(tmp_path):
    (tmp_path / "metadata.json").write_bytes(b"{}")
    with pytest.raises(ValueError) as caught:
        read_metadata(".", tmp_path)
    assert str(caught.value) == f"{EXPECTED}'.'."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1, column 1: the file is empty. Left as found."),
        (b"{}", "model_version: expected text, found nothing. Left as found."),
    ],
)
def test_metadata_that_is_damaged_is_a_corrupt_file(data, message, tmp_path):
    path = tmp_path / "model_v1/metadata.json"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        read_metadata("model_v1", tmp_path)
    assert str(caught.value) == f"{path}: {message}"


def test_metadata_in_the_folder_of_another_version_is_a_corrupt_file(metadata, tmp_path):
    path = tmp_path / "model_v2/metadata.json"
    path.parent.mkdir()
    path.write_bytes(canonical_json(metadata))
    with pytest.raises(CorruptFileError) as caught:
        read_metadata("model_v2", tmp_path)
    assert str(caught.value) == (
        f"{path}: model_version: expected 'model_v2', found 'model_v1'. Left as found."
    )
