import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.errors import CorruptFileError
from src.records.canonical import canonical_json, parse_canonical_json, parse_json, sha256
from tests.strategies import json_objects


def test_canonical_json_is_sorted_indented_unescaped_and_ends_with_a_newline():
    value = {"b": [1, 2.5, 2e-5], "a": {"é": None, "B": True}}
    assert canonical_json(value).decode() == (
        '{\n  "a": {\n    "B": true,\n    "é": null\n  },\n'
        '  "b": [\n    1,\n    2.5,\n    2e-05\n  ]\n}\n'
    )


def test_the_digest_of_a_value_is_the_digest_of_its_file():
    assert sha256(canonical_json({})) == (
        "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"
    )


@given(json_objects)
def test_canonical_json_parses_to_the_same_value_and_the_same_bytes(value):
    data = canonical_json(value)
    assert parse_json(data, "f.json") == value
    assert canonical_json(parse_json(data, "f.json")) == data


@given(json_objects)
def test_canonical_json_parses_to_the_same_value_without_checks(value):
    assert parse_canonical_json(canonical_json(value), "f.json") == value


@given(json_objects, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_change_canonical_json(value, random):
    keys = list(value)
    random.shuffle(keys)
    assert canonical_json({key: value[key] for key in keys}) == canonical_json(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "\ud800", {1}])
def test_canonical_json_refuses_a_value_that_json_does_not_have(value):
    with pytest.raises(ValueError):
        canonical_json({"a": value})


def test_canonical_json_refuses_a_value_that_is_nested_too_deeply():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match=r"^not a JSON value: "):
        canonical_json(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f.json: line 1, column 1: the file is empty. Left as found."),
        (b"\n \n", "f.json: line 3, column 1: the file is empty. Left as found."),
        (
            b'{\n  "a": }',
            "f.json: line 2, column 8: not valid JSON (Expecting value). Left as found.",
        ),
        (b"{}\n{}", "f.json: line 2, column 1: not valid JSON (Extra data). Left as found."),
        (b'{"a": "\xff"}', "f.json: byte 7: not UTF-8 text. Left as found."),
        (b"[1]", "f.json: expected a JSON object, found a list. Left as found."),
        (b'"a"', "f.json: expected a JSON object, found a str. Left as found."),
        (b'{"x": {"a": 1, "b": 1, "b": 1}}', "f.json: duplicate key 'b'. Left as found."),
        (b'{"a": NaN}', "f.json: the number NaN is not finite. Left as found."),
        (b'{"a": -Infinity}', "f.json: the number -Infinity is not finite. Left as found."),
        (b'{"a": 1e999}', "f.json: the number 1e999 is not finite. Left as found."),
        (
            b'{"a": ' + b"9" * 5000 + b"}",
            "f.json: an integer of more than 4,300 digits. Left as found.",
        ),
        (
            b'{"a": "\\ud800"}',
            "f.json: an escape that is half of a character (a lone surrogate). Left as found.",
        ),
        (b'{"a":' * 100_000, "f.json: nested too deeply. Left as found."),
    ],
)
def test_a_damaged_file_is_named_with_the_position_and_the_fault(data, message):
    with pytest.raises(CorruptFileError) as caught:
        parse_json(data, "f.json")
    assert str(caught.value) == message


def test_a_list_is_refused_even_without_checks():
    with pytest.raises(CorruptFileError) as caught:
        parse_canonical_json(b"[]\n", "f.json")
    assert str(caught.value) == "f.json: expected a JSON object, found a list. Left as found."


@given(st.binary() | st.text(alphabet='{}[]",:\\u0d8NaInfity1e9.- \n').map(str.encode))
@example(b'{"a": "\\ud800"}')
@example(b'{"\\udfff": 1}')
@example(b'{"a": ' + b"9" * 5000 + b"}")
@example(b"\xef\xbb\xbf{}")
@example("{}".encode("utf-16"))
def test_any_bytes_parse_or_are_a_corrupt_file(data):
    try:
        value = parse_json(data, "f.json")
    except CorruptFileError as error:
        assert str(error).startswith("f.json: ")
        assert str(error).endswith(" Left as found.")
    else:
        assert parse_json(canonical_json(value), "f.json") == value
