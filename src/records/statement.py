"""provenance.json: an in-toto statement with SLSA provenance, unsigned.

The format is Statement v1 (https://in-toto.io/Statement/v1) with the predicate SLSA Provenance v1
(https://slsa.dev/spec/v1.0/provenance). The statement of a model binds its version to config and
data; the statement of an evaluation contains the digest of the model's statement.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from src.digest import Digest, digests_from_json
from src.errors import CorruptFileError, truncated_repr
from src.records.canonical import MAX_DEPTH, canonical_json, is_deep, parse_json
from src.records.layout import WEIGHTS_FOLDER

__all__ = [
    "COMPONENT_EVALUATION_BUILD",
    "COMPONENT_TRAINING_BUILD",
    "EVALUATION_BUILD",
    "TRAINING_BUILD",
    "ResolvedDependency",
    "Statement",
    "parse_statement",
    "weights_of",
]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
TRAINING_BUILD = "urn:llm-training-pipeline:train:v1"
EVALUATION_BUILD = "urn:llm-training-pipeline:evaluate:v1"
# With a trainer that leaves files, or with an evaluator other than the simulated one.
COMPONENT_TRAINING_BUILD = "urn:llm-training-pipeline:train:v2"
COMPONENT_EVALUATION_BUILD = "urn:llm-training-pipeline:evaluate:v2"


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedDependency:
    """An input of a build (SLSA v1), as an in-toto ResourceDescriptor.

    Attributes:
        name: Its role in the build: `config`, `dataset`, `code` ...
        uri: Its location.
        digest: Its digests by algorithm, e.g. `sha256`.
        annotations: Further facts by name.
    """

    name: str
    uri: str | None = None
    digest: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without absent fields."""
        fields = {"uri": self.uri, "digest": self.digest, "annotations": self.annotations}
        return {"name": self.name} | {key: value for key, value in fields.items() if value}

    @classmethod
    def from_dict(cls, value: object) -> "ResolvedDependency":
        """Parse the JSON form.

        Raises:
            ValueError: A field is missing or has the wrong type; names the field.
        """
        digest = _get(value, "digest", dict | None) or {}
        for algorithm, text in digest.items():
            if not isinstance(text, str):
                raise ValueError(
                    f"digest.{algorithm}: expected text, found {truncated_repr(text)}."
                )
        return cls(
            name=_get(value, "name", str),
            uri=_get(value, "uri", str | None),
            digest=digest,
            annotations=_get(value, "annotations", dict | None) or {},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """Contents of a provenance.json.

    Attributes:
        subject: Name of the file that the statement is about.
        subject_sha256: SHA-256 of the bytes of that file.
        files: Further subjects: size and SHA-256 by path, relative to the folder of the statement.
        build_type: URI of the kind of build, e.g. `TRAINING_BUILD`.
        parameters: External parameters of the build.
        internal_parameters: Where the build ran: `host` and, of a worker's run, `worker`. Empty in
            a statement of an older release.
        dependencies: Inputs of the build, with unique names.
        builder: URI of the system that ran the build.
        builder_version: Versions of that system by component.
        invocation_id: Identifier of the run.
        url: Page with more about the run.
        started_on: RFC 3339, UTC.
        finished_on: RFC 3339, UTC.
    """

    subject: str
    subject_sha256: str
    files: Mapping[str, Digest] = field(default_factory=dict)
    build_type: str
    parameters: Mapping[str, Any]
    internal_parameters: Mapping[str, Any] = field(default_factory=dict)
    dependencies: tuple[ResolvedDependency, ...]
    builder: str
    builder_version: Mapping[str, str]
    invocation_id: str
    url: str | None
    started_on: str
    finished_on: str

    def dependency(self, name: str) -> ResolvedDependency | None:
        """Return the resolved dependency of that name."""
        return next((each for each in self.dependencies if each.name == name), None)

    def digest(self, name: str, algorithm: str = "sha256") -> str | None:
        """Return a digest of the resolved dependency of that name."""
        dependency = self.dependency(name)
        return dependency.digest.get(algorithm) if dependency else None

    def annotations(self, name: str) -> Mapping[str, Any]:
        """Return the annotations of the resolved dependency of that name."""
        dependency = self.dependency(name)
        return dependency.annotations if dependency else {}

    def to_bytes(self) -> bytes:
        """Return the bytes of the provenance.json."""
        return canonical_json(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        run: dict[str, Any] = {
            "builder": {"id": self.builder, "version": self.builder_version},
            "metadata": {
                "invocationId": self.invocation_id,
                "startedOn": self.started_on,
                "finishedOn": self.finished_on,
            },
        }
        if self.url is not None:
            run["byproducts"] = [{"name": "run", "uri": self.url}]
        internal = {"internalParameters": self.internal_parameters}
        return {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": self.subject, "digest": {"sha256": self.subject_sha256}},
                *(
                    {
                        "name": name,
                        "digest": {"sha256": each.sha256},
                        "annotations": {"size": each.size},
                    }
                    for name, each in sorted(self.files.items())
                ),
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": self.build_type,
                    "externalParameters": self.parameters,
                    **(internal if self.internal_parameters else {}),
                    "resolvedDependencies": [each.to_dict() for each in self.dependencies],
                },
                "runDetails": run,
            },
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Statement":
        """Parse the JSON form.

        Raises:
            ValueError: A field is missing or has the wrong type; names the field.
        """
        for key, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
            if (found := _get(value, key, str)) != expected:
                raise ValueError(f"{key}: expected {expected!r}, found {truncated_repr(found)}.")
        definition, run = "predicate.buildDefinition", "predicate.runDetails"
        dependencies = []
        for index, each in enumerate(_get(value, f"{definition}.resolvedDependencies", list)):
            try:
                dependencies.append(ResolvedDependency.from_dict(each))
            except ValueError as error:
                raise ValueError(f"{definition}.resolvedDependencies.{index}.{error}") from error
        subject = _get(value, "subject.0.name", str)
        subject_sha256 = _get(value, "subject.0.digest.sha256", str)
        return cls(
            subject=subject,
            subject_sha256=subject_sha256,
            files=_files(value["subject"][1:]),
            build_type=_get(value, f"{definition}.buildType", str),
            parameters=_get(value, f"{definition}.externalParameters", dict),
            internal_parameters=_get(value, f"{definition}.internalParameters", dict | None) or {},
            dependencies=tuple(dependencies),
            builder=_get(value, f"{run}.builder.id", str),
            builder_version=_get(value, f"{run}.builder.version", dict),
            invocation_id=_get(value, f"{run}.metadata.invocationId", str),
            url=_get(value, f"{run}.byproducts.0.uri", str | None),
            started_on=_get(value, f"{run}.metadata.startedOn", str),
            finished_on=_get(value, f"{run}.metadata.finishedOn", str),
        )


def parse_statement(data: bytes, source: object) -> Statement:
    """Parse a provenance.json.

    Args:
        data: The bytes of the file.
        source: The file the bytes came from; used in errors.

    Raises:
        CorruptFileError: The data is not a statement of this format; names file and field.
    """
    value = parse_json(data, source)
    if is_deep(value):
        raise CorruptFileError(f"{source}: nested in more than {MAX_DEPTH} levels. Left as found.")
    try:
        return Statement.from_dict(value)
    except ValueError as error:
        raise CorruptFileError(f"{source}: {error} Left as found.") from error


def weights_of(files: Mapping[str, Digest]) -> dict[str, Digest]:
    """Return the weights among the files of a model's statement, by path in their folder."""
    prefix = f"{WEIGHTS_FOLDER}/"
    return {
        name.removeprefix(prefix): digest
        for name, digest in files.items()
        if name.startswith(prefix)
    }


def _files(subjects: list[Any]) -> dict[str, Digest]:
    """Parse the subjects after the first one."""
    return digests_from_json(
        {
            _get(each, "name", str): {
                "sha256": _get(each, "digest.sha256", str),
                "size": _get(each, "annotations.size", int),
            }
            for each in subjects
        }
    )


_KINDS = {dict: "an object", dict | None: "an object", list: "a list", int: "an integer"}


def _get(value: Any, path: str, kind: Any) -> Any:
    """Return the value at a dotted path of a JSON value; raise if it has another type."""
    for key in path.split("."):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal():
            value = next(iter(value[int(key) :]), None)
        else:
            value = None
    if not isinstance(value, kind):
        found = "nothing" if value is None else truncated_repr(value)
        raise ValueError(f"{path}: expected {_KINDS.get(kind, 'text')}, found {found}.")
    return value
