import json

import pytest

from src.artifacts import Artifacts
from src.training.config import ConfigFile, TrainingConfig
from src.training.leaderboard import (
    SIMULATED_BETTER,
    SweptModel,
    leaderboard,
    write_leaderboard,
)
from tests.examples import METADATA

LOSS = {"loss": "lower"}


def model(number, metrics, *, better=SIMULATED_BETTER, is_cached=False, **settings):
    return SweptModel(
        config=f"c{number}.yaml",
        model_version=f"v{number}",
        settings={"epochs": 3, **settings},
        metrics=metrics,
        better=better,
        is_cached=is_cached,
    )


def versions(rows):
    return [row["model_version"] for row in rows]


def test_models_are_ranked_by_quality_then_by_the_other_simulated_metrics():
    rows = leaderboard(
        [
            model(1, {"quality_score": 0.5, "cost_per_1k_tokens": 0.02, "latency_ms": 10}),
            model(2, {"quality_score": 0.5, "cost_per_1k_tokens": 0.01, "latency_ms": 90}),
            model(3, {"quality_score": 0.6, "cost_per_1k_tokens": 0.09, "latency_ms": 99}),
        ]
    )
    assert versions(rows) == ["v3", "v2", "v1"]


def test_another_metric_ranks_in_the_direction_that_its_evaluator_declares():
    models = [
        model(1, {"quality_score": 0.9, "latency_ms": 50}),
        model(2, {"quality_score": 0.1, "latency_ms": 20}),
    ]
    assert versions(leaderboard(models, "latency_ms")) == ["v2", "v1"]
    losses = [model(n, {"loss": 3.0 - n, "accuracy": n}, better=LOSS) for n in (1, 2)]
    assert versions(leaderboard(losses)) == ["v2", "v1"]


def test_the_first_declared_metric_ranks_if_there_is_no_quality_score():
    better = {"accuracy": "higher", "loss": "lower"}
    models = [model(n, {"accuracy": n % 2, "loss": n}, better=better) for n in (1, 2, 3)]
    assert versions(leaderboard(models)) == ["v1", "v3", "v2"]


def test_a_metric_without_a_declared_direction_cannot_rank():
    with pytest.raises(ValueError) as caught:
        leaderboard([model(1, {"loss": 1.0, "length": 5}, better=LOSS)], "length")
    assert str(caught.value) == (
        "rank_by: expected one of loss, found 'length'. An evaluator declares with `better` "
        "whether a higher or lower metric is better."
    )


def test_a_metric_that_is_no_finite_number_is_the_worst():
    values = [float("nan"), "best", None, 10**400, True, 0.1]
    rows = leaderboard([model(n, {"quality_score": value}) for n, value in enumerate(values)])
    assert rows[0]["quality_score"] == 0.1


def test_a_row_has_what_differs_first_then_the_metrics_then_the_other_settings():
    [row, _] = leaderboard(
        [
            model(1, {"latency_ms": 5, "quality_score": 0.9}, rank=4, name="a", is_cached=True),
            model(2, {"latency_ms": 5, "quality_score": 0.8}, rank=8, name="a"),
        ]
    )
    assert list(row.items()) == [
        ("model_version", "v1"),
        ("rank", 4),
        ("quality_score", 0.9),
        ("latency_ms", 5),
        ("epochs", 3),
        ("name", "a"),
        ("config", "c1.yaml"),
        ("cached", True),
    ]


def test_an_option_that_only_some_configs_have_differs():
    rows = leaderboard([model(1, {}), model(2, {}, **{"trainer.rank": 8})])
    assert [row["trainer.rank"] for row in rows] == [None, 8]


def test_true_and_1_are_different_settings():
    rows = leaderboard([model(1, {}, x=1), model(2, {}, x=True)])
    assert list(rows[0])[1] == "x"


def test_the_first_config_of_a_version_counts():
    one = model(1, {"quality_score": 0.5})
    other = SweptModel(
        config="other.yaml",
        model_version="v1",
        settings={},
        metrics={"quality_score": 0.9},
        better=SIMULATED_BETTER,
        is_cached=True,
    )
    [row] = leaderboard([one, other])
    assert (row["config"], row["quality_score"]) == ("c1.yaml", 0.5)


def test_a_metric_of_the_name_of_another_column_is_left_out():
    metrics = {"quality_score": 0.5, "config": 1.0, "epochs": 2.0, "cached": 3.0}
    [row] = leaderboard([model(1, metrics)])
    assert (row["config"], row["epochs"], row["cached"]) == ("c1.yaml", 3, False)


@pytest.mark.parametrize("metrics", [None, [], "text", {"quality_score": 0.5}])
def test_a_simulated_evaluation_that_was_altered_has_the_three_columns(metrics):
    config = TrainingConfig(**METADATA["training_config"])
    file = ConfigFile(config=config, path="c.yaml", sha256="0" * 64)
    found = SweptModel.from_run(file, "v1", {"metrics": metrics}, None, is_cached=False)
    assert list(found.metrics) == ["quality_score", "cost_per_1k_tokens", "latency_ms"]


def test_an_empty_leaderboard_has_no_rows():
    assert leaderboard([], "anything") == []


def test_the_file_of_a_sweep_is_named_after_its_configs_and_replaced_as_a_whole(project):
    artifacts = Artifacts.open()
    rows = leaderboard([model(1, {"quality_score": 0.5})])
    summary = {"leaderboard": rows, "failed": [{"config": "x", "error": "y"}], "cached": 0}
    path = write_leaderboard(summary, "grid", ["a.yaml", "b.yaml"], artifacts)
    assert str(path) == "artifacts/sweeps/grid-173150f685db.json"
    assert json.loads(path.read(1 << 20)) == {
        "leaderboard": rows,
        "failed": [{"config": "x", "error": "y"}],
    }
    assert (
        write_leaderboard(summary | {"failed": []}, "grid", ["a.yaml", "b.yaml"], artifacts) == path
    )
    assert json.loads(path.read(1 << 20))["failed"] == []
    assert write_leaderboard(summary, "grid", ["a.yaml"], artifacts) != path


def test_a_path_that_is_not_utf_8_is_escaped_in_the_file(project):
    summary = {
        "leaderboard": [],
        "failed": [{"config": "c\udcff.yaml", "error": "c\udcff.yaml: no such file."}],
    }
    path = write_leaderboard(summary, "configs", ["c\udcff.yaml"], Artifacts.open())
    assert json.loads(path.read(1 << 20))["failed"] == [
        {"config": "c\\udcff.yaml", "error": "c\\udcff.yaml: no such file."}
    ]
