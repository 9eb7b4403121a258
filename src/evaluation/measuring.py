"""Evaluators as values: how a model is measured, and what is recorded about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.components.code import code_dependency, code_sha256
from src.components.component import SIMULATED
from src.digest import Digest
from src.records.canonical import canonical_json, sha256
from src.records.dataset_version import DatasetVersion
from src.records.statement import ResolvedDependency, Statement

__all__ = [
    "Evaluator",
    "Metrics",
    "function_evaluator",
    "recorded_evaluator",
    "weights_dependency",
]

Metrics = Callable[[Mapping[str, Any]], Mapping[str, float]]
"""Receives the metadata of a model; returns its metrics by name, which are finite numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """An evaluator of models.

    Attributes:
        identity: What it is, as JSON; `use` is its name. An evaluation is never replaced by one of
            another identity.
        measure: Receives the metadata of a model and the folder of its weights, which is `None` if
            nothing was trained; returns the metrics by name.
        version: The version that it declares; `None` if its files identify its code.
        code: SHA-256 by path of the files of its code.
        measured: Metrics that are measured on the clock, so that they differ from run to run.
        better: `higher` or `lower` by metric.
        dataset: The data that it measures on; `None` if it uses no data.
        described_again: Returns the evaluator as its code is now; `None` if it is as described
            here.
    """

    identity: Mapping[str, Any]
    measure: Callable[[Mapping[str, Any], Path | None], Mapping[str, float]]
    version: str | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[str, ...] = ()
    better: Mapping[str, str] = field(default_factory=dict)
    dataset: DatasetVersion | None = None
    described_again: Callable[[], "Evaluator | None"] = lambda: None

    def current(self) -> "Evaluator":
        """Return this evaluator, described again if its code was edited during a long training."""
        return self.described_again() or self

    @property
    def name(self) -> str:
        """Its name, e.g. `held-out-loss`."""
        return str(self.identity["use"])

    @property
    def is_simulated(self) -> bool:
        """Whether it is the simulated evaluator, whose numbers follow from names alone."""
        return self.name == SIMULATED

    @property
    def code_sha256(self) -> str:
        """SHA-256 of its code; see `code_sha256`."""
        return code_sha256(self.version, self.code)

    def to_dict(self) -> dict[str, Any]:
        """Return its identity and what it declares about its metrics, as JSON."""
        declared = {"measured": list(self.measured), "better": dict(self.better)}
        return {**self.identity, **{key: value for key, value in declared.items() if value}}

    def dataset_dependency(self) -> ResolvedDependency | None:
        """Return its data as a resolved dependency; `None` if it uses no data."""
        if self.dataset is None:
            return None
        return ResolvedDependency(
            name="evaluation dataset",
            uri=self.dataset.name,
            digest={"sha256": self.dataset.sha256},
            annotations={"num_samples": self.dataset.num_samples},
        )

    def dependencies(self, weights: Mapping[str, Digest]) -> list[ResolvedDependency]:
        """Return the evaluator, its data and the weights as resolved dependencies."""
        dependencies = [code_dependency("evaluator", self.version, self.code)]
        if (dataset := self.dataset_dependency()) is not None:
            dependencies.append(dataset)
        if weights:
            dependencies.append(weights_dependency(weights))
        return dependencies


def weights_dependency(weights: Mapping[str, Digest]) -> ResolvedDependency:
    """Return the weights of a model as a resolved dependency.

    Args:
        weights: Size and SHA-256 by path in the folder of the weights.
    """
    files = {name: each.sha256 for name, each in weights.items()}
    digest = {"sha256": sha256(canonical_json(files))}
    return ResolvedDependency(name="weights", digest=digest, annotations={"files": files})


def recorded_evaluator(evaluation: Statement) -> Any:
    """Return the evaluator that the statement of an evaluation names, as JSON."""
    return evaluation.parameters.get("evaluator", {"use": SIMULATED})


def function_evaluator(metrics: Metrics) -> Evaluator:
    """Return the evaluator for a function that a caller passes."""
    from inspect import getfile  # slow to import

    name = f"{getattr(metrics, '__module__', '?')}:{getattr(metrics, '__qualname__', '?')}"
    code = {}
    try:
        path = Path(getfile(metrics))
        code = {path.name: sha256(path.read_bytes())}
    except (OSError, TypeError):
        pass  # a function of a notebook
    return Evaluator(
        identity={"use": name},
        measure=lambda metadata, _: metrics(metadata),
        code=code,
    )
