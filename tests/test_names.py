import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.names import check_version, closest, is_version, nearest
from tests.strategies import names

EXPECTED = (
    "model_version: expected a name of at most 128 letters, digits, '.', '_' and '-' that "
    "starts with a letter or digit and is not 'registry.json', found "
)


@pytest.mark.parametrize(
    "name",
    ["model_v1", "a", "0", "1.0", "A.b-c_d", "x..y", "a" * 128, "registry", "registry.jsonl"],
)
def test_a_name_of_one_path_component_may_name_a_version(name):
    assert check_version("model_version", name) == name
    assert is_version(name)


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
def test_any_other_value_may_not_name_a_version(name):
    with pytest.raises(ValueError) as caught:
        check_version("model_version", name)
    assert str(caught.value) == f"{EXPECTED}{name!r}."
    assert not is_version(name)


def test_a_name_of_129_characters_is_refused():
    with pytest.raises(ValueError) as caught:
        check_version("model_version", "a" * 129)
    assert str(caught.value) == f"{EXPECTED}'{'a' * 129}'."


@given(names | st.text(max_size=8) | st.text("Aa0._-/\n", min_size=126, max_size=130))
def test_a_name_is_accepted_exactly_if_it_satisfies_the_rule(name):
    rule = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
    is_reserved = name.lower() in ("registry.json", "registry.json.lock")
    if rule.match(name) and not is_reserved:
        assert is_version(name)
        assert check_version("model_version", name) == name
    else:
        assert not is_version(name)
        with pytest.raises(ValueError, match="model_version: expected a name"):
            check_version("model_version", name)


def test_the_nearest_names_are_the_most_similar_ones():
    known = ["model_v1", "other", "model_v2", "zzz"]
    assert nearest("model_v7", known) == "model_v2, model_v1"
    assert nearest("model_v7", []) == "none"


def test_of_many_names_the_nearest_are_among_those_with_the_same_beginning():
    known = [f"{base}-{n:04}" for base in ("bert", "llama", "mistral") for n in range(1000)]
    assert nearest("llama-0500x", known) == "llama-0500, llama-0600, llama-0590"


def test_the_closest_name_is_the_one_that_was_probably_meant():
    known = ["learning_rate", "epochs", "batch_size"]
    assert closest("epoch", known) == "epochs"
    assert closest("learning-rate", known) == "learning_rate"


def test_a_name_that_is_like_no_other_has_no_closest():
    assert closest("dropout", ["learning_rate", "epochs", "batch_size"]) is None
    assert closest("epochs", []) is None


def test_names_that_are_not_similar_are_not_named():
    known = ["mistral-7b-dataset_v1-33d09b694e37", "llama_v1"]
    assert nearest("nope", known) == "none"
    assert nearest("", known) == "none"
    assert nearest("mistral", known) == "mistral-7b-dataset_v1-33d09b694e37"
