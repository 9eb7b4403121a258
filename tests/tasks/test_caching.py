import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect import flow
from prefect.logging import disable_run_logger
from prefect.results import ResultStore
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.states import Failed

from src.environment import CORE, source_digest
from src.supervision.errors import CommandError, CommandStartError, CommandTimeoutError
from tasks.caching import (
    TASKS,
    CacheDecision,
    DecisionLog,
    VerifiedResult,
    difference_reason,
    is_transient,
)
from tasks.load_config import load_config
from tasks.results import PlainSerializer, StepResults
from tests.conftest import CONFIG

UNCHANGED = "inputs, code and files are unchanged"
NO_RESULT = "no valid cached result for these inputs and this code"
ALTERED = "the cached result is unreadable or altered"
STALE = "artifacts/models/model_v1/metadata.json was changed"


# --- Retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), True),
        (TimeoutError("the lock is held"), True),
        (ConnectionError("connection refused"), True),
        (CommandError("exited with code 1"), True),
        (CommandStartError("no such program"), False),
        (CommandTimeoutError("still running"), False),
        (FileNotFoundError("no such file"), False),
        (PermissionError("permission denied"), False),
        (NotADirectoryError("not a directory"), False),
        (IsADirectoryError("is a directory"), False),
        (ValueError("bad input"), False),
        (KeyError("a bug"), False),
    ],
)
def test_an_io_error_other_than_a_missing_file_is_transient(error, expected):
    assert is_transient(None, None, Failed(data=error)) is expected


# --- Cache decisions -----------------------------------------------------------------------------


class Step:
    """A step whose cached result is read and written on a back end, without an engine.

    Attributes:
        reason: The reason why its result is stale, an error that the check raises, or `None`.
        checked: The cached results that were checked.
    """

    def __init__(self, artifacts):
        self.artifacts = artifacts
        self.reason = None
        self.checked = []
        self.policy = VerifiedResult(depends_on=self.depends_on, stale_reason=self.stale_reason)

    def depends_on(self, value):
        if value is None:
            raise FileNotFoundError("no such value")
        return [value]

    def stale_reason(self, result, value):
        self.checked.append(result)
        if isinstance(self.reason, Exception):
            raise self.reason
        return self.reason

    @property
    def store(self):
        """The results, as another process opens them."""
        storage = StepResults.in_folder(self.artifacts.cache)
        return ResultStore(
            result_storage=storage, serializer=PlainSerializer(), cache_result_in_memory=False
        )

    def decide(self, value="value"):
        """Return the cache key, and the decision; `None` if none was recorded."""
        task = SimpleNamespace(task=SimpleNamespace(name="step"), result_store=self.store)
        with DecisionLog().recording() as log, disable_run_logger():
            key = self.policy.compute_key(task, {"value": value}, {})
        return key, log.steps.get("step")

    def run(self, value="value"):
        """Return the decision; write the result if the engine would run the step."""
        key, decision = self.decide(value)
        assert self.store.exists(key) is decision.is_cached
        if not decision.is_cached:
            self.store.write(f"result of {value}", key)
        return decision


@pytest.fixture
def step(artifacts):
    """A step on each back end in turn."""
    return Step(artifacts)


def test_a_step_without_a_cached_result_runs(step):
    assert step.run() == CacheDecision(is_cached=False, reason=NO_RESULT)
    assert step.checked == []


def test_a_valid_cached_result_is_served(step):
    step.run()
    for _ in range(2):
        assert step.run() == CacheDecision(is_cached=True, reason=UNCHANGED)
    assert step.checked == ["result of value"] * 2


def test_other_inputs_have_another_cached_result(step):
    step.run("one")
    assert step.run("two") == CacheDecision(is_cached=False, reason=NO_RESULT)
    assert step.run("one") == CacheDecision(is_cached=True, reason=UNCHANGED)


def test_a_stale_result_expires_and_the_step_runs(step):
    step.run()
    step.reason = STALE
    assert step.run() == CacheDecision(is_cached=False, reason=STALE)
    step.reason = None
    assert step.run() == CacheDecision(is_cached=True, reason=UNCHANGED)


@pytest.mark.parametrize("error", [OSError("cannot be read"), ValueError("cannot be parsed")])
def test_an_error_of_the_check_is_the_reason(step, error):
    step.run()
    step.reason = error
    assert step.run() == CacheDecision(is_cached=False, reason=str(error))


def test_a_stale_result_is_kept_until_the_step_has_written_another(step):
    step.run()
    step.reason = STALE
    _, decision = step.decide()
    assert decision == CacheDecision(is_cached=False, reason=STALE)
    # The step failed: no result was written.
    step.reason = None
    assert step.run() == CacheDecision(is_cached=True, reason=UNCHANGED)


def test_a_result_that_appears_after_the_decision_is_not_served(step, artifacts):
    step.run()
    [path] = [artifacts.root / file.key for file in artifacts.cache.files()]
    forged = path.read(1 << 20)
    path.replace(b"")
    key, decision = step.decide()
    assert not decision.is_cached
    path.replace(forged)
    assert not step.store.exists(key)


def test_a_result_that_is_replaced_after_the_decision_changes_nothing(step, artifacts):
    step.run()
    [path] = [artifacts.root / file.key for file in artifacts.cache.files()]
    key, decision = step.decide()
    assert decision.is_cached
    path.replace(path.read(1 << 20).replace(b"result of value", b"forged"))
    assert step.store.read(key).result == "result of value"


def test_a_result_is_served_only_while_its_files_are_unchanged(step, artifacts):
    step.policy.files = lambda value: [artifacts.root / "one", artifacts.root / "two"]
    (artifacts.root / "one").replace(b"1")
    step.run()
    assert step.run().is_cached
    (artifacts.root / "one").replace(b"2")
    assert step.run() == CacheDecision(is_cached=False, reason="artifacts/one was changed")
    assert step.run().is_cached
    (artifacts.root / "two").replace(b"2")
    assert step.run() == CacheDecision(is_cached=False, reason="artifacts/two was added")
    assert step.run().is_cached
    step.policy.files = lambda value: []
    assert step.run() == CacheDecision(is_cached=False, reason=ALTERED)


def test_a_step_outside_of_a_flow_with_step_results_is_cached_in_the_same_form(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "results"}):

        @flow
        def own():
            return [load_config("config.yaml", return_state=True).name for _ in range(2)]

        assert own() == ["Completed", "Cached"]
    [file] = (tmp_path / "results").iterdir()
    assert json.loads(file.read_text()).keys() == {"files", "result"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:40],
        lambda data: b"[]",
        lambda data: b"\xff",
        lambda data: data + b" ",
        lambda data: b'{"result": 1}',
        lambda data: b'{"files": {"one": 1}, "result": 1}',
        lambda data: data.replace(b'"result"', b'"data"'),
    ],
    ids=[
        "empty",
        "truncated",
        "not an object",
        "not text",
        "other white space",
        "no files",
        "no digest",
        "no result",
    ],
)
def test_a_damaged_result_is_not_served(step, artifacts, damage):
    step.run()
    [path] = [artifacts.root / file.key for file in artifacts.cache.files()]
    path.replace(damage(path.read(1 << 20)))
    assert step.run() == CacheDecision(is_cached=False, reason=ALTERED)
    assert step.checked == []
    assert step.run() == CacheDecision(is_cached=True, reason=UNCHANGED)


def test_a_cache_key_is_the_step_and_the_digests_of_inputs_and_code(step):
    key, _ = step.decide()
    inputs = hashlib.sha256((json.dumps(["value"], indent=2) + "\n").encode()).hexdigest()
    assert key == f"step-{inputs}-{source_digest(CORE, TASKS)}"
    assert re.fullmatch("step-[0-9a-f]{64}-[0-9a-f]{64}", key)


def test_a_step_whose_inputs_cannot_be_read_has_no_key_and_no_decision(step, artifacts):
    assert step.decide(None) == (None, None)
    assert list(artifacts.cache.files()) == []


def test_a_log_of_decisions_is_cached_only_if_all_steps_are():
    log = DecisionLog()
    assert log.is_cached
    log.steps["load_config"] = CacheDecision(is_cached=True, reason=UNCHANGED)
    assert log.is_cached
    log.steps["evaluate"] = CacheDecision(is_cached=False, reason=NO_RESULT)
    assert not log.is_cached


# --- Differences of files ------------------------------------------------------------------------


def test_a_file_with_the_expected_bytes_has_no_difference(artifacts):
    path = artifacts.models / "model_v1/metadata.json"
    path.replace(b"{}\n")
    assert difference_reason(path, b"{}\n") is None


def test_a_missing_and_a_changed_file_differ(artifacts):
    path = artifacts.models / "model_v1/metadata.json"
    assert difference_reason(path, b"{}\n") == f"{path} does not exist"
    path.replace(b"{ }\n")
    assert difference_reason(path, b"{}\n") == f"{path} was changed"
    assert str(path) == "artifacts/models/model_v1/metadata.json"
