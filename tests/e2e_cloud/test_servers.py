"""Tests on other object stores: two that heed the conditions of writes, and two that do not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.storage import open_path
from tests.checkout import ROOT
from tests.e2e.conftest import eventually
from tests.e2e_cloud.servers import SERVERS, running_store

CLOSING = (
    "Without conditional writes, concurrent runs lose each other's models. Nothing was written; "
    "use another server, or a newer version of it."
)
STARTED_AND_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.e2e_cloud.servers import running_store

with running_store(sys.argv[1], Path(sys.argv[2])) as store:
    print(store.process, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["ministack", "azurite"])
def test_the_contract_of_the_store_holds_on(name, tmp_path):
    with running_store(name, tmp_path) as store:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/storage/test_contract.py", "-k", "bucket"],
            cwd=ROOT,
            env={**os.environ, **store.variables, "TEST_BUCKET": store.url},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("localbucket", "the server replaces a file that was written since it was read"),
        ("s3rver", "the server replaces a file that must not exist"),
    ],
)
def test_a_server_that_ignores_conditions_is_refused(name, reason, tmp_path, monkeypatch):
    with running_store(name, tmp_path) as store:
        for variable, value in store.variables.items():
            monkeypatch.setenv(variable, value)
        root = open_path(f"{store.url}/artifacts")
        with pytest.raises(PermissionError) as caught:
            (root / "models/registry.json").create(b"{}")
        assert str(caught.value) == f"s3://bucket/artifacts: {reason}. {CLOSING}"
        found = {file.key.partition("/")[0] for file in root.files()}
        assert found <= {".probe"}  # localbucket deletes nothing in the way obstore asks for


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_ends_with_the_tests_if_they_are_killed(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STARTED_AND_KILLED, name, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL
    eventually(lambda: not is_running(int(done.stdout)))


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
