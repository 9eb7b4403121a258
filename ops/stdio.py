"""The standard streams of this process, which may be closed, e.g. by `>&-` in a shell."""

import os
import sys

__all__ = ["open_standard_files"]


def open_standard_files() -> None:
    """Open the null device in place of each of stdin, stdout and stderr that is closed.

    Otherwise the next file that this process opens gets its number, and a child process uses that
    file as its stdin, stdout or stderr. Call before other files are opened.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w"))  # noqa: SIM115
