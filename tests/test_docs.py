"""The documentation: every command and block of Python in it runs, and its lists are complete."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from src.records import layout
from src.training.pipeline import run_training_pipeline
from src.training.settings import TrainingConfig
from tests.checkout import ROOT, copy_project, new_repository, use_environment
from tests.docs import DOCS, RUN_ELSEWHERE, Terminal, blocks, files, follow

PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
FOLLOWED = {
    "operations.md": "tests/e2e/test_operations.py",
    "reference/configs.md": "tests/test_docs.py",
    "reference/python.md": "tests/test_docs.py",
    "training.md": "tests/test_docs.py",
    "tutorial.md": "tests/e2e/test_tutorial.py",
    "upstream.md": "tests/test_upstream.py",
    "usage.md": "tests/e2e/test_usage.py",
}


@pytest.fixture
def project(tmp_path):
    """A clean checkout of the project, in the environment of this one."""
    return use_environment(new_repository(copy_project(tmp_path / "project")))


@pytest.mark.parametrize(
    "page", [page for page, test in FOLLOWED.items() if test == "tests/test_docs.py"]
)
def test_the_commands_and_the_python_of_a_page_do_what_it_says(page, project):
    terminal = Terminal(project, code=project)
    try:
        assert list(follow(blocks(page), terminal))
        terminal.end()
    finally:
        terminal.kill()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_is_run_or_is_output(page):
    for block in blocks(page):
        if block.title and not block.is_file:
            assert f'blocks("{page}")' in (ROOT / RUN_ELSEWHERE[block.title]).read_text(), block
        assert block.language in {"sh", "console", "python", "yaml", "text"}, block
        assert block.language in {"text", "yaml"} or page in FOLLOWED, block
        if block.language == "yaml":
            assert yaml.safe_load(block.text), block


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_code_outside_of_a_fence(page):
    text = re.sub(r"^```.*?^```$", "", (DOCS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^::: .*(?:\n    .*)*", "", text, flags=re.MULTILINE)  # a generated reference
    assert re.findall(r"(?:^|\n\n)    .*", text) == []


@pytest.mark.parametrize(("page", "test"), FOLLOWED.items())
def test_a_page_with_commands_is_followed_by_the_test_that_is_named(page, test):
    assert (DOCS / page).exists()
    assert f'"{page}"' in (ROOT / test).read_text()


def test_every_decision_is_listed_with_its_title():
    index = (DOCS / "decisions/index.md").read_text()
    for path in DOCS.glob("decisions/0*.md"):
        number, title = re.match(r"# (\d+)\. (.*)\n", path.read_text()).groups()
        assert f"| {number} | [{title}]({path.name})" in index


def test_every_key_of_a_config_is_on_its_page():
    page = (DOCS / "reference/configs.md").read_text()
    for field in fields(TrainingConfig):
        assert f"\n| `{field.name}` |" in page


# --- Files ---------------------------------------------------------------------------------------

FILES = (DOCS / "reference/files.md").read_text()


def section(title: str) -> str:
    """Return the section of the page with that heading."""
    return FILES.split(f"\n## {title}\n")[1].split("\n## ")[0]


def names(value) -> set[str]:
    """Return the keys of a JSON value and of the values in it."""
    if isinstance(value, dict):
        return set(value).union(*map(names, value.values()))
    return set().union(*map(names, value)) if isinstance(value, list) else set()


def test_every_field_of_a_recorded_file_is_on_the_page(project, monkeypatch):
    monkeypatch.chdir(project)
    for name, text in files("training.md").items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    run_training_pipeline("configs/training/mistral_finetune.yaml", "simulated")
    run_training_pipeline("configs/training/mine.yaml", "trained")
    sections = {
        "datasets/dataset_v1/metadata.json": "metadata.json of a dataset",
        "models/registry.json": "registry.json",
        **{
            f"{folder}/{version}/{name}": name if name != "metadata.json" else f"{name} of a model"
            for version in ("simulated", "trained")
            for folder, name in (
                ("models", "metadata.json"),
                ("models", "provenance.json"),
                ("evaluations", "evaluation.json"),
                ("evaluations", "provenance.json"),
            )
        },
    }
    for file, title in sections.items():
        value = json.loads((project / "artifacts" / file).read_text())
        if file == "models/registry.json":
            value = list(value)
        for dependency in dependencies(value):
            assert f"`{dependency['name']}`" in section(title), (file, dependency["name"])
        value = without_open_ended(value)
        missing = {name for name in names(value) if not re.search(rf"\b{name}\b", section(title))}
        assert missing == set(), file


def test_every_file_and_folder_of_the_layout_is_on_the_page():
    table = FILES.split("\n## ")[0]
    names = [name for name in layout.__all__ if name.endswith(("_FILE", "_FOLDER"))]
    assert len(names) > 10
    assert [name for name in names if getattr(layout, name) not in table] == []


def dependencies(value) -> list[dict]:
    if "predicate" not in value:
        return []
    return value["predicate"]["buildDefinition"]["resolvedDependencies"]


def without_open_ended(value):
    """Return a record without the values whose keys are names: of packages, options, metrics."""
    if isinstance(value, list):
        return [without_open_ended(each) for each in value]
    if not isinstance(value, dict):
        return value
    is_open = {"config", "generator", "metrics", "options", "better", "resolvedDependencies"}
    return {
        key: None if key in is_open or key == "version" else without_open_ended(each)
        for key, each in value.items()
    }
