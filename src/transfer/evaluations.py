"""Plan the copy of the evaluations of a model version: the replaced ones, then the current one."""

from src.components.component import SIMULATED
from src.errors import CorruptFileError
from src.evaluation.evaluator import EARLIER_DIGITS, EARLIER_FOLDER
from src.evaluation.measuring import recorded_evaluator
from src.records.canonical import is_same_json, sha256
from src.records.layout import EVALUATION_FILE, METADATA_LIMIT, STATEMENT_FILE, STATEMENT_LIMIT
from src.storage import StorePath
from src.transfer.models import read_statement_of
from src.transfer.planner import Planner, Sizes, read_listed

__all__ = ["plan_evaluations"]

KIND = "evaluations"


def plan_evaluations(planner: Planner, version: str, found: Sizes, there: Sizes) -> None:
    """Add the earlier evaluations of a model version, and the current one.

    Args:
        planner: The plan, which is extended.
        version: The model version.
        found: The files of its evaluations at the source.
        there: The files of its evaluations at the destination.

    Raises:
        CorruptFileError: A file cannot be parsed, or is not as its statement records.
        OSError: A file cannot be read.
    """
    names = {name.rpartition("/")[0] for name in found}
    earlier = sorted(name for name in names if name.startswith(f"{EARLIER_FOLDER}/"))
    copied = set()
    for name in [*(each for each in earlier if each.count("/") == 1), ""]:
        copied |= _plan_evaluation(planner, version, name, found, there)
    source = planner.source.evaluations / version
    planner.unknown += [f"{source}/{name}" for name in found.keys() - copied]


def _plan_evaluation(
    planner: Planner, version: str, folder: str, found: Sizes, there: Sizes
) -> set[str]:
    """Add the two files of an evaluation; return their paths in the folder of the version.

    `folder` is the path of the evaluation in that folder; empty for the current one.
    """
    start = f"{folder}/" if folder else ""
    source = planner.source.evaluations / version / folder
    target = planner.target.evaluations / version / folder
    here = {name[len(start) :]: size for name, size in found.items() if name.startswith(start)}
    evaluation = read_listed(source / EVALUATION_FILE, METADATA_LIMIT, here)
    attestation = read_listed(source / STATEMENT_FILE, STATEMENT_LIMIT, here)
    files = {EVALUATION_FILE: evaluation, STATEMENT_FILE: attestation}
    if attestation is not None:
        statement = read_statement_of(version, attestation, source / STATEMENT_FILE)
        if evaluation is not None and sha256(evaluation) != statement.subject_sha256:
            raise CorruptFileError(
                f"{source / EVALUATION_FILE}: expected sha256 {statement.subject_sha256}, found "
                f"{sha256(evaluation)}. Left as found; evaluate the model again, or restore the "
                "file from a backup."
            )
        if not is_same_json(recorded_evaluator(statement), {"use": SIMULATED}):
            files = dict(reversed(files.items()))  # only the statement says who measured
    if folder:
        _check_name(source, attestation or evaluation)
    for name, data in files.items():
        if data is not None:
            size = there.get(f"{start}{name}")
            planner.add_file(KIND, source / name, target / name, data, size)
    return {f"{start}{name}" for name, data in files.items() if data is not None}


def _check_name(folder: StorePath, data: bytes | None) -> None:
    """Check that the folder of an earlier evaluation is named by the SHA-256 of its file."""
    if data is not None and folder.name != sha256(data)[:EARLIER_DIGITS]:
        raise CorruptFileError(
            f"{folder}: expected the first {EARLIER_DIGITS} digits of the sha256 of its file, "
            f"{sha256(data)}. Left as found; restore the folder from a backup."
        )
