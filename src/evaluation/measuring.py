"""Evaluators: what measures a model, and what of it is recorded."""

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from src.components.child import write_json
from src.components.component import COMMAND, check_may_run
from src.components.description import PROGRAMS, Description, code_sha256, interpreter
from src.components.output import line_logger
from src.digest import Digest
from src.errors import CorruptFileError
from src.evaluation.child import METRICS_FILE
from src.records.canonical import canonical_json, parse_json, sha256
from src.records.dataset_version import DatasetVersion
from src.records.layout import METADATA_LIMIT
from src.records.statement import ResolvedDependency
from src.storage import read_file
from src.supervision import Command, run_command

__all__ = [
    "SIMULATED",
    "Evaluator",
    "EvaluatorOutputError",
    "Metrics",
    "component_evaluator",
    "function_evaluator",
]

logger = logging.getLogger(__name__)

Metrics = Callable[[Mapping[str, Any]], Mapping[str, float]]
"""Receives the metadata of a model; returns its metrics by name, which are finite numbers."""

SIMULATED = "simulated"


class EvaluatorOutputError(ValueError):
    """Raised when an evaluator has left no valid metrics."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """What measures a model.

    Attributes:
        identity: What it is, as JSON; `use` is its name. An evaluation is never replaced by one of
            another identity.
        measure: Receives the metadata of a model and the folder of its weights, which is `None` if
            nothing was trained; returns the metrics by name.
        version: The version that it declares; `None` if its files identify its code.
        code: SHA-256 by path of the files of its code.
        measured: Metrics that are measured on the clock, so that they differ from run to run.
        better: `higher` or `lower` by metric.
        dataset: The data that it measures on; `None` if it needs none.
    """

    identity: Mapping[str, Any]
    measure: Callable[[Mapping[str, Any], Path | None], Mapping[str, float]]
    version: str | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[str, ...] = ()
    better: Mapping[str, str] = field(default_factory=dict)
    dataset: DatasetVersion | None = None

    @property
    def name(self) -> str:
        """Its name, e.g. `held-out-loss`."""
        return str(self.identity["use"])

    @property
    def is_simulated(self) -> bool:
        """Whether it is the simulated evaluator, whose numbers follow from names alone."""
        return self.name == SIMULATED

    def to_dict(self) -> dict[str, Any]:
        """Return its identity and what it declares about its metrics, as JSON."""
        declared = {"measured": list(self.measured), "better": dict(self.better)}
        return {**self.identity, **{key: value for key, value in declared.items() if value}}

    def dependencies(self, weights: Mapping[str, Digest]) -> list[ResolvedDependency]:
        """Return the evaluator, its data and the weights as resolved dependencies."""
        about_code: dict[str, Any] = {"files": dict(self.code)}
        if self.version is not None:
            about_code["version"] = self.version
        dependencies = [
            ResolvedDependency(
                name="evaluator",
                digest={"sha256": code_sha256(self.version, self.code)},
                annotations=about_code,
            )
        ]
        if self.dataset is not None:
            dependencies.append(
                ResolvedDependency(
                    name="evaluation dataset",
                    uri=self.dataset.name,
                    digest={"sha256": self.dataset.sha256},
                    annotations={"num_samples": self.dataset.num_samples},
                )
            )
        if weights:
            files = {name: each.sha256 for name, each in weights.items()}
            dependencies.append(
                ResolvedDependency(
                    name="weights",
                    digest={"sha256": sha256(canonical_json(files))},
                    annotations={"files": files},
                )
            )
        return dependencies


def function_evaluator(metrics: Metrics) -> Evaluator:
    """Return the evaluator for a function that a caller of the core passes."""
    name = f"{getattr(metrics, '__module__', '?')}:{getattr(metrics, '__qualname__', '?')}"
    code = {}
    try:
        path = Path(inspect.getfile(metrics))
        code = {path.name: sha256(path.read_bytes())}
    except (OSError, TypeError):
        pass  # a function of a notebook
    return Evaluator(
        identity={"use": name},
        measure=lambda metadata, _: metrics(metadata),
        code=code,
    )


def component_evaluator(description: Description, dataset: DatasetVersion) -> Evaluator:
    """Return the evaluator that a config names; it measures in a child process."""
    return Evaluator(
        identity=description.component.to_dict(),
        measure=lambda metadata, model: _measure(description, dataset, metadata, model),
        version=description.version,
        code=description.code,
        measured=description.measured,
        better=description.better,
        dataset=dataset,
    )


def _measure(
    description: Description,
    dataset: DatasetVersion,
    metadata: Mapping[str, Any],
    model: Path | None,
) -> dict[str, float]:
    component, log_line = description.component, line_logger(logger)
    check_may_run(f"evaluator {component.use}")
    with TemporaryDirectory(prefix="llm-train-") as name:
        folder = Path(name)
        output = folder / "output"
        output.mkdir()
        data_path = str(Path(dataset.path).resolve())
        run_file = folder / "run.json"
        write_json(
            run_file,
            {
                "describe": None,
                "use": component.use,
                "model_version": metadata["model_version"],
                "metadata": dict(metadata),
                "config": metadata["training_config"],
                "options": component.options,
                "seed": component.seed,
                "dataset": data_path,
                "dataset_version": {
                    "name": dataset.name,
                    "path": data_path,
                    "num_samples": dataset.num_samples,
                    "sha256": dataset.sha256,
                },
                "model": None if model is None else str(model),
                "output": str(output),
                "settings": component.execution.settings,
            },
        )
        argv = list(component.argv)
        if component.use != COMMAND:
            argv = [interpreter(component), str(PROGRAMS["evaluator"])]
        run_command(
            Command(
                argv=argv,
                cwd=Path.cwd(),
                run_file=run_file,
                lock=folder / "lock",
                timeout_seconds=component.execution.timeout_seconds,
            ),
            on_line=lambda _, line: log_line(line),
        )
        return _read_metrics(output / METRICS_FILE, component.use)


def _read_metrics(path: Path, use: str) -> dict[str, float]:
    expected = f"Expected an object of finite numbers in {METRICS_FILE} of its output folder"
    try:
        data = read_file(path, METADATA_LIMIT)
        if data is None:
            raise EvaluatorOutputError(f"evaluator {use!r}: found no file. {expected}.")
        metrics = parse_json(data, METRICS_FILE)
    except CorruptFileError as error:
        raise EvaluatorOutputError(f"evaluator {use!r}: {error} {expected}.") from error
    if not metrics:
        raise EvaluatorOutputError(f"evaluator {use!r}: found no metrics. {expected}.")
    return metrics
