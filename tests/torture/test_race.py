"""Many processes that work on one artifacts root concurrently."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.evaluation.evaluator import simulated_metrics
from src.records.canonical import canonical_json
from src.training.registry import list_models
from tests.examples import without_runs, written
from tests.torture.harness import (
    LONG,
    Worker,
    comparable,
    copy_root,
    faults,
    make_project,
    running_worker,
    temporary_files,
)

WRITERS = 16
READERS = 2
VERSIONS = 50 if LONG else 15  # per writer
ROUNDS = 100 if LONG else 20


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with running_worker(tmp_path) as worker:
        yield worker


def test_many_writers_lose_no_entry_and_readers_see_a_list_that_only_grows(worker, tmp_path):
    registry = tmp_path / "models/registry.json"
    writers = [
        {
            "task": "register",
            "registry": str(registry),
            "models": [model(f"model-{writer}-{number}") for number in range(VERSIONS)],
        }
        for writer in range(WRITERS)
    ]
    readers = [
        {"task": "read", "registry": str(registry), "seed": reader} for reader in range(READERS)
    ]
    results = worker.results(*writers, *readers)

    models = list_models(registry)
    assert sorted(map(canonical_json, models)) == sorted(
        canonical_json(each) for writer in writers for each in writer["models"]
    )
    assert registry.read_bytes() == canonical_json({"models": models})
    assert sorted(path.name for path in registry.parent.iterdir()) == [
        "registry.json",
        "registry.json.lock",
    ]

    stamps = {version: (a, b) for result in results[:WRITERS] for version, a, b in result}
    latest_begin, overlaps = 0, 0
    for entry in models:
        began, acknowledged = stamps[entry["model_version"]]
        # Each entry was acknowledged after the registration of every earlier one had begun.
        assert acknowledged > latest_begin, entry["model_version"]
        overlaps += began < latest_begin
        latest_begin = max(latest_begin, began)
    assert overlaps >= VERSIONS, "the writers hardly overlapped"

    for lengths in results[WRITERS:]:
        assert lengths == sorted(lengths)
        assert lengths[-1] == WRITERS * VERSIONS
        assert len(lengths) > 10, "the readers hardly read during the writes"
    seen = [len(lengths) for lengths in results[WRITERS:]]
    line = f"{len(models)} entries, {overlaps} overtaken while waiting, {seen} lists read"
    print(line)  # noqa: T201  # shown by `pytest -rP`


def test_two_concurrent_runs_of_one_version_with_one_config_both_succeed(worker, tmp_path):
    start, [config, *_] = make_project(tmp_path)
    versions = [f"model-{number}" for number in range(ROUNDS)]
    root = copy_root(start, tmp_path / "root")
    assert race(worker, versions, [config, config], root) == [["succeeded"] * 2] * ROUNDS

    alone = run(
        worker, [(config, version) for version in versions], copy_root(start, tmp_path / "alone")
    )
    assert faults(root) == []
    # The rounds follow each other, so the order of the entries is fixed too.
    assert without_runs(written(root)) == without_runs(written(alone))


def test_of_two_concurrent_runs_with_different_configs_one_wins_and_one_changes_nothing(
    worker, tmp_path
):
    start, configs = make_project(tmp_path)
    versions = [f"model-{number}" for number in range(ROUNDS)]
    root = copy_root(start, tmp_path / "root")
    results = race(worker, versions, configs[:2], root)
    for result in results:
        assert sorted(result) == ["conflict", "succeeded"]

    winners = [configs[result.index("succeeded")] for result in results]
    alone = run(
        worker, list(zip(winners, versions, strict=True)), copy_root(start, tmp_path / "alone")
    )
    assert faults(root) == []
    assert comparable(root) == comparable(alone)


def test_of_two_concurrent_registrations_with_different_content_one_wins(worker, tmp_path):
    registry = tmp_path / "models/registry.json"
    contents = [[model(f"model-{n}", samples) for n in range(ROUNDS)] for samples in (20, 21)]
    first, second = worker.results(
        *(
            {
                "task": "rounds",
                "rounds": [{"registry": str(registry), "metadata": each} for each in content],
            }
            for content in contents
        )
    )
    results = list(zip(first, second, strict=True))
    for result in results:
        assert sorted(result) == ["True", "conflict"]
    expected = [contents[result.index("True")][n] for n, result in enumerate(results)]
    assert registry.read_bytes() == canonical_json({"models": expected})


def test_concurrent_evaluations_of_one_version_all_succeed_and_leave_complete_files(
    worker, tmp_path
):
    versions = [f"model-{number}" for number in range(6 * ROUNDS)]
    for version in versions:
        path = tmp_path / "models" / version / "metadata.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(canonical_json(model(version)))
    task = {
        "task": "rounds",
        "rounds": [
            {
                "evaluate": version,
                "models": str(tmp_path / "models"),
                "evaluations": str(tmp_path / "evaluations"),
            }
            for version in versions
        ],
    }
    expected = [
        canonical_json(
            {
                "model_version": version,
                "dataset_version": "dataset_v1",
                "metrics": simulated_metrics(model(version)),
            }
        ).decode()
        for version in versions
    ]
    assert worker.results(*[task] * 4) == [expected] * 4
    assert temporary_files(tmp_path) == []


def model(version: str, samples: int = 20) -> dict[str, Any]:
    return {
        "model_version": version,
        "base_model": "org/model",
        "dataset_version": "dataset_v1",
        "training_config": {"epochs": 3},
        "num_training_samples": samples,
    }


def race(worker: Worker, versions: list[str], configs: list[str], root: Path) -> list[list[str]]:
    """Run each version concurrently in one process per config; return the results per version."""
    results = worker.results(
        *(
            {
                "task": "rounds",
                "rounds": [
                    {"config": config, "version": version, "root": str(root)}
                    for version in versions
                ],
            }
            for config in configs
        )
    )
    return [list(result) for result in zip(*results, strict=True)]


def run(worker: Worker, pairs: list[tuple[str, str]], root: Path) -> Path:
    """Run each version with its config in a single process; return the artifacts root."""
    steps = [{"config": config, "version": version, "root": str(root)} for config, version in pairs]
    [results] = worker.results({"task": "rounds", "rounds": steps})
    assert set(results) == {"succeeded"}
    return root
