"""Tests of the check of what the components of configs need."""

from pathlib import Path

import pytest

from src.components.component import Component, Execution
from src.diagnosis.configs import check_configs, missing_code
from src.diagnosis.finding import Finding
from tests.examples import CONFIG
from tests.hostile import put

FOLDER = Path("configs/training")
NO_PYTHON = (
    "expected a Python interpreter, found no file 'none/python'. Create its environment; "
    "`make train-env` creates .venv-train."
)


def write(name, text=""):
    (FOLDER / name).write_text(CONFIG + text)


def test_configs_that_can_run_here_are_counted(project):
    write("with_trainer.yaml", "trainer: {use: lora}\nevaluator: {use: held-out-loss}\n")
    assert [*check_configs(FOLDER)] == [
        Finding(check="configs", level="OK", found="2 in configs/training, all can run here.")
    ]


def test_a_reason_is_one_line_that_names_its_configs(project):
    python = "{use: mine, python: none/python}"
    write("a.yaml", f"trainer: {python}\nevaluator: {python}\n")
    write("b.yaml", f"evaluator: {python}\n")
    write("c.yaml", "trainer: {use: mine}\n")
    assert [each.found for each in check_configs(FOLDER)] == [
        f"a.yaml, b.yaml: {NO_PYTHON}",
        "c.yaml: trainer.use: found no installed component 'mine'. Correct the config, or install "
        "what it names.",
    ]


def test_a_config_that_is_not_valid_is_named_with_its_first_fault(project):
    (FOLDER / "bad.yaml").write_text(CONFIG.replace("epochs: 3", "epochs: 0\nx: 1"))
    [finding] = check_configs(FOLDER)
    assert (finding.level, finding.found) == (
        "WARNING",
        "bad.yaml: configs/training/bad.yaml:5: epochs: expected an integer >= 1, found 0. Write "
        "e.g. `epochs: 3`.",
    )


@pytest.mark.parametrize("kind", ["a FIFO", "a circle", "a folder", "a huge file"])
def test_anything_in_place_of_a_config_is_a_warning(project, kind):
    put(kind, FOLDER / "hostile.yaml")
    [finding] = check_configs(FOLDER)
    assert (finding.level, finding.found.startswith("hostile.yaml: ")) == ("WARNING", True)


@pytest.mark.parametrize("folder", ["none", "artifacts"])
def test_a_folder_without_configs_is_named(project, folder):
    [finding] = check_configs(Path(folder))
    assert (finding.level, finding.found) == ("OK", f"no configs in {project}/{folder}.")


@pytest.mark.parametrize(
    ("component", "reason"),
    [
        (Component(use="lora"), None),
        (Component(use="my_module:train"), None),
        (Component(use="my_package.inner:train"), None),
        (Component(use="json.decoder:JSONDecoder"), None),
        (Component(use="yaml.nodes:Node"), None),
        (Component(use="other", execution=Execution(python="python")), None),
        (Component(use="command", argv=("sh", "-c", "true")), None),
        (Component(use="command", argv=("./program",)), None),
        (Component(use="held-out-loss"), "trainer.use: found no installed component 'held-out-"),
        (Component(use="no_module:train"), "trainer.use: found no module 'no_module'."),
        (Component(use="my_package.none:train"), "trainer.use: found no module 'my_package.none'"),
        (Component(use="my_module.none:train"), "trainer.use: found no module 'my_module.none'"),
        (Component(use="command", argv=("no-such-program",)), "trainer.argv: found no program"),
        (Component(use="lora", execution=Execution(python="none/python")), NO_PYTHON),
    ],
    ids=str,
)
def test_what_a_component_lacks_is_found_without_an_import(project, component, reason):
    Path("my_module.py").write_text("raise SystemExit('imported')")
    Path("my_package").mkdir()
    Path("my_package/__init__.py").write_text("raise SystemExit('imported')")
    Path("my_package/inner.py").write_text("raise SystemExit('imported')")
    for name in ("python", "program"):
        Path(name).touch(mode=0o755)
    found = missing_code(component, "trainer")
    assert (found is None) is (reason is None)
    assert (found or "").startswith(reason or "")
