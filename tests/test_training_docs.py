"""The examples of docs/training.md run as they are printed."""

import re
from pathlib import Path

import pytest

from src.lineage.verify import verdict, verify_all
from src.training.pipeline import run_training_pipeline
from tests.docs import DOCS, files

TEXT = (DOCS / "training.md").read_text()
FILES = files("training.md")
CONFIGS = {"mine": 1 / 10.1, "command": 1 / 3.1}


@pytest.mark.parametrize("config", CONFIGS)
def test_the_trainers_and_evaluators_of_the_page_train_and_measure_models(config, project):
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    metrics = run_training_pipeline(f"configs/training/{config}.yaml")["metrics"]
    assert metrics == {"loss": pytest.approx(CONFIGS[config])}
    [(_, checks)] = verify_all(reevaluate=True)
    assert verdict(checks) == "MATCH"


def test_the_script_for_axolotl_is_valid_python():
    compile(FILES["axolotl_train.py"], "axolotl_train.py", "exec")


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
