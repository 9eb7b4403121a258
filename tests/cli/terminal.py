"""A pseudo-terminal for the tests of the command line."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

from tests.conftest import REPOSITORY

__all__ = ["lines", "on_terminal"]


def on_terminal(code: str, *arguments: str, columns: int = 80) -> str:
    """Run Python with a new terminal as stdout and stderr; return what it prints there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=slave, stderr=slave, env=env
    )
    os.close(slave)
    output = b""
    with suppress(OSError):  # Linux reports the end of a terminal as an error
        while data := os.read(master, 65536):
            output += data
    os.close(master)
    process.wait()
    return output.decode().replace("\r\n", "\n")


def lines(output: str) -> list[str]:
    """Return the lines of a terminal, without colours and trailing spaces."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", output).splitlines()]
