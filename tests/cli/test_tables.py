import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from cli import tables
from tests.conftest import REPOSITORY


def on_terminal(code: str, *arguments: str, columns: int = 80) -> str:
    """Run Python with a terminal of its own for stdout and stderr; give what it shows there."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=its, stderr=its, env=env
    )
    os.close(its)
    shown = b""
    with suppress(OSError):  # Linux tells the end of a terminal as an error
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    process.wait()
    return shown.decode().replace("\r\n", "\n")


def lines(shown: str) -> list[str]:
    """Give the lines of what a terminal shows, without colours and space at the end."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()]


DRAW = """
from cli.tables import draw
draw(("a text", "a number"), [(" ".join(["word"] * 8), 1), ("x" * 20, None)])
"""


def test_on_a_terminal_texts_are_folded_to_its_width():
    shown = on_terminal(DRAW, columns=24)
    assert "\x1b[1m" in shown
    assert lines(shown) == [
        "a text          a number",
        "word word word         1",
        "word word word",
        "word word",
        "xxxxxxxxxxxxxx         -",
        "xxxxxx",
    ]


def test_on_a_terminal_too_narrow_for_numbers_and_words_nothing_is_folded():
    shown = on_terminal(DRAW, columns=11)
    assert shown.splitlines() == [
        "a text                                   a number",
        "word word word word word word word word         1",
        "xxxxxxxxxxxxxxxxxxxx                            -",
    ]


def test_nothing_in_a_value_is_taken_for_a_command_to_the_terminal():
    code = "from cli.tables import draw; draw(['name'], [['[bold]x[/bold] :smile: \\x1b[31m']])"
    assert lines(on_terminal(code)) == ["name", '"[bold]x[/bold] :smile: \\u001b[31m"']


@pytest.mark.parametrize("rows", [1, tables.MOST_FITTED_ROWS + 1])
def test_in_a_pipe_a_row_is_one_line(capsys, rows):
    tables.draw(["one", "two"], [["a" * 300, 1.5]] * rows)
    assert capsys.readouterr().out == (f"one{' ' * 299}two\n" + f"{'a' * 300}  1.5\n" * rows)


def test_many_rows_are_not_fitted_for_that_would_take_seconds():
    code = f"from cli.tables import draw; draw(['n'], [['x' * 90]] * {tables.MOST_FITTED_ROWS + 1})"
    assert "\x1b" not in on_terminal(code)
