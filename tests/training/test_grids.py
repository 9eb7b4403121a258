import json
from dataclasses import asdict, replace
from glob import glob
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.artifacts import Artifacts
from src.errors import CorruptFileError
from src.records.canonical import sha256
from src.training.config import (
    ConfigError,
    TrainingConfig,
    config_text,
    load_training_config,
    parse_training_config,
    read_config_file,
)
from src.training.grids import find_configs, read_grid, write_grid, write_variant
from tests.examples import CONFIG, METADATA, WRONG_FILES
from tests.strategies import as_yaml, config_values, settings_values

BASE = TrainingConfig(**METADATA["training_config"])
BASE_LINE = "base_config: configs/training/mistral_finetune.yaml\n"
GRID = f"""\
# Four runs.
{BASE_LINE}
learning_rate: [1e-5, 0.00002]
epochs: [2, 3]
"""
ALL_KEYS = "base_model, dataset_version, learning_rate, epochs, batch_size"
KEYS = f"base_config, {ALL_KEYS}"


@pytest.fixture(autouse=True)
def _project(project):
    """The project as the working directory of every test; it has the base config of the grids."""


def message_of(text):
    """Return the error for a grid that is not valid."""
    Path("grid.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_grid("grid.yaml")
    return str(caught.value)


def grid_of(text):
    Path("grid.yaml").write_text(text)
    return [point.config for point in read_grid("grid.yaml")]


# --- Grids ---------------------------------------------------------------------------------------


def test_a_grid_has_every_combination_and_the_last_key_varies_first():
    values = [asdict(config) for config in grid_of(GRID)]
    assert values == [
        METADATA["training_config"] | {"learning_rate": rate, "epochs": epochs}
        for rate, epochs in [(1e-5, 2), (1e-5, 3), (2e-5, 2), (2e-5, 3)]
    ]


def test_the_keys_have_the_order_of_the_file():
    grid = grid_of(f"epochs: [2, 3]\n{BASE_LINE}learning_rate: [1e-5, 2e-5]\n")
    assert [(config.epochs, config.learning_rate) for config in grid] == [
        (2, 1e-5),
        (2, 2e-5),
        (3, 1e-5),
        (3, 2e-5),
    ]


def test_a_grid_without_values_has_only_the_base_config():
    assert grid_of(BASE_LINE) == [BASE]


def test_a_single_value_needs_no_list():
    assert grid_of(f"{BASE_LINE}epochs: 4\n") == grid_of(f"{BASE_LINE}epochs: [4]\n")


def test_any_setting_may_vary():
    grid = grid_of(f"{BASE_LINE}base_model: [a, no]\ndataset_version:\n  - v1\n  - v2\n")
    assert [(config.base_model, config.dataset_version) for config in grid] == [
        ("a", "v1"),
        ("a", "v2"),
        ("no", "v1"),
        ("no", "v2"),
    ]


@given(
    config_values,
    st.fixed_dictionaries(
        {},
        optional={
            key: st.lists(values, min_size=1, max_size=3, unique=True)
            for key, values in settings_values.items()
        },
    ),
)
def test_a_grid_has_exactly_the_product_of_its_values(base, values):
    Path("base.yaml").write_bytes(as_yaml(base))
    Path("grid.yaml").write_bytes(as_yaml({"base_config": "base.yaml", **values}))
    assert [asdict(point.config) for point in read_grid("grid.yaml")] == [
        base | dict(zip(values, point, strict=True)) for point in product(*values.values())
    ]


# --- Faults --------------------------------------------------------------------------------------


def test_one_error_lists_every_fault_with_its_line():
    assert message_of("""\
base_confg: configs/training/mistral_finetune.yaml
learning_rate:
  - 1e-5
  - fast
  - 0.00001
epochs: []
epochs: [3]
batch_size: [16, true, [32]]
dataset_version: {a: 1}
""") == (
        "grid.yaml:1: unknown key 'base_confg', did you mean 'base_config'?\n"
        "grid.yaml:4: learning_rate: expected a finite number above 0, found 'fast'. "
        "Write e.g. `learning_rate: 2e-5`.\n"
        "grid.yaml:5: learning_rate: duplicate value 1e-05.\n"
        "grid.yaml:6: epochs: expected a list of values, found an empty list.\n"
        "grid.yaml:7: epochs: duplicate key. Remove one of the two.\n"
        "grid.yaml:8: batch_size: expected an integer >= 1, found a list. "
        "Write e.g. `batch_size: 16`.\n"
        "grid.yaml:8: batch_size: expected an integer >= 1, found true. "
        "Write e.g. `batch_size: 16`.\n"
        "grid.yaml:9: dataset_version: expected text (in quotes if needed), found a mapping. "
        "Write e.g. `dataset_version: dataset_v1`.\n"
        "grid.yaml: missing key 'base_config'. "
        "Write e.g. `base_config: configs/training/mistral_finetune.yaml`."
    )


def test_the_error_for_an_unknown_key_without_a_close_match_lists_all_keys():
    assert message_of(f"{BASE_LINE}x: [1]\n") == (
        f"grid.yaml:2: unknown key 'x', the keys are {KEYS}."
    )


def test_two_notations_of_one_value_are_a_duplicate():
    assert message_of(f"{BASE_LINE}base_model: [a, ' a ']\nlearning_rate: [1, 1.0]\n") == (
        "grid.yaml:2: base_model: duplicate value 'a'.\n"
        "grid.yaml:3: learning_rate: duplicate value 1.0."
    )


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("none.yaml", "none.yaml: no such training config."),
        ("configs", "configs: expected a regular file, found a folder."),
        ("[a.yaml]", "expected the path of a training config, found a list."),
        ("3", "expected the path of a training config, found 3."),
        ("", "expected the path of a training config, found null."),
        ('"a\\0b"', "expected the path of a training config, found 'a\\x00b'."),
    ],
)
def test_the_error_for_an_unreadable_base_config_has_the_line_that_names_it(value, fault):
    assert message_of(f"epochs: [3]\nbase_config: {value}\n") == (
        f"grid.yaml:2: base_config: {fault}"
    )


def test_one_error_lists_the_faults_of_the_base_config_and_of_the_grid():
    Path("bad.yaml").write_text("epochs: 0\nbase_model: a\nlearning_rate: 1\nbatch_size: 1\n")
    assert message_of("base_config: bad.yaml\nepochs: [0]\n") == (
        "grid.yaml:1: base_config: "
        "bad.yaml:1: epochs: expected an integer >= 1, found 0. Write e.g. `epochs: 3`.\n"
        "bad.yaml: missing key 'dataset_version'. Write e.g. `dataset_version: dataset_v1`.\n"
        "grid.yaml:2: epochs: expected an integer >= 1, found 0. Write e.g. `epochs: 3`."
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", f"grid.yaml: expected one mapping of {KEYS}, found an empty file."),
        ("- 1\n", f"grid.yaml: expected one mapping of {KEYS}, found a list."),
        (
            "epochs: [" + "1," * 1000 + "]",
            "grid.yaml:1: not valid YAML: more than 1000 values, so this is not a sweep.",
        ),
        ("#" * (1 << 20) + "\n", "grid.yaml: larger than 1,048,576 bytes."),
    ],
    ids=["empty", "list", "values", "size"],
)
def test_a_file_that_is_not_a_grid_is_refused(data, message):
    assert message_of(data) == message


def test_the_error_for_a_missing_grid_names_the_file():
    with pytest.raises(FileNotFoundError) as caught:
        read_grid("configs/sweeps/none.yaml")
    assert str(caught.value) == "configs/sweeps/none.yaml: no such sweep."


def test_a_grid_has_at_most_10_000_configs():
    hundred = list(range(1, 101))
    lists = f"epochs: {hundred}\nbatch_size: {hundred}\n"
    assert len(grid_of(BASE_LINE + lists)) == 10_000
    assert message_of(f"{BASE_LINE}{lists}learning_rate: [1, 2]\n") == (
        "grid.yaml: 20,000 configs. A sweep has at most 10,000."
    )


# --- Options of trainers and evaluators ---------------------------------------------------------

TRAINED = (
    CONFIG
    + """\
trainer:
  use: mine:train
  seed: 1
  options: {rank: 8, optimizer: {name: adam, eps: 1e-8}}
evaluator:
  use: mine:evaluate
"""
)
TRAINED_GRID = """\
base_config: configs/training/trained.yaml
trainer.rank: [4, 8]
trainer.optimizer.name: [adam, sgd]
trainer.seed: [1, 2]
evaluator.batch_size: [16]
"""


@pytest.fixture
def _trained(project):
    """A base config with a trainer and an evaluator."""
    (project / "configs/training/trained.yaml").write_text(TRAINED)


@pytest.mark.usefixtures("_trained")
def test_options_and_the_seed_of_a_trainer_may_vary(artifacts):
    Path("grid.yaml").write_text(TRAINED_GRID)
    files = [
        read_config_file(artifacts.root / Path(file).relative_to("artifacts").as_posix(), digest)
        for file, digest in write_grid("grid.yaml", artifacts).items()
    ]
    assert [
        (file.trainer.options["rank"], file.trainer.options["optimizer"]["name"], file.trainer.seed)
        for file in files
    ] == [*product([4, 8], ["adam", "sgd"], [1, 2])]
    assert {file.trainer.options["optimizer"]["eps"] for file in files} == {1e-8}
    assert {file.evaluator.options["batch_size"] for file in files} == {16}
    assert {file.trainer.use for file in files} == {"mine:train"}
    assert {file.base_path for file in files} == {"configs/training/trained.yaml"}


@pytest.mark.usefixtures("_trained")
def test_the_file_of_a_config_with_other_options_names_no_code():
    Path("grid.yaml").write_text(TRAINED_GRID)
    [first, *_] = write_grid("grid.yaml", Artifacts.open())
    assert (
        Path(first).read_text()
        == """\
base_model: "mistral-7b"
dataset_version: "dataset_v1"
learning_rate: 2e-05
epochs: 3
batch_size: 16
base_config: "configs/training/trained.yaml"
trainer.rank: 4
trainer.optimizer.name: "adam"
trainer.seed: 1
evaluator.batch_size: 16
"""
    )


@pytest.mark.usefixtures("_trained")
def test_a_variant_may_have_other_options_and_keeps_those_of_the_config_that_it_varies():
    artifacts = Artifacts.open()
    config = "configs/training/trained.yaml"
    one = write_variant(config, ["trainer.rank=16", "epochs=5"], artifacts)
    two = write_variant(str(one), ["trainer.seed=7"], artifacts)
    file = read_config_file(str(two))
    assert (file.trainer.options["rank"], file.trainer.seed, file.config.epochs) == (16, 7, 5)
    assert file.changed_options == {"trainer.rank": 16, "trainer.seed": 7}


@pytest.mark.usefixtures("_trained")
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("trainer.rank: []", "2: trainer.rank: expected a list of values, found an empty list."),
        ("trainer.rank: [4, 4]", "2: trainer.rank: duplicate value 4."),
        ("trainer.rank: [.nan]", "2: trainer.rank: expected a finite number, found nan."),
        ("trainr.rank: [4]", "2: unknown key 'trainr.rank', the keys are "),
        ("trainer.: [4]", "2: unknown key 'trainer.', the keys are "),
        ("trainer.seed: [-1]", " trainer.seed: expected an integer >= 0, found -1."),
        ("trainer.rank.x: [4]", " trainer.rank: expected a mapping, found 8."),
        (
            "trainer.optmizer.name: [a]",
            " trainer.optmizer: the base config has no such option. Nearest: optimizer.",
        ),
        (
            "trainer.use: [simulated]",
            " trainer.use: only the seed and the options of a trainer may vary. Remove this key.",
        ),
        (
            "trainer.options.rank: [4]",
            " trainer.options.rank: only the seed and the options of a trainer may vary. "
            "Write `trainer.rank`.",
        ),
        (
            "trainer.optimizer: [{}]\ntrainer.optimizer.name: [a]",
            "2: trainer.optimizer: contains trainer.optimizer.name. Vary one of the two.",
        ),
    ],
)
def test_options_that_are_not_valid_are_named(line, fault):
    found = message_of(f"base_config: configs/training/trained.yaml\n{line}\n")
    assert found.startswith(f"grid.yaml:{fault}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.end", "a \u2028 b \x85 c"),  # line ends in YAML
        ("trainer.end", "\x7f\x9f\ufeff\uffff\xa0 \U0001f600 \\n"),
        ("trainer.rank ", 4),
    ],
)
@pytest.mark.usefixtures("_trained")
def test_a_config_of_a_grid_has_the_options_of_the_grid_to_the_character(key, value):
    grid = f"base_config: configs/training/trained.yaml\n{json.dumps(key)}: [{json.dumps(value)}]\n"
    Path("grid.yaml").write_text(grid.replace("\\ud83d\\ude00", "\U0001f600"))
    [(path, digest)] = write_grid("grid.yaml", Artifacts.open()).items()
    assert read_config_file(path, digest).changed_options == {key: value}


@pytest.mark.parametrize("key", ["trainer.rank", "evaluator.seed"])
def test_options_of_a_component_that_the_base_config_does_not_name_are_refused(key):
    kind = key.partition(".")[0]
    reason = (
        f"{key}: configs/training/mistral_finetune.yaml has no {kind}, so it has no options. "
        f"Remove this key, or add the {kind} there."
    )
    assert message_of(f"{BASE_LINE}{key}: [4]\n") == f"grid.yaml: {reason}"
    with pytest.raises(ConfigError) as caught:
        config = "configs/training/mistral_finetune.yaml"
        write_variant(config, [f"{key}=4"], Artifacts.open())
    assert str(caught.value) == f"setting {reason}"


@pytest.mark.usefixtures("_trained")
def test_a_config_that_people_edit_has_its_options_in_the_mapping_of_the_trainer():
    path = Path("configs/training/trained.yaml")
    path.write_text(TRAINED + "trainer.rank: 4\ntrainer.seed: 2\n")
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    assert str(caught.value) == (
        f"{path}:13: trainer.rank: expected a mapping. Write it as "
        "`trainer: {options: {rank: ...}}`.\n"
        f"{path}:14: trainer.seed: expected a mapping. Write it as `trainer: {{seed: ...}}`."
    )


# --- Files of the configs ------------------------------------------------------------------------


def contents(path):
    return path.read(1 << 20)


def test_each_config_of_a_grid_is_written_to_a_file_that_parses_to_it(artifacts):
    Path("grid.yaml").write_text(GRID)
    files = write_grid("grid.yaml", artifacts)
    grid = [point.config for point in read_grid("grid.yaml")]
    names = [f"grid-{config.config_hash[:12]}.yaml" for config in grid]
    assert list(files) == [f"artifacts/sweeps/{name}" for name in names]
    written = [contents(artifacts.sweeps / name) for name in names]
    assert [parse_training_config(data, "c.yaml") for data in written] == grid
    assert list(files.values()) == [sha256(data) for data in written]


def test_the_files_of_a_grid_can_be_loaded():
    Path("grid.yaml").write_text(GRID)
    files = write_grid("grid.yaml", Artifacts.open())
    grid = [point.config for point in read_grid("grid.yaml")]
    assert [load_training_config(file) for file in files] == grid


def test_the_file_of_the_example_config_is_fixed(artifacts, files):
    before = files(artifacts)
    Path("grid.yaml").write_text(BASE_LINE)
    assert list(write_grid("grid.yaml", artifacts)) == ["artifacts/sweeps/grid-a19ae1b8918e.yaml"]
    assert files(artifacts) == {
        **before,
        "sweeps/grid-a19ae1b8918e.yaml": b"""\
base_model: "mistral-7b"
dataset_version: "dataset_v1"
learning_rate: 2e-05
epochs: 3
batch_size: 16
""",
    }


def test_a_grid_may_be_written_below_any_root(tree):
    Path("grid.yaml").write_text(BASE_LINE)
    files = write_grid("grid.yaml", Artifacts.open("elsewhere"))
    assert list(files) == ["elsewhere/sweeps/grid-a19ae1b8918e.yaml"]
    assert list(tree(Path("elsewhere"))) == ["sweeps/grid-a19ae1b8918e.yaml"]


def test_a_second_write_changes_no_byte_and_adds_new_configs(artifacts, files):
    Path("grid.yaml").write_text(GRID)
    first = write_grid("grid.yaml", artifacts)
    before = files(artifacts)
    assert write_grid("grid.yaml", artifacts) == first
    assert files(artifacts) == before
    Path("grid.yaml").write_text(GRID.replace("epochs: [2, 3]", "epochs: [3, 2, 4]"))
    second = write_grid("grid.yaml", artifacts)
    assert (len(second), set(first) - set(second)) == (6, set())
    written = files(artifacts)
    assert before.items() <= written.items()
    assert {f"artifacts/{key}" for key in written.keys() - before.keys()} == set(second) - set(
        first
    )
    assert len(written) == len(before) + 2


def test_a_second_write_does_not_write_existing_files():
    Path("grid.yaml").write_text(GRID)
    first = write_grid("grid.yaml", Artifacts.open())
    before = [(Path(file).read_bytes(), Path(file).stat()) for file in first]
    Path("grid.yaml").write_text(GRID.replace("epochs: [2, 3]", "epochs: [3, 2, 4]"))
    assert len(write_grid("grid.yaml", Artifacts.open())) == 6
    assert [(Path(file).read_bytes(), Path(file).stat()) for file in first] == before


def test_an_edited_config_of_a_grid_is_an_error_and_left_as_found(artifacts):
    Path("grid.yaml").write_text(BASE_LINE)
    [file] = write_grid("grid.yaml", artifacts)
    path = artifacts.sweeps / Path(file).name
    edited = contents(path).replace(b"epochs: 3", b"epochs: 4")
    path.replace(edited)
    with pytest.raises(CorruptFileError) as caught:
        write_grid("grid.yaml", artifacts)
    assert str(caught.value) == (
        "artifacts/sweeps/grid-a19ae1b8918e.yaml: edited after it was written. Left as found; "
        "delete the file to have it written again."
    )
    assert contents(path) == edited


def test_a_grid_with_a_fault_writes_nothing(artifacts, files):
    Path("grid.yaml").write_text(f"{BASE_LINE}epochs: [2, 0]\n")
    before = files(artifacts)
    with pytest.raises(ConfigError):
        write_grid("grid.yaml", artifacts)
    assert files(artifacts) == before
    assert not Path("artifacts/sweeps").exists()


def test_a_sweeps_folder_that_leads_out_of_the_root_is_refused(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    Path("artifacts/sweeps").symlink_to(outside)
    Path("grid.yaml").write_text(BASE_LINE)
    with pytest.raises(CorruptFileError, match=r"artifacts/sweeps: .* found a link") as caught:
        write_grid("grid.yaml", Artifacts.open())
    assert str(caught.value).endswith("Nothing was written; remove the link.")
    assert list(outside.iterdir()) == []


# --- Variants of a config -------------------------------------------------------------------------

CONFIG_FILE = "configs/training/mistral_finetune.yaml"


def test_a_variant_has_the_new_values_and_the_config_is_unchanged(artifacts):
    before = Path(CONFIG_FILE).read_bytes()
    file = write_variant(CONFIG_FILE, ["learning_rate=1e-4", "base_model='a b'"], artifacts)
    config = replace(BASE, learning_rate=1e-4, base_model="a b")
    assert file.key == f"sweeps/mistral_finetune-{config.config_hash[:12]}.yaml"
    assert parse_training_config(file.read(1 << 20), file) == config
    assert Path(CONFIG_FILE).read_bytes() == before


def test_a_variant_and_the_config_of_a_grid_with_its_values_are_one_file(artifacts, files):
    Path("mistral_finetune.yaml").write_text(f"{BASE_LINE}epochs: 4\n")
    [name] = write_grid("mistral_finetune.yaml", artifacts)
    before = files(artifacts)
    assert str(write_variant(CONFIG_FILE, ["epochs=4"], artifacts)) == name
    assert files(artifacts) == before


@given(config_values)
def test_a_value_of_a_setting_is_parsed_as_in_a_config(values):
    lines = as_yaml(values).decode().removesuffix("\n").split("\n")
    settings = [line.replace(": ", "=", 1) for line in lines]
    with TemporaryDirectory() as folder:
        file = write_variant(CONFIG_FILE, settings, Artifacts.open(folder))
        assert load_training_config(str(file)) == TrainingConfig(**values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["epoch=4"], "setting 'epoch=4': unknown key 'epoch', did you mean 'epochs'?"),
        (["dropout=1"], f"setting 'dropout=1': unknown key 'dropout', the keys are {ALL_KEYS}."),
        (["epochs"], "setting 'epochs': expected key=value. Write e.g. `epochs=3`."),
        (["epochs="], "setting 'epochs=': expected an integer >= 1, found null."),
        (["epochs=true"], "setting 'epochs=true': expected an integer >= 1, found true."),
        (["epochs=3.0"], "setting 'epochs=3.0': expected an integer >= 1, found 3.0."),
        (["epochs=[3]"], "setting 'epochs=[3]': expected an integer >= 1, found a list."),
        (["epochs=3", "epochs=3"], "setting 'epochs=3': duplicate key. Remove one of the two."),
        (
            ["epochs=3\nbatch_size: 4"],
            "setting 'epochs=3\\nbatch_size: 4': expected one value. Write e.g. `epochs=3`.",
        ),
        (
            ["{epochs=3, batch_size: 4}"],
            "setting '{epochs=3, batch_size: 4}': expected one value. Write e.g. `epochs=3`.",
        ),
        (
            ["epochs=!!int 3"],
            "setting 'epochs=!!int 3': not valid YAML: tags such as !!int are not supported. "
            "Remove the tag.",
        ),
        (
            ["epoch=1", "batch_size=0"],
            "setting 'epoch=1': unknown key 'epoch', did you mean 'epochs'?\n"
            "setting 'batch_size=0': expected an integer >= 1, found 0.",
        ),
    ],
)
def test_a_setting_that_is_not_valid_is_refused_and_nothing_is_written(
    artifacts, files, settings, message
):
    before = files(artifacts)
    with pytest.raises(ConfigError) as caught:
        write_variant(CONFIG_FILE, settings, artifacts)
    assert str(caught.value) == message
    assert files(artifacts) == before


# --- Files and patterns --------------------------------------------------------------------------


@pytest.fixture
def _configs():
    for name in ("b.yaml", "a.yaml", "deep/c.yaml", "notes.txt"):
        path = Path("configs/training", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(config_text(BASE))


@pytest.mark.usefixtures("_configs")
@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], []),
        (["*.yaml"], ["a.yaml", "b.yaml", "mistral_finetune.yaml"]),
        (["**/*.yaml"], ["a.yaml", "b.yaml", "deep/c.yaml", "mistral_finetune.yaml"]),
        (["b.yaml", "a.yaml"], ["b.yaml", "a.yaml"]),
        (["b.yaml", "[ab].yaml", "b.yaml"], ["b.yaml", "a.yaml"]),
        (["none.yaml", "a.yaml"], ["none.yaml", "a.yaml"]),
    ],
    ids=["none", "a pattern", "any depth", "order given", "duplicates", "a missing file"],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_each_file_is_found_once_in_the_order_given_and_then_by_name(
    project, patterns, found, absolute
):
    folder = project / "configs/training" if absolute else Path("configs/training")
    assert find_configs([f"{folder}/{pattern}" for pattern in patterns]) == [
        f"{folder}/{name}" for name in found
    ]


def test_the_error_for_a_pattern_without_matches_names_the_pattern():
    with pytest.raises(FileNotFoundError) as caught:
        find_configs(["configs/training/*.yaml", "configs/training/x*.yaml"])
    assert str(caught.value) == "configs/training/x*.yaml: no training config matches this pattern."


@pytest.mark.parametrize("kind", sorted(WRONG_FILES))
def test_the_error_for_a_file_named_by_mistake_quotes_at_most_its_first_key(kind):
    data = WRONG_FILES[kind]
    Path("wrong.yaml").write_bytes(data)
    for grid in (data, data + b"\nepochs: [1]\n", b"base_config: wrong.yaml\n"):
        Path("grid.yaml").write_bytes(grid)
        with pytest.raises(ConfigError) as caught:
            read_grid("grid.yaml")
        assert "S3CRET" not in str(caught.value)
        assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("path", ['"a\\nb"', "a" * 1025, '"\\0"'])
def test_a_base_config_that_is_no_path_is_quoted_truncated(path):
    message = message_of(f"base_config: {path}\n")
    assert message.startswith(
        "grid.yaml:1: base_config: expected the path of a training config, found "
    )
    assert len(message) < 300


def test_links_that_lead_to_their_own_folder_are_not_followed_by_a_pattern():
    for name in ("one", "two", "three"):
        Path("configs", name).symlink_to(".")
    found = ["configs/training/mistral_finetune.yaml"]
    for pattern in ("configs/**/*.yaml", "./configs/**/*.yaml", "**/*.yaml", "**/*finetune*"):
        prefix = "./" if pattern.startswith("./") else ""
        assert find_configs([pattern]) == [prefix + each for each in found]


def test_a_recursive_pattern_finds_the_same_files_as_glob():
    for name in (
        "a/b/c.yaml",
        "a/c.yaml",
        "a/.hidden/c.yaml",
        "a/.c.yaml",
        "[x]/b/c.yaml",
        "c.yaml",
    ):
        Path("t", name).parent.mkdir(parents=True, exist_ok=True)
        Path("t", name).touch()
    for pattern in (
        "t/**/*.yaml",
        "t/**/b/*.yaml",
        "t/*/**/c.yaml",
        "t/**/b/**/*.yaml",
        "t/**",
        "**/c.yaml",
        f"{Path.cwd()}/t/**/c.yaml",
    ):
        expected = {path for path in glob(pattern, recursive=True) if path != "t/"}  # noqa: PTH207
        assert set(find_configs([pattern])) == expected, pattern


CLOSED = """
from pathlib import Path
from src.training.grids import find_configs
from tests.privileges import drop_privileges
Path("configs/closed").mkdir(mode=0)
drop_privileges()
try:
    find_configs(["configs/**/*.yaml"])
except PermissionError as error:
    print(error)
"""


def test_a_folder_that_a_pattern_cannot_list_is_named(start):
    assert start(CLOSED).end() == "[Errno 13] Permission denied: 'configs/closed'"
