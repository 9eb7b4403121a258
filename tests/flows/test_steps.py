"""A dry run predicts exactly what the run then does, and changes nothing on disk."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import src.environment
import tasks.caching
from benchmarks.make_dataset import make_dataset
from flows import training_pipeline as flow_module
from flows.steps import dry_run
from flows.training_pipeline import training_pipeline
from src.prediction import Prediction, predict
from src.rendering.text import reason_first
from tasks.caching import CacheDecision, DecisionLog, step_results
from tests.examples import CONFIG
from tests.flows.runs import STEPS, record

CODE = "code of the core changed"
OTHER_VERSION = "another model version"


def edit(name: str, old: str, new: str) -> None:
    """Edit a file of the only model, or another file."""
    for path in Path().glob(name):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def delete(name: str) -> None:
    """Delete a file of the only model."""
    for path in Path().glob(name):
        path.unlink()


def replace_data() -> None:
    edit("artifacts/datasets/dataset_v1/data.jsonl", "a", "b")
    delete("artifacts/datasets/dataset_v1/metadata.json")


def remove_entry() -> None:
    Path("artifacts/models/registry.json").write_text('{\n  "models": []\n}\n')
    delete("artifacts/evaluations/*/evaluation.json")


CHANGES: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "config value": lambda: edit("config.yaml", "epochs: 3", "epochs: 4"),
    "config comment": lambda: edit("config.yaml", "# A run", "# The run"),
    "data": replace_data,
    "data differs from its metadata": lambda: edit("artifacts/datasets/*/data.jsonl", "a", "b"),
    "dataset metadata": lambda: edit("artifacts/datasets/*/metadata.json", "{", "{ "),
    "metadata.json deleted": lambda: delete("artifacts/models/*/metadata.json"),
    "metadata.json edited": lambda: edit("artifacts/models/*/metadata.json", "3,", "4,"),
    "provenance.json deleted": lambda: delete("artifacts/models/*/provenance.json"),
    "provenance.json edited": lambda: edit("artifacts/models/*/provenance.json", "3.", "4."),
    "evaluation.json deleted": lambda: delete("artifacts/evaluations/*/evaluation.json"),
    "evaluation.json edited": lambda: edit("artifacts/evaluations/*/evaluation.json", "0.", "1."),
    "statement of the evaluation deleted": lambda: delete(
        "artifacts/evaluations/*/provenance.json"
    ),
    "registry entry removed": remove_entry,
    "registry deleted": lambda: delete("artifacts/models/registry.json"),
    "results deleted": lambda: shutil.rmtree("artifacts/.cache", ignore_errors=True),
    "results cut off": lambda: [
        path.write_bytes(path.read_bytes()[:-1]) for path in Path("artifacts/.cache").glob("*")
    ],
    CODE: lambda: None,
    OTHER_VERSION: lambda: None,
}

SEVERAL = st.sampled_from(sorted(CHANGES.keys() - {CODE, OTHER_VERSION}))


@pytest.fixture
def logs(monkeypatch) -> list[DecisionLog]:
    """The decisions of each flow run."""
    found: list[DecisionLog] = []

    @contextmanager
    def recording(artifacts: object) -> Iterator[DecisionLog]:
        with step_results(artifacts) as decisions:
            found.append(decisions)
            yield decisions

    monkeypatch.setattr(flow_module, "step_results", recording)
    return found


def predicted(version: str | None) -> tuple[Prediction, dict[str, CacheDecision]]:
    decisions = DecisionLog()
    prediction = predict("config.yaml", version, run=partial(dry_run, decisions=decisions))
    return prediction, decisions.steps


def check(version: str | None, logs: list[DecisionLog], tree: Callable[..., object]) -> None:
    """Predict a run, run it, and compare."""
    before, files = tree(Path()), record()
    prediction, decisions = predicted(version)
    assert tree(Path()) == before
    state = training_pipeline("config.yaml", version, return_state=True)
    assert decisions == logs[-1].steps
    assert list(decisions) == STEPS[: len(decisions)]
    if prediction.error is None:
        assert state.name == "Completed", state
    else:
        assert (state.name, state.message) == ("Failed", reason_first(prediction.error))
    now = record()
    assert now.keys() >= files.keys()
    assert {change.path: change.position is None for change in prediction.changes} == {
        f"artifacts/{key}": key not in files
        for key, data in now.items()
        if files.get(key) != data and not key.endswith(".lock")
    }
    if state.name == "Completed":
        version = state.result()["model_version"]
        assert prediction.model_version == version
        for change in prediction.changes:
            if change.position is not None and "provenance" not in change.path:
                one, other = before[change.path], Path(change.path).read_bytes()
                assert one[: change.position] == other[: change.position]
                at = slice(change.position, change.position + 1)
                assert one[at] != other[at]


def change_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tasks.caching, src.environment):
        monkeypatch.setattr(module, "source_digest", lambda *_: "c0de" * 16)


@pytest.mark.parametrize(
    ("change", "version"),
    [*((change, None) for change in CHANGES), ("config value", "model_v1"), ("data", "model_v1")],
)
def test_a_dry_run_predicts_the_decisions_the_changes_and_the_error_of_the_run(
    project, logs, tree, monkeypatch, change, version
):
    training_pipeline("config.yaml", version)
    CHANGES[change]()
    if change == CODE:
        change_code(monkeypatch)
    check("model_v2" if change == OTHER_VERSION else version, logs, tree)


@given(
    st.lists(SEVERAL, min_size=2, max_size=4, unique=True),
    st.sampled_from([None, "model_v1"]),
)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_dry_run_predicts_a_run_after_several_changes(project, logs, tree, changes, version):
    Path("config.yaml").write_text(CONFIG)
    for folder in ("models", "evaluations", "datasets", ".cache"):
        shutil.rmtree(Path("artifacts", folder), ignore_errors=True)
    make_dataset("dataset_v1", samples=20, datasets_dir=Path("artifacts/datasets"))
    training_pipeline("config.yaml", version)
    for change in sorted(changes):
        CHANGES[change]()
    check(version, logs, tree)


def test_a_first_run_is_predicted(project, logs, tree):
    check(None, logs, tree)


def test_a_config_that_does_not_exist_is_predicted(project, logs, tree):
    Path("config.yaml").unlink()
    check(None, logs, tree)
