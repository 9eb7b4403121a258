import pytest
from hypothesis import given

from src.errors import CorruptFileError
from src.records.canonical import canonical_json
from src.records.metadata import (
    Difference,
    ModelVersionConflict,
    all_conflict_details,
    check_metadata,
    conflict_details,
    differences,
    parse_metadata,
)
from tests.strategies import json_objects

EXPECTED_NAME = (
    "expected a name of at most 128 letters, digits, '.', '_' and '-' that starts with a letter "
    "or digit and is not 'registry.json', found "
)


# --- Differences ---------------------------------------------------------------------------------


def test_differences_name_each_field_with_both_values():
    recorded = {"a": 1, "b": {"c": "x", "d": {"e": 2}}, "same": [1]}
    new = {"a": 2, "b": {"c": "y", "d": {"e": None}}, "same": [1], "more": "z"}
    assert list(differences(recorded, new)) == [
        Difference("a", 1, 2),
        Difference("b.c", "x", "y"),
        Difference("b.d.e", 2, None),
        Difference("more", None, "z"),
    ]
    assert conflict_details(recorded, new) == [
        "a: recorded 1, now 2",
        "b.c: recorded 'x', now 'y'",
        "b.d.e: recorded 2, now None",
        "more: recorded None, now 'z'",
    ]


@pytest.mark.parametrize(
    ("recorded", "new"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        ({}, []),
        (None, {}),
        ([1, 2], [True, 2.0]),
        ([{"a": 0}], [{"a": False}]),
        (0.0, -0.0),
    ],
)
def test_values_of_different_types_differ(recorded, new):
    assert conflict_details({"a": recorded}, {"a": new}) == [
        f"a: recorded {recorded!r}, now {new!r}"
    ]


def test_a_field_of_the_first_object_only_is_no_difference():
    recorded = {"a": 1, "b": {"c": 2, "d": 3}, "e": 4}
    assert list(differences(recorded, {"a": 1, "b": {"c": 2}})) == []


def test_a_null_is_not_an_absent_field():
    line = "a.b: null in one of the two, absent in the other"
    for one, other in (({"a": {"b": None}}, {"a": {}}), ({"a": {}}, {"a": {"b": None}})):
        assert all_conflict_details(one, other) == [line]


def test_equal_lists_of_objects_do_not_differ_by_the_order_of_their_keys():
    assert conflict_details({"a": [{"b": 1, "c": 2}]}, {"a": [{"c": 2, "b": 1}]}) == []


def test_a_difference_is_shown_with_any_two_verbs():
    assert Difference("a.b", "x", 3).text("expected", "found") == "a.b: expected 'x', found 3"


@given(json_objects)
def test_a_value_does_not_differ_from_itself(value):
    assert list(differences(value, value)) == []


@given(json_objects, json_objects)
def test_without_differences_the_first_object_contains_the_second(recorded, new):
    if not list(differences(recorded, new)):
        assert {key: recorded.get(key) for key in new} == new


def test_a_conflict_shows_file_version_and_each_difference():
    conflict = ModelVersionConflict("model_v1", "m.json", ["a: recorded 1, now 2", "b: x"])
    assert isinstance(conflict, ValueError)
    assert (conflict.model_version, conflict.details) == (
        "model_v1",
        ["a: recorded 1, now 2", "b: x"],
    )
    assert str(conflict) == (
        "m.json: model version 'model_v1' already exists with other content:\n"
        "  a: recorded 1, now 2\n"
        "  b: x\n"
        "Nothing was changed. A version never changes: choose another model_version."
    )


def test_a_conflict_shows_what_to_do():
    conflict = ModelVersionConflict("model_v1", "m.json", ["a: x"], "Do this.")
    assert str(conflict).endswith("\n  a: x\nNothing was changed. Do this.")


# --- Checks --------------------------------------------------------------------------------------


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
            "m.json: num_training_samples: expected an integer, found True.",
        ),
        (
            "num_training_samples",
            3.0,
            "m.json: num_training_samples: expected an integer, found 3.0.",
        ),
        ("model_version", "../x", f"m.json: model_version: {EXPECTED_NAME}'../x'."),
        ("dataset_version", "a/b", f"m.json: dataset_version: {EXPECTED_NAME}'a/b'."),
    ],
)
def test_a_field_of_another_type_is_named(field, value, message, metadata):
    with pytest.raises(ValueError) as caught:
        check_metadata({**metadata, field: value}, "m.json")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("model_version", "text"),
        ("base_model", "text"),
        ("dataset_version", "text"),
        ("training_config", "an object"),
        ("num_training_samples", "an integer"),
    ],
)
def test_each_of_the_five_fields_is_required(field, expected, metadata):
    del metadata[field]
    with pytest.raises(ValueError) as caught:
        check_metadata(metadata, "m.json")
    assert str(caught.value) == f"m.json: {field}: expected {expected}, found nothing."


# --- Parsing -------------------------------------------------------------------------------------


def test_metadata_is_parsed_with_all_its_fields(metadata):
    metadata["licence"] = "MIT"
    assert parse_metadata(canonical_json(metadata), "m.json") == metadata
    assert parse_metadata(canonical_json(metadata), "m.json", model_version="model_v1") == metadata


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1, column 1: the file is empty."),
        (b"[]", "expected a JSON object, found a list."),
        (b"{}", "model_version: expected text, found nothing."),
    ],
)
def test_damaged_metadata_is_a_corrupt_file(data, message):
    with pytest.raises(CorruptFileError) as caught:
        parse_metadata(data, "m.json")
    assert str(caught.value) == f"m.json: {message} Left as found."


def test_metadata_of_another_version_is_a_corrupt_file(metadata):
    with pytest.raises(CorruptFileError) as caught:
        parse_metadata(canonical_json(metadata), "m.json", model_version="model_v2")
    assert str(caught.value) == (
        "m.json: model_version: expected 'model_v2', found 'model_v1'. Left as found."
    )
