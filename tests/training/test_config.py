import dataclasses
import hashlib
import re
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.errors import CorruptFileError
from src.training.config import (
    ConfigError,
    ConfigFile,
    TrainingConfig,
    config_text,
    load_training_config,
    parse_training_config,
    read_config_file,
)
from tests.examples import WRONG_FILES
from tests.strategies import as_yaml, config_values, yaml_texts

VALUES = {
    "base_model": "mistral-7b",
    "dataset_version": "dataset_v1",
    "learning_rate": 2e-5,
    "epochs": 3,
    "batch_size": 16,
}
OK = b"""\
base_model: mistral-7b
dataset_version: dataset_v1
learning_rate: 2e-5
epochs: 3
batch_size: 16
"""
HASH = "a19ae1b8918eef6282ba32a2428152c231f1bc906c41eb3bbc6f5b7036421d4d"
SETTINGS = "base_model, dataset_version, learning_rate, epochs, batch_size"
KEYS = f"{SETTINGS}, trainer, evaluator, base_config"
MISSING = """\
c.yaml: missing key 'base_model'. Write e.g. `base_model: mistral-7b`.
c.yaml: missing key 'dataset_version'. Write e.g. `dataset_version: dataset_v1`.
c.yaml: missing key 'learning_rate'. Write e.g. `learning_rate: 2e-5`.
c.yaml: missing key 'epochs'. Write e.g. `epochs: 3`.
c.yaml: missing key 'batch_size'. Write e.g. `batch_size: 16`."""


def with_line(key, text):
    """Return the valid config with `text` as the value of one key."""
    lines = OK.decode().splitlines(keepends=True)
    return "".join(
        f"{key}: {text}\n" if line.startswith(f"{key}:") else line for line in lines
    ).encode()


def message_of(data):
    with pytest.raises(ConfigError) as caught:
        parse_training_config(data, "c.yaml")
    return str(caught.value)


# --- Reading a config ----------------------------------------------------------------------------


def test_a_config_file_has_the_digest_of_the_bytes_that_were_parsed(tmp_path):
    (tmp_path / "c.yaml").write_bytes(OK)
    assert read_config_file(tmp_path / "c.yaml") == ConfigFile(
        config=TrainingConfig(**VALUES),
        path=f"{tmp_path}/c.yaml",
        sha256="164856fbe38e3e8af1ed898c390e1326fbdf95b6e474418275387bcb08d1f2d8",
    )


def test_a_config_is_read_from_a_file(project):
    path = "configs/training/mistral_finetune.yaml"
    assert asdict(load_training_config(path)) == VALUES
    assert load_training_config(project / path) == TrainingConfig(**VALUES)


def test_the_error_for_a_missing_file_names_the_file():
    with pytest.raises(FileNotFoundError) as caught:
        load_training_config("configs/none.yaml")
    assert str(caught.value) == "configs/none.yaml: no such training config."


def test_a_folder_is_not_a_config(project):
    with pytest.raises(ConfigError) as caught:
        load_training_config("configs/training")
    assert str(caught.value) == "configs/training: expected a regular file, found a folder."


def test_a_fault_names_the_path_that_the_caller_passed(project):
    path = project / "configs/training/mistral_finetune.yaml"
    path.write_bytes(with_line("epochs", "0"))
    with pytest.raises(ConfigError) as caught:
        load_training_config("configs/training/mistral_finetune.yaml")
    assert str(caught.value) == (
        "configs/training/mistral_finetune.yaml:4: epochs: expected an integer >= 1, found 0. "
        "Write e.g. `epochs: 3`."
    )


def test_a_config_error_is_a_value_error():
    assert issubclass(ConfigError, ValueError)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("learning_rate", "2e-5", 2e-5),
        ("learning_rate", "0.00002", 2e-5),
        ("learning_rate", "2E-05", 2e-5),
        ("learning_rate", "+2.e-5", 2e-5),
        ("learning_rate", ".5", 0.5),
        ("learning_rate", "1", 1.0),
        ("learning_rate", "1e-320", 1e-320),
        ("epochs", "+3", 3),
        ("epochs", "010", 10),
        ("epochs", "9007199254740991", 2**53 - 1),
        ("base_model", "no", "no"),
        ("base_model", "off", "off"),
        ("base_model", "y", "y"),
        ("base_model", "2024-01-01", "2024-01-01"),
        ("base_model", "1:30", "1:30"),
        ("base_model", "1_000", "1_000"),
        ("base_model", "0x10", "0x10"),
        ("base_model", "0o17", "0o17"),
        ("base_model", "'1.0'", "1.0"),
        ("base_model", '"true"', "true"),
        ("base_model", "'  spaced  '", "spaced"),
        ("base_model", "|\n  block", "block"),
        ("base_model", "meta-llama/Llama-3.1-8B  # a comment", "meta-llama/Llama-3.1-8B"),
        ("base_model", "模型", "模型"),
        ("base_model", "a" * 256, "a" * 256),
        ("dataset_version", "no", "no"),
        ("dataset_version", "'1.0'", "1.0"),
    ],
)
def test_a_scalar_has_the_value_of_the_yaml_1_2_core_schema_without_hexadecimal_and_octal(
    key, text, value
):
    found = getattr(parse_training_config(with_line(key, text), "c.yaml"), key)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + OK,
        OK.replace(b"\n", b"\r\n"),
        OK.replace(b"\n", b"\r"),
        OK.rstrip(),
        b"%YAML 1.2\n---\n" + OK + b"...\n",
        b"{base_model: mistral-7b, dataset_version: dataset_v1,\n"
        b" learning_rate: 2e-5, epochs: 3, batch_size: 16}",
        OK.replace(b"epochs: 3", b"'epochs': &n 3\n# a comment\n"),
    ],
    ids=["bom", "crlf", "cr", "no final newline", "marked document", "flow", "quoted key"],
)
def test_the_layout_of_a_file_does_not_change_the_config(data):
    assert parse_training_config(data, "c.yaml") == TrainingConfig(**VALUES)


def test_an_alias_has_the_value_of_its_anchor():
    data = OK.replace(b": mistral-7b", b": &name v1").replace(b"dataset_v1", b"*name")
    config = parse_training_config(data, "c.yaml")
    assert (config.base_model, config.dataset_version) == ("v1", "v1")


@given(config_values)
def test_a_config_written_as_yaml_parses_to_the_same_values(values):
    assert asdict(parse_training_config(as_yaml(values), "c.yaml")) == values


def test_the_text_of_a_config_has_one_line_per_setting():
    assert config_text(TrainingConfig(**VALUES)).decode() == (
        'base_model: "mistral-7b"\ndataset_version: "dataset_v1"\n'
        "learning_rate: 2e-05\nepochs: 3\nbatch_size: 16\n"
    )


@given(config_values)
def test_the_text_of_a_config_parses_to_the_same_config(values):
    config = TrainingConfig(**values)
    assert parse_training_config(config_text(config), "c.yaml") == config


def test_a_config_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig(**VALUES).epochs = 4


# --- The config hash -----------------------------------------------------------------------------


def test_the_hash_of_the_example_config_is_fixed():
    assert parse_training_config(OK, "c.yaml").config_hash == HASH


@given(config_values, st.randoms(use_true_random=False))
def test_comments_and_the_order_of_keys_do_not_change_the_hash(values, random):
    keys = list(values)
    random.shuffle(keys)
    shuffled = as_yaml({key: values[key] for key in keys}).replace(b"\n", b"  # why\n\n# more\n")
    config = parse_training_config(shuffled, "c.yaml")
    assert config.config_hash == TrainingConfig(**values).config_hash


@pytest.mark.parametrize("text", ["2e-5", "0.00002", "2.0E-5", ".2e-4", "+0.2e-0004"])
def test_the_notation_of_a_number_does_not_change_the_hash(text):
    assert parse_training_config(with_line("learning_rate", text), "c.yaml").config_hash == HASH


@given(config_values, config_values, st.sampled_from(sorted(VALUES)))
def test_any_changed_value_changes_the_hash(values, others, key):
    changed = {**values, key: others[key]}
    same_hash = TrainingConfig(**changed).config_hash == TrainingConfig(**values).config_hash
    assert same_hash == (changed == values)


def test_a_learning_rate_of_1_and_of_1_0_give_the_same_config():
    whole, real = (TrainingConfig(**{**VALUES, "learning_rate": rate}) for rate in (1, 1.0))
    assert whole == real
    assert whole.config_hash == real.config_hash


# --- Keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"epoch: 4", "unknown key 'epoch', did you mean 'epochs'?"),
        (b"Learning_rate: 1", "unknown key 'Learning_rate', did you mean 'learning_rate'?"),
        (b"warmup: 4", f"unknown key 'warmup', the keys are {KEYS}."),
        (b"<<: {epochs: 4}", f"unknown key '<<', the keys are {KEYS}."),
        (b"~: 4", f"unknown key, the keys are {KEYS}."),
        (b"PASSWORD=hunter2: 4", f"unknown key, the keys are {KEYS}."),
        (b"a" * 41 + b": 4", f"unknown key, the keys are {KEYS}."),
        (b"learning rate: 4", "unknown key 'learning rate', did you mean 'learning_rate'?"),
        (b"[a, b]: 4", f"unknown key 'a list', the keys are {KEYS}."),
        (b"{a: b}: 4", f"unknown key 'a mapping', the keys are {KEYS}."),
        (b"epochs: 3", "epochs: duplicate key. Remove one of the two."),
        (b"'epochs': 4", "epochs: duplicate key. Remove one of the two."),
    ],
)
def test_an_unknown_or_duplicate_key_is_refused_with_its_line(line, fault):
    assert message_of(OK + line) == f"c.yaml:6: {fault}"


def test_merge_keys_do_not_merge():
    data = b"base: &base {epochs: 4}\n<<: *base\n" + OK
    assert message_of(data) == (
        f"c.yaml:1: unknown key 'base', the keys are {KEYS}.\nc.yaml:2: unknown key."
    )


def test_only_the_first_unknown_key_is_quoted():
    data = OK.replace(b"epochs", b"epoch").replace(b"learning", b"warm-up: 3\nlearn")
    assert message_of(data + b"PASSWORD: hunter2\n") == (
        f"c.yaml:3: unknown key 'warm-up', the keys are {KEYS}.\n"
        "c.yaml:4: unknown key, did you mean 'learning_rate'?\n"
        "c.yaml:5: unknown key, did you mean 'epochs'?\n"
        "c.yaml:7: unknown key.\n"
        "c.yaml: missing key 'learning_rate'. Write e.g. `learning_rate: 2e-5`.\n"
        "c.yaml: missing key 'epochs'. Write e.g. `epochs: 3`."
    )


def test_the_error_for_a_missing_key_has_an_example():
    assert message_of(b"{}") == MISSING


def test_one_error_lists_every_fault_with_its_line():
    data = b"""\
# A config without a valid value.
base_model: ""
dataset_version: ../secrets
learning_rate: '2e-5'

epochs: true
epoch: 3
epochs: 4
"""
    assert message_of(data) == (
        "c.yaml:2: base_model: expected text, found only white space. "
        "Write e.g. `base_model: mistral-7b`.\n"
        "c.yaml:3: dataset_version: expected a name of at most 128 letters, digits, '.', '_' "
        "and '-' that starts with a letter or digit and is not 'registry.json', "
        "found '../secrets'. Write e.g. `dataset_version: dataset_v1`.\n"
        "c.yaml:4: learning_rate: expected a finite number above 0, found '2e-5'. "
        "Write e.g. `learning_rate: 2e-5`.\n"
        "c.yaml:6: epochs: expected an integer >= 1, found true. Write e.g. `epochs: 3`.\n"
        "c.yaml:7: unknown key 'epoch', did you mean 'epochs'?\n"
        "c.yaml:8: epochs: duplicate key. Remove one of the two.\n"
        "c.yaml: missing key 'batch_size'. Write e.g. `batch_size: 16`."
    )


# --- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("true", "true"),
        ("False", "false"),
        ("1.0", "1.0"),
        ("1e2", "100.0"),
        ("0", "0"),
        ("-1", "-1"),
        ("-00", "0"),
        ("'3'", "'3'"),
        ("no", "'no'"),
        ("", "null"),
        ("~", "null"),
        ("Null", "null"),
        (".nan", "nan"),
        ("-.INF", "-inf"),
        ("0x10", "'0x10'"),
        ("1_000", "'1_000'"),
        ("2024-01-01", "'2024-01-01'"),
        ("٣", "'٣'"),
        ("[1]", "a list"),
        ("{a: 1}", "a mapping"),
    ],
)
@pytest.mark.parametrize(("key", "line", "example"), [("epochs", 4, "3"), ("batch_size", 5, "16")])
def test_a_count_is_an_integer_above_0(key, line, example, text, found):
    assert message_of(with_line(key, text)) == (
        f"c.yaml:{line}: {key}: expected an integer >= 1, found {found}. "
        f"Write e.g. `{key}: {example}`."
    )


@pytest.mark.parametrize("text", ["9007199254740992", "10000000000000000", "9" * 5000])
def test_a_count_is_at_most_the_largest_integer_that_every_json_reader_reads_exactly(text):
    message = message_of(with_line("epochs", text))
    assert message.startswith("c.yaml:4: epochs: expected an integer <= 9007199254740991, ")
    assert len(message) < 200


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", "0"),
        ("-0.0", "-0.0"),
        ("-2e-5", "-2e-05"),
        ("1e-400", "0.0"),
        ("1e400", "inf"),
        ("1e" + "9" * 5000, "inf"),
        (".nan", "nan"),
        (".inf", "inf"),
        ("true", "true"),
        ("'2e-5'", "'2e-5'"),
        ("2e-5x", "'2e-5x'"),
        ("1_0.5", "'1_0.5'"),
        ("", "null"),
        ("[2e-5]", "a list"),
    ],
)
def test_a_learning_rate_is_a_finite_number_above_0(text, found):
    assert message_of(with_line("learning_rate", text)) == (
        f"c.yaml:3: learning_rate: expected a finite number above 0, found {found}. "
        "Write e.g. `learning_rate: 2e-5`."
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1", "expected text (in quotes if needed), found 1."),
        ("1.0", "expected text (in quotes if needed), found 1.0."),
        ("true", "expected text (in quotes if needed), found true."),
        ("", "expected text (in quotes if needed), found null."),
        ("[a]", "expected text (in quotes if needed), found a list."),
        ("'  '", "expected text, found only white space."),
        (
            '"a\\nb"',
            "expected at most 256 printable characters on one line, found 'a\\nb'.",
        ),
        (
            '"\\uD83D"',
            "expected at most 256 printable characters on one line, found '\\ud83d'.",
        ),
        (
            "a" * 257,
            "expected at most 256 printable characters on one line, "
            f"found '{'a' * 97}...{'a' * 98}'.",
        ),
    ],
)
def test_a_base_model_is_one_line_of_text(text, fault):
    assert message_of(with_line("base_model", text)) == (
        f"c.yaml:1: base_model: {fault} Write e.g. `base_model: mistral-7b`."
    )


@pytest.mark.parametrize("name", [".", "..", "../x", "/abs", "a/b", "-a", "registry.json", "é"])
def test_a_dataset_version_is_one_path_component(name):
    assert message_of(with_line("dataset_version", f"'{name}'")) == (
        "c.yaml:2: dataset_version: expected a name of at most 128 letters, digits, '.', '_' "
        "and '-' that starts with a letter or digit and is not 'registry.json', "
        f"found {name!r}. Write e.g. `dataset_version: dataset_v1`."
    )


def test_a_config_constructed_in_code_is_checked():
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(
            base_model=None,
            dataset_version="dataset_v1",
            learning_rate=float("nan"),
            epochs=True,
            batch_size=10**400,
        )
    assert str(caught.value) == (
        "base_model: expected text (in quotes if needed), found null. "
        "Write e.g. `base_model: mistral-7b`.\n"
        "learning_rate: expected a finite number above 0, found nan. "
        "Write e.g. `learning_rate: 2e-5`.\n"
        "epochs: expected an integer >= 1, found true. Write e.g. `epochs: 3`.\n"
        "batch_size: expected an integer <= 9007199254740991, "
        "found 100000000000000000...0000000000000000000. Write e.g. `batch_size: 16`."
    )


def test_a_learning_rate_larger_than_any_float_is_refused():
    message = message_of(with_line("learning_rate", "9" * 5000))
    assert message.startswith("c.yaml:3: learning_rate: expected a finite number above 0, found ")
    assert len(message) < 200
    with pytest.raises(ConfigError, match="learning_rate: expected a finite number above 0"):
        TrainingConfig(**{**VALUES, "learning_rate": 10**400})


# --- Files that are not a config -----------------------------------------------------------------


TAG = "c.yaml:{}: not valid YAML: tags such as !!int are not supported. Remove the tag."


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file"),
        (b"# only a comment\n", "an empty file"),
        (b"---\n", "null"),
        (b"~\n", "null"),
        (b"true\n", "true"),
        (b"just text\n", "text"),
        (b"|\n  PASSWORD=hunter2\n", "text"),
        (b"3\n", "a number"),
        (b"-1.5e3\n", "a number"),
        (b"- epochs: 3\n", "a list"),
    ],
)
def test_a_file_that_is_not_a_mapping_is_refused(data, found):
    assert message_of(data) == f"c.yaml: expected one mapping of {KEYS}, found {found}."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            OK + b"---\n" + OK,
            "c.yaml:6: not valid YAML: expected a single document in the stream, "
            "but found another document.",
        ),
        (
            with_line("epochs", "!!int 3"),
            TAG.format(4),
        ),
        (
            with_line("epochs", "!!python/object/apply:os.system [ls]"),
            TAG.format(4),
        ),
        (
            OK + b"!x epochs: 3\n",
            TAG.format(6),
        ),
        (OK + b"k: *none\n", "c.yaml:6: not valid YAML: found undefined alias."),
        (
            with_line("base_model", "a: b"),
            "c.yaml:1: not valid YAML: mapping values are not allowed here.",
        ),
        (
            OK + b"\tk: 1\n",
            "c.yaml:6: not valid YAML: while scanning for the next token, "
            "found character '\\t' that cannot start any token.",
        ),
        (
            b"a: [" + b"x," * 1000 + b"]",
            "c.yaml:1: not valid YAML: more than 1000 values, so this is not a training config.",
        ),
        (OK.decode().encode("utf-16"), "c.yaml:1: not UTF-8 text. Save the file as UTF-8."),
        (OK + b"# caf\xe9\n", "c.yaml:6: not UTF-8 text. Save the file as UTF-8."),
        (OK + b"# \0\n", "c.yaml:6: the character '\\x00' is not allowed in YAML. Remove it."),
        (b"[" * 1500, "c.yaml: nested too deeply."),
        (
            OK + b"#" * (1 << 20),
            "c.yaml: larger than 1,048,576 bytes.",
        ),
    ],
    ids=[
        "documents",
        "tag",
        "python tag",
        "key tag",
        "alias",
        "colon",
        "tab",
        "nodes",
        "utf-16",
        "latin-1",
        "nul",
        "depth",
        "size",
    ],
)
def test_unsupported_or_invalid_yaml_is_refused_with_its_line(data, message):
    assert message_of(data) == message


@pytest.mark.parametrize("kind", sorted(WRONG_FILES))
def test_the_error_for_a_file_named_by_mistake_quotes_at_most_its_first_key(kind):
    for data in (WRONG_FILES[kind], WRONG_FILES[kind] + OK):
        message = message_of(data)
        assert "S3CRET" not in message
        assert len(message) < 2000


@given(st.sampled_from(sorted(WRONG_FILES)), st.integers(0, 300), st.integers(0, 600))
def test_the_error_for_a_part_of_such_a_file_quotes_at_most_its_first_key(kind, start, end):
    message = message_of(WRONG_FILES[kind][start:end])
    [*quoted] = re.findall(r"unknown key ('[^']*')", message)
    assert len(quoted) <= 1
    assert "S3CRET" not in re.sub(r"unknown key '[^']*'", "", message)


def test_a_file_of_exactly_1_mebibyte_is_parsed():
    data = OK + b"#" * ((1 << 20) - len(OK))
    assert parse_training_config(data, "c.yaml") == TrainingConfig(**VALUES)


def test_a_file_is_not_read_beyond_the_size_limit(tmp_path):
    with (tmp_path / "c.yaml").open("wb") as file:
        file.truncate(1 << 40)  # a hole: takes no space on the disk, but would in memory
    with pytest.raises(ConfigError, match="larger than 1,048,576 bytes"):
        load_training_config(tmp_path / "c.yaml")


def test_nested_aliases_are_not_expanded():
    names = "abcdefghijklmnopqrst"
    lines = [f"{new}: &{new} [{f'*{old},' * 9}]" for old, new in pairwise(names)]
    lines.insert(0, "a: &a [x]")
    data = "\n".join(lines).encode()
    faults = message_of(data).splitlines()
    assert faults[0].startswith("c.yaml:1: unknown key 'a'")
    assert faults[-6] == "c.yaml:20: unknown key."
    assert len(faults) == len(lines) + 5


def test_a_list_that_contains_itself_is_a_list():
    assert message_of(with_line("epochs", "&a [*a]")) == (
        "c.yaml:4: epochs: expected an integer >= 1, found a list. Write e.g. `epochs: 3`."
    )


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_300_levels_of_nesting_are_a_config_error(opening):
    text = opening * 300 + {"[": "]", "{a: ": "}"}[opening] * 300
    assert message_of(with_line("epochs", text)).startswith("c.yaml")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (with_line("base_model", '"\\U00110000"'), 1),
        (b"%YAML 1." + b"1" * 5000 + b"\n---\n" + OK, 1),
    ],
    ids=["escape beyond Unicode", "long YAML version"],
)
def test_an_unexpected_error_of_pyyaml_becomes_a_config_error_with_its_line(data, line):
    assert message_of(data).startswith(f"c.yaml:{line}: not valid YAML: ")


@pytest.mark.parametrize("text", ["*" + "a" * 100_000, "!" + "a" * 100_000, "'" + "a" * 100_000])
def test_a_long_word_in_a_file_does_not_make_the_message_long(text):
    assert len(message_of(with_line("base_model", text))) < 1000


@given(st.binary() | yaml_texts.map(lambda text: text.encode(errors="surrogatepass")))
@example(b'"\\')
@example(b"\xff\xfe")
@example(b"&a *a")
@example(b"? ? ?")
def test_any_bytes_give_a_config_or_a_config_error(data):
    try:
        config = parse_training_config(data, "c.yaml")
    except ConfigError as error:
        assert all(line.startswith("c.yaml:") for line in str(error).splitlines())
    else:
        assert parse_training_config(as_yaml(asdict(config)), "c.yaml") == config


def test_a_file_with_other_bytes_than_expected_is_refused_and_not_quoted(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(OK)
    digest = hashlib.sha256(OK).hexdigest()
    assert read_config_file(path, digest) == read_config_file(path)
    path.write_text("password: hunter2\n")
    with pytest.raises(CorruptFileError) as caught:
        read_config_file(path, digest)
    assert str(caught.value) == (
        f"{path}: changed after the sweep wrote it. Left as found; delete the file to have it "
        "written again."
    )
