"""Attestation of an evaluation, by the statement in its provenance.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.digest import Digest
from src.environment import Invocation, core_dependency, run_details
from src.evaluation.measuring import Evaluator
from src.records.canonical import is_same_json, sha256
from src.records.layout import EVALUATION_FILE, STATEMENT_FILE, STATEMENT_LIMIT
from src.records.statement import (
    COMPONENT_EVALUATION_BUILD,
    EVALUATION_BUILD,
    ResolvedDependency,
    Statement,
    parse_statement,
)
from src.storage import StorePath

__all__ = ["attest_evaluation"]


def attest_evaluation(
    evaluation: bytes,
    folder: StorePath,
    dependencies: Sequence[ResolvedDependency],
    invocation: Invocation,
    *,
    model_version: str,
    evaluator: Evaluator,
    weights: Mapping[str, Digest],
) -> None:
    """Write the statement of an evaluation, unless there is a statement of the same evaluation.

    Args:
        evaluation: The bytes of evaluation.json.
        folder: The folder of evaluation.json.
        dependencies: The inputs of the evaluation, without the core.
        invocation: The run. The statement records the first run with this evaluation.
        model_version: The model that was evaluated.
        evaluator: The evaluator that measured it.
        weights: The weights that were measured; empty if nothing was trained.

    Raises:
        CorruptFileError: There is a statement that cannot be parsed. It is left as found.
        OSError: The statement cannot be written; an old statement is unchanged.
    """
    path, digest = folder / STATEMENT_FILE, sha256(evaluation)
    measured_by = evaluator.to_dict()

    def attests(statement: Statement) -> bool:
        named = statement.parameters.get("evaluator", measured_by if is_simple else None)
        return statement.subject_sha256 == digest and is_same_json(named, measured_by)

    is_simple = evaluator.is_simulated and not weights

    def new() -> bytes:
        parameters: dict[str, Any] = {"model_version": model_version}
        build_type, inputs = EVALUATION_BUILD, [*dependencies, core_dependency()]
        if not is_simple:
            build_type = COMPONENT_EVALUATION_BUILD
            parameters["evaluator"] = measured_by
            inputs += evaluator.dependencies(weights)
        statement = Statement(
            subject=EVALUATION_FILE,
            subject_sha256=digest,
            build_type=build_type,
            parameters=parameters,
            dependencies=tuple(inputs),
            **run_details(invocation),
        )
        return statement.to_bytes()

    found = path.read(STATEMENT_LIMIT)
    data = new() if found is None else found
    written = path.create(data)
    is_own = found is None and written == data
    if not is_own and not attests(parse_statement(written, path)):
        path.replace(new())
