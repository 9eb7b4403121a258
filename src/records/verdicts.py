"""verdicts.json: the verdicts of the last audit, and what did not match."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from src.errors import CorruptFileError, truncated_repr
from src.names import is_version
from src.records.canonical import canonical_json, parse_json

__all__ = ["Audit", "ModelVerdict", "Verdict", "parse_audit"]

Verdict = Literal["MATCH", "AS RECORDED", "MISMATCH", "UNREADABLE", "UNFINISHED"]

MAX_DETAILS = 10
MAX_DETAIL = 1000  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVerdict:
    """The verdict on a model.

    Attributes:
        verdict: One of `Verdict`.
        details: What does not match, one sentence for each check.
    """

    verdict: Verdict
    details: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """The verdicts of an audit.

    Attributes:
        audited_on: The time at which the audit ended, RFC 3339 in UTC.
        models: The verdict by model version.
    """

    audited_on: str
    models: Mapping[str, ModelVerdict]

    def to_bytes(self) -> bytes:
        """Return the bytes of the verdicts.json; long details are cut off."""
        models = {version: _to_dict(each) for version, each in self.models.items()}
        return canonical_json({"audited_on": self.audited_on, "models": models})


def _to_dict(model: ModelVerdict) -> dict[str, Any]:
    details = _bounded(model.details)
    return {"verdict": model.verdict, **({"details": details} if details else {})}


def _bounded(details: Sequence[str]) -> list[str]:
    return [each[:MAX_DETAIL] for each in details[:MAX_DETAILS]]


def parse_audit(data: bytes, source: object) -> Audit:
    """Parse a verdicts.json; details that are longer, or more, than are written are cut off.

    Args:
        data: The bytes of the file.
        source: The file the bytes came from; used in errors.

    Raises:
        CorruptFileError: The data is not of this format; names file and field.
    """
    value = parse_json(data, source)
    audited_on, models = value.get("audited_on"), value.get("models")
    if not isinstance(audited_on, str):
        raise _fault(source, "audited_on", "a time", audited_on)
    if not isinstance(models, dict):
        raise _fault(source, "models", "an object", models)
    verdicts = {}
    for version, model in models.items():
        if not is_version(version):
            raise _fault(source, "models", "names of model versions", version)
        verdicts[version] = _parse_model(model, source, f"models.{version}")
    return Audit(audited_on=audited_on, models=verdicts)


def _parse_model(model: object, source: object, place: str) -> ModelVerdict:
    if not isinstance(model, dict):
        raise _fault(source, place, "an object", model)
    verdict: Any = model.get("verdict")
    details = model.get("details", [])
    if verdict not in get_args(Verdict):
        raise _fault(source, f"{place}.verdict", f"one of {', '.join(get_args(Verdict))}", verdict)
    if not isinstance(details, list) or not all(isinstance(each, str) for each in details):
        raise _fault(source, f"{place}.details", "a list of texts", details)
    return ModelVerdict(verdict=verdict, details=tuple(_bounded(details)))


def _fault(source: object, place: str, expected: str, found: object) -> CorruptFileError:
    return CorruptFileError(
        f"{source}: {place}: expected {expected}, found {truncated_repr(found)}. Left as found."
    )
