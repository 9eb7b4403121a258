"""The leaderboard of a sweep: its models, the best first."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from src.artifacts import Artifacts
from src.errors import truncated_repr
from src.records.canonical import canonical_json, dotted, is_same_json, sha256
from src.records.evaluation import is_metric
from src.storage import StorePath
from src.training.component_config import SEED
from src.training.config import ConfigFile

__all__ = ["SIMULATED_BETTER", "SweptModel", "leaderboard", "write_leaderboard"]

SIMULATED_BETTER = {
    "quality_score": "higher",
    "cost_per_1k_tokens": "lower",
    "latency_ms": "lower",
}
DEFAULT_METRIC = "quality_score"
DIGEST_LENGTH = 12  # hexadecimal digits in the name of a file


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptModel:
    """A model of a sweep.

    Attributes:
        config: Its training config.
        model_version: Its version.
        settings: The settings of the config, and the options of its trainer and evaluator.
        metrics: The metrics of its evaluation.
        better: Whether `higher` or `lower` is better, by the name of a metric; the most important
            metric first.
        is_cached: Whether the sweep found all of it in the record.
    """

    config: str
    model_version: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    better: Mapping[str, str]
    is_cached: bool

    @classmethod
    def from_run(
        cls,
        config_file: ConfigFile,
        model_version: str,
        evaluation: Mapping[str, Any],
        better: Mapping[str, str] | None,
        *,
        is_cached: bool,
    ) -> "SweptModel":
        """Return the model of a run.

        Args:
            config_file: Its config.
            model_version: Its version.
            evaluation: The contents of evaluation.json; another process may have altered it.
            better: See the attribute; empty if its evaluator declares nothing, `None` for the
                simulated evaluator. Metrics of other evaluators are sorted by name.
            is_cached: See the attribute.
        """
        found = evaluation.get("metrics")
        metrics = found if isinstance(found, dict) else {}
        if better is None:
            metrics = {name: metrics.get(name) for name in SIMULATED_BETTER}
        return cls(
            config=config_file.path,
            model_version=model_version,
            settings=asdict(config_file.config) | _options(config_file),
            metrics=metrics,
            better=SIMULATED_BETTER if better is None else dict(sorted(better.items())),
            is_cached=is_cached,
        )


def _options(config_file: ConfigFile) -> dict[str, Any]:
    """Return seed and options of trainer and evaluator, e.g. `trainer.rank`."""
    components = {"trainer": config_file.trainer, "evaluator": config_file.evaluator}
    return {
        f"{kind}.{name}": value
        for kind, component in components.items()
        if component is not None
        for name, value in [(SEED, component.seed), *dotted(component.options)]
    }


def leaderboard(models: Iterable[SweptModel], rank_by: str = "") -> list[dict[str, Any]]:
    """Return a row for each model, the best first.

    Args:
        models: The models. Of those of the same version, the first one counts.
        rank_by: The metric that ranks them. If empty, `quality_score`; if no evaluator declares
            that one, the first of the metrics for which they declare `better`. The other metrics of
            these rank models that are equal in the first one.

    Returns:
        `model_version`, the settings that differ between the models, the metrics, the other
        settings, `config` and `cached`. A metric with the name of another column is left out.

    Raises:
        ValueError: No evaluator declares whether a higher or lower `rank_by` is better.
    """
    by_version: dict[str, SweptModel] = {}
    for each in models:
        by_version.setdefault(each.model_version, each)
    different = [*by_version.values()]
    ranks = _ranks(different, rank_by)
    varying = _varying([each.settings for each in different])
    rows = []
    for model in sorted(different, key=lambda each: _rank(each.metrics, ranks)):
        settings = {name: model.settings.get(name) for name in varying}
        others = {name: value for name, value in model.settings.items() if name not in varying}
        last = {**others, "config": model.config, "cached": model.is_cached}
        first = {"model_version": model.model_version, **settings}
        metrics = {name: value for name, value in model.metrics.items() if name not in first | last}
        ranking = {name: metrics[name] for name in ranks if name in metrics}
        rows.append({**first, **ranking, **metrics, **last})
    return rows


def _varying(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that differ."""
    names = dict.fromkeys(name for each in settings for name in each)
    return [
        name
        for name in names
        if any(not is_same_json(each.get(name), settings[0].get(name)) for each in settings)
    ]


def _ranks(models: Sequence[SweptModel], rank_by: str) -> dict[str, int]:
    """Return the metrics that rank, the most important first: -1 if higher is better, 1 if lower.

    The metrics of the simulated evaluator rank only if no other evaluator declares any.
    """
    better: dict[str, str] = {}
    for model in models:
        if model.better is not SIMULATED_BETTER:
            better |= model.better
    better = better or SIMULATED_BETTER
    if rank_by and rank_by not in better and models:
        raise ValueError(
            f"rank_by: expected one of {', '.join(better)}, found {truncated_repr(rank_by)}. An "
            "evaluator declares with `better` whether a higher or lower metric is better."
        )
    first = rank_by or DEFAULT_METRIC
    names = sorted(better, key=lambda name: name != first)  # keeps the order of the others
    return {name: -1 if better[name] == "higher" else 1 for name in names}


def _rank(metrics: Mapping[str, Any], ranks: Mapping[str, int]) -> list[float]:
    """Return the sort key of a model; a metric that is not a finite number sorts last."""
    return [
        sign * metrics[name] if is_metric(metrics.get(name)) else math.inf
        for name, sign in ranks.items()
    ]


def write_leaderboard(
    summary: Mapping[str, Any], name: str, configs: Sequence[str], artifacts: Artifacts
) -> StorePath:
    """Write the leaderboard of a sweep and its failed configs to a file.

    Afterwards the artifacts root holds `sweeps/<name>-<digest>.json`. The digest is the first 12
    hexadecimal digits of the SHA-256 of the paths of all configs, so the next run of the same sweep
    replaces the file.

    Args:
        summary: `leaderboard` and `failed`; see `training_sweep`.
        name: The name of the sweep, as the file begins with it.
        configs: The paths of its configs.
        artifacts: The artifacts root.

    Returns:
        The path of the file.

    Raises:
        OSError: The file cannot be written; an old one is unchanged.
    """
    digest = sha256(canonical_json(_as_utf8([*configs])))[:DIGEST_LENGTH]
    path = artifacts.sweeps / f"{_as_utf8(name)}-{digest}.json"
    rows = {key: summary[key] for key in ("leaderboard", "failed")}
    path.replace(canonical_json(_as_utf8(rows)))
    return path


def _as_utf8(value: Any) -> Any:
    """Return a JSON value in which bytes of file names that are not UTF-8 are escaped."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list):
        return [_as_utf8(each) for each in value]
    if isinstance(value, dict):
        return {name: _as_utf8(each) for name, each in value.items()}
    return value
