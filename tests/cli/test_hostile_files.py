"""Something other than the expected file, in every place, for every command without an engine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.training.pipeline import run_training_pipeline
from tests.conftest import REPOSITORY
from tests.hostile import KINDS, PLACES, READERS, SECRET

COMMANDS = {
    "models": ["models"],
    "show": ["show", "model_v1"],
    "compare": ["compare", "model_v1", "model_v2"],
    "trace": ["trace", "--dataset", "dataset_v1"],
    "verify": ["verify", "--all"],
}
MEMORY = 512 << 20  # bytes that a case may add

CASES = """
import json, os, resource, shutil, sys
from pathlib import Path
from click.testing import CliRunner
from cli.main import main
from src.training.pipeline import run_training_pipeline
from tests.hostile import PLACES, put
from tests.privileges import drop_privileges

kind, memory, commands = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
drop_privileges()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)

def call(command):
    if command != "run":
        done = CliRunner().invoke(main, commands[command], prog_name="llm-train")
        if done.exc_info and not isinstance(done.exception, (SystemExit, type(None))):
            return 99, repr(done.exception)
        return done.exit_code, done.output
    try:
        for version in ("model_v1", "model_v3"):
            run_training_pipeline("config.yaml", version)
    except (OSError, ValueError) as error:
        return 1, f"error: {error}"
    return 0, ""

template = Path.cwd()
for place, name in PLACES.items():
    for command in (*commands, "run"):
        folder = template.with_name("case")
        shutil.copytree(template, folder)
        os.chdir(folder)
        path = Path(name)
        if kind == "a closed folder":
            path.parent.chmod(0)
        else:
            put(kind, path)
        print(json.dumps([place, command, *call(command)]), flush=True)
        os.chdir(template)
        (folder / name).parent.chmod(0o700)
        shutil.rmtree(folder)
"""


@pytest.fixture
def template(models, tmp_path) -> Path:
    """The project of `models`, with its config at the place `config`."""
    shutil.copy("one.yaml", "config.yaml")
    shutil.rmtree("artifacts/models")
    shutil.rmtree("artifacts/evaluations")
    for version in ("model_v1", "model_v2"):
        run_training_pipeline("config.yaml", version)
    return models


@pytest.mark.parametrize("kind", [*KINDS, "a closed folder"])
def test_anything_in_place_of_a_file_is_one_error_of_the_commands_that_read_it(kind, template):
    done = subprocess.run(
        [sys.executable, "-c", CASES, kind, str(MEMORY), json.dumps(COMMANDS)],
        capture_output=True,
        text=True,
        timeout=600,  # against a hang; the work takes seconds
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(PLACES) * (len(COMMANDS) + 1)
    for place, command, code, output in results:
        case = f"{kind} at {place}, {command}: {code} {output}"
        reads = command in READERS[place]
        if kind in ("a huge file", "a number") and place in ("lock", "temporary file"):
            reads = False  # a lock has no contents, and those of a temporary file are replaced
        if (kind, place, command) == ("a link", "dataset metadata", "run"):
            reads = False  # a dataset may be a link, and this one records nothing of the data
        if kind == "a closed folder":
            assert code == 1 or not reads, case
        elif kind == "a number" and (place, command) == ("evaluation", "run"):
            assert code == 0, case  # a regular file that differs is restored
        else:
            assert code in ((1,) if reads else (0,)), case
        assert SECRET not in output, case
        if code:
            assert "Traceback" not in output, case
            assert "rror: " in output or command == "verify", case
            assert len(output) < 5000, case
