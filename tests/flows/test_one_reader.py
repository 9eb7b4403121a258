"""Only the store opens files of an artifacts root; no name in a file is imported."""

import json

import pytest

from tests.flows.runs import python

WATCH = """
import os, sys

ROOT = os.path.realpath("artifacts") + "/"
READERS = ("src/storage/entry.py", "src/storage/folder.py", "src/storage/reading.py")
opened, imported, found = 0, [], []

def watch(event, arguments):
    global opened
    if event == "import":
        imported.append(arguments[0])
    if event != "open" or not isinstance(arguments[0], str | bytes):
        return
    path = os.path.join(os.getcwd(), os.fsdecode(arguments[0]))
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(os.path.dirname(os.__file__) + "/") and (
        "site-packages" not in frame.f_code.co_filename
    ):
        frame = frame.f_back
    if frame.f_code.co_filename.endswith(READERS):
        opened += 1  # by a name in an open folder
    elif path.startswith(ROOT):
        found.append((path, frame.f_code.co_filename, frame.f_lineno))

sys.addaudithook(watch)
"""
RUN = """
from pathlib import Path

from flows.audit_models import audit_models
from flows.compare_models import compare_models
from flows.training_pipeline import training_pipeline
from flows.training_sweep import training_sweep

def run_all():
    training_pipeline("config.yaml", "model_v1")
    [row] = training_sweep(["config.yaml"])["leaderboard"]
    audit_models()
    compare_models(["model_v1", row["model_version"]])
    assert not found, found
    assert opened > 40, opened

run_all()
if FORGED:
    for path in Path("artifacts/.cache").iterdir():
        path.write_text(FORGED)
opened = 0
imported.clear()
found.clear()
run_all()
if FORGED:
    named = [name for name in imported if name.partition(".")[0] in ("evil", "artifacts")]
    assert not named, named
"""
FORGED = json.dumps(
    {
        "metadata": {"serializer": {"type": "json", "object_decoder": "artifacts.evil.X"}},
        "result": '{"__class__": "evil.X", "data": {}}',
    }
)


@pytest.mark.parametrize("forged", ["", FORGED], ids=["cached", "forged"])
def test_only_the_store_opens_files_of_the_artifacts_root(project, server, forged):
    for folder in (project, project / "artifacts"):
        (folder / "evil.py").write_text("raise SystemExit('imported')\n")
    process = python(f"{WATCH}\nFORGED = {forged!r}\n{RUN}", env=server)
    output, _ = process.communicate()
    assert process.returncode == 0, output
