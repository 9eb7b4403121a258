"""docs/tutorial.md, done as it says: on a fresh clone, with the page's data and with other data."""

import pytest

from tests.checkout import copy_project, new_repository, use_environment
from tests.docs import Terminal, blocks, follow


@pytest.fixture
def reader(tmp_path):
    """A terminal in an empty folder, and the repository to clone."""
    upstream = new_repository(copy_project(tmp_path / "upstream"))
    (tmp_path / "home").mkdir()
    terminal = Terminal(tmp_path / "home", code=tmp_path / "home/training")
    yield terminal, {"<address of the repository>": str(upstream)}
    terminal.kill()


def test_the_tutorial_on_a_fresh_clone(reader):
    terminal, values = reader
    for block, _ in follow(blocks("tutorial.md"), terminal, values):
        if "git clone" in block.text:
            use_environment(terminal.folder())
    assert "<html" in (terminal.folder() / "report.html").read_text()
    terminal.end()
