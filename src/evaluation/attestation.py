"""Attestation of an evaluation, by the statement in its provenance.json."""

from collections.abc import Sequence

from src.environment import Invocation, core_dependency, run_details
from src.records.canonical import sha256
from src.records.layout import EVALUATION_FILE, STATEMENT_FILE, STATEMENT_LIMIT
from src.records.statement import (
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
) -> None:
    """Write the statement of an evaluation, unless there is a statement of the same evaluation.

    Args:
        evaluation: The bytes of evaluation.json, which is already written.
        folder: The folder of evaluation.json.
        dependencies: The inputs of the evaluation, without the core.
        invocation: The run. The statement records the first run with this evaluation.
        model_version: The model that was evaluated.

    Raises:
        CorruptFileError: There is a statement that cannot be parsed. It is left as found.
        OSError: The statement cannot be written; an old statement is unchanged.
    """
    path, digest = folder / STATEMENT_FILE, sha256(evaluation)

    def new() -> bytes:
        statement = Statement(
            subject=EVALUATION_FILE,
            subject_sha256=digest,
            build_type=EVALUATION_BUILD,
            parameters={"model_version": model_version},
            dependencies=(*dependencies, core_dependency()),
            **run_details(invocation),
        )
        return statement.to_bytes()

    found = path.read(STATEMENT_LIMIT)
    data = new() if found is None else found
    written = path.create(data)
    is_own = found is None and written == data
    if not is_own and parse_statement(written, path).subject_sha256 != digest:
        path.replace(new())
