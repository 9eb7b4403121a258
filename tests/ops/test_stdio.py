"""Tests of closed standard streams."""

import json

CLOSED = """
import json, os, subprocess, sys
for number, name in enumerate(("stdin", "stdout", "stderr")):
    os.close(number)
    setattr(sys, name, None)
from ops.stdio import open_standard_files
open_standard_files()
with open("found.json", "w") as file:
    print("lost")
    found = {
        "numbers are taken": file.fileno() > 2,
        "child": subprocess.run([sys.executable, "-c", "print(1)"]).returncode,
        "is a terminal": sys.stdout.isatty(),
        "input": sys.stdin.read(),
        "targets": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
    }
    json.dump(found, file)
"""
OPEN = """
import sys
from ops.stdio import open_standard_files
before = sys.stdin, sys.stdout, sys.stderr
open_standard_files()
print(before == (sys.stdin, sys.stdout, sys.stderr))
"""


def test_closed_standard_files_are_replaced_by_the_null_device(project, start):
    start(CLOSED).end()
    assert json.loads((project / "found.json").read_text()) == {
        "numbers are taken": True,
        "child": 0,
        "is a terminal": False,
        "input": "",
        "targets": ["/dev/null"] * 3,
    }


def test_open_standard_files_are_left_as_they_are(start):
    assert start(OPEN).end() == "True"
