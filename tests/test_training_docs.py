"""The examples of docs/training.md run as they are printed."""

import re
from pathlib import Path

import pytest
import yaml

from src.lineage.verify import verdict, verify_all
from src.training.pipeline import run_training_pipeline
from tests.conftest import REPOSITORY
from tests.trainers import CONFIG_PATH

TEXT = (REPOSITORY / "docs/training.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(
    ("form", "loss"), [("function", 1 / 10.1), ("command", 1 / 3.1)], ids=["function", "command"]
)
def test_the_trainer_and_the_evaluator_of_the_page_train_and_measure_a_model(form, loss, project):
    of_function, _, of_command = map(yaml.safe_load, blocks("yaml"))
    module, train, measure, _ = blocks("python")
    Path("my_trainers.py").write_text(module)
    Path("train.py").write_text(train)
    Path("measure.py").write_text(measure)
    config = of_function | (of_command if form == "command" else {})
    Path(CONFIG_PATH).write_text(yaml.safe_dump(config))
    metrics = run_training_pipeline(CONFIG_PATH)["metrics"]
    assert metrics == {"loss": pytest.approx(loss)}
    [(_, checks)] = verify_all(reevaluate=True)
    assert verdict(checks) == "MATCH"


def test_the_script_for_axolotl_is_valid_python():
    [*_, script] = blocks("python")
    assert "axolotl" in script
    compile(script, "axolotl_train.py", "exec")


def test_every_option_of_lora_is_on_the_page():
    from src.finetuning.options import trainer_options

    section = TEXT.split("Options of `lora`:")[1].split("Under `run`")[0]
    assert set(first_cells(section)) == trainer_options({}).keys()


def first_cells(section):
    """Return the names in the first cells of a table."""
    return re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.M)))


def test_every_key_and_attribute_of_the_page_exists():
    from src.training.component_config import COMPONENT_KEYS

    section = TEXT.split("## Keys of")[1].split("A package installs")[0]
    assert set(first_cells(section)) == {*COMPONENT_KEYS["trainer"], *COMPONENT_KEYS["evaluator"]}
