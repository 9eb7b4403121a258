"""docs/tutorial.md, done as it says on a fresh clone, up to the page in a browser."""

import json
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.checkout import copy_project, new_repository, use_environment
from tests.docs import Terminal, blocks, follow

PAGE = blocks("tutorial.md")


@pytest.fixture
def reader(tmp_path):
    """A terminal in an empty folder, and what the reader puts in place of texts of the page."""
    upstream = new_repository(copy_project(tmp_path / "upstream"))
    (tmp_path / "home").mkdir()
    terminal = Terminal(tmp_path / "home", code=tmp_path / "home/training")
    yield terminal, {"<address of the repository>": str(upstream)}
    terminal.kill()


def assert_page_opens(path, model):
    """Open the report in a browser that has no network, and check that it lists a model."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_context(offline=True).new_page()
        page.goto(path.as_uri())
        expect(page.get_by_role("link", name=model, exact=True).first).to_be_visible()
        browser.close()


def test_a_reader_gets_from_the_data_of_the_page_to_the_report(reader):
    terminal, values = reader
    for block, _ in follow(PAGE, terminal, values):
        if "git clone" in block.text:
            use_environment(terminal.folder())
    assert_page_opens(terminal.folder() / "report.html", "favourite")
    terminal.end()


def test_a_reader_gets_from_other_data_to_the_report(reader):
    terminal, values = reader
    for block, _ in follow(with_other_data(PAGE), terminal, values, is_output_compared=False):
        if "git clone" in block.text:
            folder = use_environment(terminal.folder())
            lines = [json.dumps({"id": n, "text": "é" * (n % 7), "tags": [n]}) for n in range(1000)]
            (folder / "my.jsonl").write_text("".join(f"{line}\r\n" for line in lines))
    assert_page_opens(folder / "report.html", "favourite")
    terminal.end()


def with_other_data(page):
    """Return the blocks of the page without those that make data, run a config again, or sweep."""
    left_out = ("import json\n", "make_data.py", "2>&1 | grep", "llm-train sweep")
    return [block for block in page if not any(text in block.text for text in left_out)]
