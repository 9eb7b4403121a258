import json
import subprocess
import sys
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import CorruptFileError
from src.records.canonical import canonical_json
from src.records.registry_file import RegistryFile
from tests.examples import METADATA
from tests.strategies import json_values, names, texts

EMPTY = b'{\n  "models": []\n}\n'


def entry(version, **fields):
    return {**METADATA, "model_version": version, **fields}


def registry_of(*entries, **fields):
    return canonical_json({"models": list(entries), **fields})


def digest(data):
    return sha256(data).hexdigest()


ONE, TWO, THREE = entry("model_v1"), entry("model_v2", licence="MIT"), entry("model_v3")
CANONICAL = registry_of(ONE, TWO)
OTHER_FIELDS = registry_of(ONE, TWO, schema=2)
COMPACT = json.dumps({"models": [ONE, TWO]}).encode()


def joined(added):
    pieces, checksum = added
    return b"".join(pieces), checksum


each_form = pytest.mark.parametrize(
    "data",
    [CANONICAL, OTHER_FIELDS, COMPACT],
    ids=["canonical", "with fields of a newer release", "compact"],
)


# --- Reading -------------------------------------------------------------------------------------


@each_form
def test_all_entries_are_returned_in_their_order(data):
    assert RegistryFile(data, "r.json").models == [ONE, TWO]


@each_form
def test_entries_are_counted_found_and_returned_from_the_newest(data):
    registry = RegistryFile(data, "r.json")
    assert len(registry) == 2
    assert [*registry.newest()] == [TWO, ONE]
    assert (registry.get("model_v2"), registry.get("model_v")) == (TWO, None)
    assert registry.get(["model_v2"]) is None


@given(st.lists(st.tuples(names, json_values), unique_by=lambda pair: pair[0], max_size=5))
def test_bytes_that_were_checked_before_give_the_same_entries(pairs):
    entries = [entry(name, more=value) for name, value in pairs]
    data = registry_of(*entries)
    registry = RegistryFile(data, "r.json", valid_sha256=digest(data))
    assert len(registry) == len(entries)
    assert [*registry.newest()] == RegistryFile(data, "r.json").models[::-1]


def test_the_newest_entry_is_found_without_parsing_the_others():
    broken = CANONICAL.replace(b'"epochs": 3', b'"epochs": x', 1)
    registry = RegistryFile(broken, "r.json", valid_sha256=digest(broken))
    assert next(registry.newest()) == TWO


def test_an_absent_file_is_an_empty_registry():
    registry = RegistryFile(None, "r.json")
    assert registry.models == []
    assert (len(registry), [*registry.newest()]) == (0, [])
    assert registry.find(["model_v1"]) == {}
    assert registry.sha256 is None


def test_only_a_canonical_file_without_other_fields_has_a_digest():
    assert RegistryFile(CANONICAL, "r.json").sha256 == digest(CANONICAL)
    assert RegistryFile(EMPTY, "r.json").sha256 == digest(EMPTY)
    assert RegistryFile(OTHER_FIELDS, "r.json").sha256 is None
    assert RegistryFile(COMPACT, "r.json").sha256 is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "r.json: line 1, column 1: the file is empty."),
        (b"{}", "r.json: models: expected a list, found nothing."),
        (b'{"models": {}}', "r.json: models: expected a list, found {}."),
        (b'{"models": [3]}', "r.json: models[0]: expected an object, found 3."),
        (registry_of(ONE, {}), "r.json: models[1]: model_version: expected text, found nothing."),
        (registry_of(ONE, TWO, ONE), "r.json: models[2]: duplicate entry of 'model_v1'."),
    ],
)
def test_a_damaged_registry_is_named_with_the_entry(data, message):
    with pytest.raises(CorruptFileError) as caught:
        RegistryFile(data, "r.json")
    assert str(caught.value) == f"{message} Left as found."


# --- Valid bytes ---------------------------------------------------------------------------------

UNCHECKED = registry_of({"model_version": "model_v1"})  # four fields are missing


def test_data_of_a_valid_digest_is_not_checked_again():
    registry = RegistryFile(UNCHECKED, "r.json", valid_sha256=digest(UNCHECKED))
    assert registry.sha256 == digest(UNCHECKED)
    assert registry.find(["model_v1"]) == {"model_v1": {"model_version": "model_v1"}}
    assert registry.models == [{"model_version": "model_v1"}]


@pytest.mark.parametrize("valid_sha256", [None, "", "0" * 64, digest(CANONICAL)])
def test_data_of_any_other_digest_is_checked(valid_sha256):
    with pytest.raises(CorruptFileError, match=r"^r\.json: models\[0\]: base_model: expected text"):
        RegistryFile(UNCHECKED, "r.json", valid_sha256=valid_sha256)


@pytest.mark.parametrize("data", [CANONICAL, EMPTY, registry_of(ONE)])
def test_a_valid_digest_changes_no_result(data):
    checked = RegistryFile(data, "r.json")
    unchecked = RegistryFile(data, "r.json", valid_sha256=digest(data))
    assert unchecked.sha256 == checked.sha256
    assert joined(unchecked.with_entries([THREE])) == joined(checked.with_entries([THREE]))
    for version in ("model_v1", "model_v2", "model_v3"):
        assert unchecked.find([version]).get(version) == checked.find([version]).get(version)
    assert unchecked.models == checked.models


# --- Finding -------------------------------------------------------------------------------------

MANY = [entry(f"v{number}", note=f'"model_version": "v{number + 1}"') for number in range(20)]


@pytest.fixture(params=[True, False], ids=["valid digest", "checked"])
def many(request):
    """A registry of twenty entries; each has the version of the next one in a text."""
    data = registry_of(*MANY)
    return RegistryFile(data, "r.json", valid_sha256=digest(data) if request.param else None)


@pytest.mark.parametrize("versions", [["v7"], ["v0", "v7", "v19"], ["v19", "none"]])
def test_entries_are_found_by_their_version(versions, many):
    found = many.find(versions)
    expected = {each["model_version"]: each for each in MANY if each["model_version"] in versions}
    assert {version: found[version] for version in versions if version in found} == expected


@pytest.mark.parametrize("versions", [["v20"], ["v"], ["1"], ["V1"], ['v1"'], ["v1\n"]])
def test_a_version_that_is_not_registered_is_not_found(versions, many):
    assert many.find(versions).keys().isdisjoint(versions)


def test_only_the_entries_that_are_asked_for_are_parsed():
    data = registry_of(*MANY)
    registry = RegistryFile(data, "r.json", valid_sha256=digest(data))
    assert registry.find(["v7"]) == {"v7": MANY[7]}
    assert registry.find(["v7", "v3"]) == {"v3": MANY[3], "v7": MANY[7]}
    assert registry.find(["none"]) == {}


def test_a_nested_version_is_not_an_entry():
    outer = entry("model_v1", parent=entry("model_v2"))
    data = registry_of(outer)
    registry = RegistryFile(data, "r.json", valid_sha256=digest(data))
    assert registry.find(["model_v2"]) == {}
    assert registry.find(["model_v1", "model_v2"]) == {"model_v1": outer}


# --- Appending -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, EMPTY], ids=["no file", "no entries"])
def test_the_first_entries_make_a_canonical_file(data):
    expected = registry_of(ONE, TWO)
    assert joined(RegistryFile(data, "r.json").with_entries([ONE, TWO])) == (
        expected,
        digest(expected),
    )


def test_entries_are_appended_to_a_canonical_file():
    expected = registry_of(ONE, TWO, THREE)
    registry = RegistryFile(CANONICAL, "r.json")
    assert joined(registry.with_entries([THREE])) == (expected, digest(expected))


REORDERED = CANONICAL.replace(
    b'      "base_model": "mistral-7b",\n      "dataset_version": "dataset_v1",\n',
    b'      "dataset_version": "dataset_v1",\n      "base_model": "mistral-7b",\n',
)
EDITED = {
    "compact": COMPACT,
    "keys reordered": REORDERED,
    "indented by four": json.dumps({"models": [ONE]}, indent=4, sort_keys=True).encode() + b"\n",
    "no line end": CANONICAL.rstrip(),
    "a space at the end": CANONICAL + b" ",
    "an escape": CANONICAL.replace(b"mistral", b"\\u006distral"),
    "a number": CANONICAL.replace(b"2e-05", b"0.00002"),
    "compact with a field of a newer release": json.dumps({"models": [], "schema": 2}).encode(),
}


@pytest.mark.parametrize("data", EDITED.values(), ids=EDITED)
def test_nothing_is_appended_to_a_file_in_another_form(data):
    assert data != CANONICAL
    registry = RegistryFile(data, "r.json")
    for work in (lambda: registry.with_entries([THREE]), registry.check_form):
        with pytest.raises(CorruptFileError) as caught:
            work()
        assert str(caught.value) == (
            "r.json: not in canonical form: edited after it was written. Left as found. Restore "
            "the file; or, if its entries are right, write it in canonical form: F=r.json; "
            'python -m json.tool --sort-keys --indent 2 --no-ensure-ascii "$F" "$F"'
        )


@pytest.mark.parametrize("data", [COMPACT, REORDERED], ids=["compact", "keys reordered"])
def test_the_command_of_the_error_writes_the_canonical_form(data, tmp_path):
    path = tmp_path / "the registry.json"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        RegistryFile(data, path).check_form()
    command = str(caught.value).partition("canonical form: F=")[2]
    python = f"F={command}".replace("python -m", f"{sys.executable} -m")
    subprocess.run(python, shell=True, check=True)
    assert path.read_bytes() == CANONICAL


@pytest.mark.parametrize("data", [None, EMPTY, CANONICAL, OTHER_FIELDS])
def test_a_file_in_canonical_form_may_have_fields_of_a_newer_release(data):
    registry = RegistryFile(data, "r.json")
    registry.check_form()
    assert registry.unknown_fields == (["schema"] if data == OTHER_FIELDS else [])


def test_fields_of_a_newer_release_are_kept_and_the_file_has_no_digest():
    expected = registry_of(ONE, TWO, THREE, schema=2)
    registry = RegistryFile(OTHER_FIELDS, "r.json")
    assert joined(registry.with_entries([THREE])) == (expected, None)


@pytest.mark.parametrize("data", [CANONICAL, OTHER_FIELDS])
def test_appending_does_not_change_the_registry_itself(data):
    registry = RegistryFile(data, "r.json")
    registry.with_entries([THREE])
    assert registry.models == [ONE, TWO]
    assert registry.find(["model_v3"]).get("model_v3") is None


def test_appending_nothing_to_a_canonical_file_changes_no_byte():
    registry = RegistryFile(CANONICAL, "r.json")
    assert joined(registry.with_entries([])) == (CANONICAL, digest(CANONICAL))


entries = st.lists(
    st.builds(
        lambda version, text, fields: {**fields, **entry(version, base_model=text)},
        names,
        texts,
        st.dictionaries(texts, json_values, max_size=2),
    ),
    max_size=4,
    unique_by=lambda each: each["model_version"],
)


@given(entries, st.integers(0, 4), st.booleans())
def test_any_entries_are_found_and_appended_as_in_a_file_of_all(entries, count, is_valid):
    old, new = entries[:count], entries[count:]
    data = registry_of(*old)
    registry = RegistryFile(data, "r.json", valid_sha256=digest(data) if is_valid else None)
    versions = [each["model_version"] for each in entries]
    found = registry.find(versions)
    assert {version: found[version] for version in versions if version in found} == {
        each["model_version"]: each for each in old
    }
    for each in entries:
        version = each["model_version"]
        assert registry.find([version]).get(version) == (each if each in old else None)
    expected = registry_of(*entries)
    assert joined(registry.with_entries(new)) == (expected, digest(expected))
