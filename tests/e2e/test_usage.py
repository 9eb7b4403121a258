"""docs/usage.md, done as it says; its sweeps start servers, and its report needs an extra."""

from tests.checkout import copy_project, new_repository, use_environment
from tests.docs import Terminal, blocks, follow


def test_the_commands_of_the_page_print_what_it_shows(tmp_path):
    project = use_environment(new_repository(copy_project(tmp_path / "project")))
    terminal = Terminal(project, code=project)
    try:
        assert list(follow(blocks("usage.md"), terminal))
        terminal.end()
    finally:
        terminal.kill()
