"""Who made what from what: the provenance.json beside each model and each evaluation.

Each is an in-toto Statement v1 (https://in-toto.io/Statement/v1) about the file beside it, with a
SLSA Provenance v1 predicate (https://slsa.dev/spec/v1.0/provenance), unsigned. That of a model
binds its version to config and data; that of an evaluation holds the digest of the model's.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from src import __version__
from src.source import CORE, source_digest
from src.storage import (
    CorruptFileError,
    canonical_json,
    create,
    parse_json,
    read,
    replace,
    sha256,
    shown,
)
from src.versions import ModelVersionConflict, differences

__all__ = [
    "PROVENANCE_NAME",
    "Invocation",
    "Material",
    "Provenance",
    "bind_model",
    "check_provenance",
    "parse_provenance",
    "read_provenance",
    "vouch_for_evaluation",
]

PROVENANCE_NAME = "provenance.json"
PROJECT = "llm-training-pipeline"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
TRAINING = "urn:llm-training-pipeline:train:v1"
EVALUATION = "urn:llm-training-pipeline:evaluate:v1"
PYTHON_BUILDER = "urn:llm-training-pipeline:builder:python"
GIT_TIMEOUT_SECONDS = 5.0


def now() -> str:
    """Give the time in UTC, in milliseconds, as RFC 3339 writes it."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{nanoseconds // 10**6:03}Z"


def _new_id() -> str:
    return os.urandom(16).hex()  # as good as a UUID, without the import


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """The run that makes something, as its provenance will tell of it.

    Attributes:
        id: Names the run; 32 random hexadecimal digits where none is given.
        url: Where more about the run can be read.
        builder: URI of what runs the code.
        started_on: RFC 3339, UTC; the present where none is given.
        clock: Gives the time at which what it makes is done, in the same form.
    """

    id: str = field(default_factory=_new_id)
    url: str | None = None
    builder: str = PYTHON_BUILDER
    started_on: str = field(default_factory=now)
    clock: Callable[[], str] = now


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Something that a result was made of: a ResourceDescriptor of in-toto.

    Attributes:
        name: What it was to the run: `config`, `dataset`, `code` ...
        uri: Where it lay.
        digest: Its digests by algorithm, e.g. `sha256`.
        annotations: What else there is to say of it.
    """

    name: str
    uri: str | None = None
    digest: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give its JSON form, without what is absent."""
        fields = {"uri": self.uri, "digest": self.digest, "annotations": self.annotations}
        return {"name": self.name} | {key: value for key, value in fields.items() if value}

    @classmethod
    def from_dict(cls, value: object) -> "Material":
        """Read its JSON form.

        Raises:
            ValueError: It is not one; names the field.
        """
        digest = _get(value, "digest", dict | None) or {}
        for algorithm, text in digest.items():
            if not isinstance(text, str):
                raise ValueError(f"digest.{algorithm}: expected text, found {shown(text)}.")
        return cls(
            name=_get(value, "name", str),
            uri=_get(value, "uri", str | None),
            digest=digest,
            annotations=_get(value, "annotations", dict | None) or {},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What a provenance.json says.

    Attributes:
        subject: Name of the file it is about.
        subject_sha256: SHA-256 of that file's bytes.
        build_type: URI of what was done.
        parameters: What whoever started the run asked for.
        materials: What the file was made of, each under a name of its own.
        builder: URI of what ran the code.
        builder_version: Its versions by component.
        invocation_id: Names the run.
        url: Where more about the run can be read.
        started_on: RFC 3339, UTC.
        finished_on: RFC 3339, UTC.
    """

    subject: str
    subject_sha256: str
    build_type: str
    parameters: Mapping[str, Any]
    materials: tuple[Material, ...]
    builder: str
    builder_version: Mapping[str, str]
    invocation_id: str
    url: str | None
    started_on: str
    finished_on: str

    def material(self, name: str) -> Material | None:
        """Give the material of that name."""
        return next((each for each in self.materials if each.name == name), None)

    def digest(self, name: str, algorithm: str = "sha256") -> str | None:
        """Give the digest of the material of that name."""
        material = self.material(name)
        return material.digest.get(algorithm) if material else None

    def annotations(self, name: str) -> Mapping[str, Any]:
        """Give what else is said of the material of that name."""
        material = self.material(name)
        return material.annotations if material else {}

    def to_dict(self) -> dict[str, Any]:
        """Give its JSON form."""
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
        return {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": self.subject, "digest": {"sha256": self.subject_sha256}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": self.build_type,
                    "externalParameters": self.parameters,
                    "resolvedDependencies": [each.to_dict() for each in self.materials],
                },
                "runDetails": run,
            },
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Provenance":
        """Read its JSON form.

        Raises:
            ValueError: It is not one; names the field.
        """
        for key, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
            if (found := _get(value, key, str)) != expected:
                raise ValueError(f"{key}: expected {expected!r}, found {shown(found)}.")
        definition, run = "predicate.buildDefinition", "predicate.runDetails"
        materials = []
        for index, each in enumerate(_get(value, f"{definition}.resolvedDependencies", list)):
            try:
                materials.append(Material.from_dict(each))
            except ValueError as error:
                raise ValueError(f"{definition}.resolvedDependencies.{index}.{error}") from error
        return cls(
            subject=_get(value, "subject.0.name", str),
            subject_sha256=_get(value, "subject.0.digest.sha256", str),
            build_type=_get(value, f"{definition}.buildType", str),
            parameters=_get(value, f"{definition}.externalParameters", dict),
            materials=tuple(materials),
            builder=_get(value, f"{run}.builder.id", str),
            builder_version=_get(value, f"{run}.builder.version", dict),
            invocation_id=_get(value, f"{run}.metadata.invocationId", str),
            url=_get(value, f"{run}.byproducts.0.uri", str | None),
            started_on=_get(value, f"{run}.metadata.startedOn", str),
            finished_on=_get(value, f"{run}.metadata.finishedOn", str),
        )


_KINDS = {dict: "an object", dict | None: "an object", list: "a list"}


def _get(value: Any, path: str, kind: Any) -> Any:
    """Give what is at a dotted path of JSON, if it is of its kind."""
    for key in path.split("."):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal():
            value = next(iter(value[int(key) :]), None)
        else:
            value = None
    if not isinstance(value, kind):
        found = "nothing" if value is None else shown(value)
        raise ValueError(f"{path}: expected {_KINDS.get(kind, 'text')}, found {found}.")
    return value


def read_provenance(path: Path) -> Provenance | None:
    """Read a provenance.json; `None` where there is none.

    Raises:
        CorruptFileError: As `parse_provenance`.
    """
    data = read(path)
    return None if data is None else parse_provenance(data, path)


def parse_provenance(data: bytes, source: Path) -> Provenance:
    """Read a provenance.json.

    Args:
        data: The bytes of the file.
        source: The file they came from, for the error.

    Raises:
        CorruptFileError: They are not a statement as it is written here; names file and place.
    """
    value = parse_json(data, source)
    try:
        return Provenance.from_dict(value)
    except ValueError as error:
        raise CorruptFileError(f"{source}: {error} Left as found.") from error


# --- A model -------------------------------------------------------------------------------------


def bind_model(
    metadata: Mapping[str, Any],
    folder: Path,
    materials: Sequence[Material],
    invocation: Invocation,
    *,
    root: Path,
) -> bool:
    """Bind a model version to its config and data: write its provenance.json, unless it is there.

    Args:
        metadata: What the model's metadata.json holds, or will hold.
        folder: The folder of the model version.
        materials: What the model was made of; that named `dataset` with its `sha256`.
        invocation: The run; told of only by the first one, which wins.
        root: The folder that no write may leave.

    Returns:
        Whether this call wrote it.

    Raises:
        ModelVersionConflict, CorruptFileError: As `check_provenance`. Nothing was changed.
        OSError: The disk refused; nothing half-written is left.
    """
    path = folder / PROVENANCE_NAME
    data_sha256 = next(each.digest["sha256"] for each in materials if each.name == "dataset")
    data = found = check_provenance(metadata, folder, data_sha256)
    if data is None:
        statement = Provenance(
            subject="metadata.json",
            subject_sha256=sha256(canonical_json(metadata)),
            build_type=TRAINING,
            parameters={
                "config": metadata["training_config"],
                "model_version": metadata["model_version"],
            },
            materials=(*materials, *_environment()),
            **_run_details(invocation),
        )
        data = canonical_json(statement.to_dict())
    written = create(path, data, root=root)
    if written == data:
        return found is None
    # Another run came first.
    _check(parse_provenance(written, path), metadata, path, data_sha256)
    return False


def check_provenance(metadata: Mapping[str, Any], folder: Path, data_sha256: str) -> bytes | None:
    """Hold a model, as it would be made now, against what its version was bound to.

    Args:
        metadata: What its metadata.json would hold.
        folder: The folder of the model version.
        data_sha256: SHA-256 of the data.

    Returns:
        The bytes of its provenance.json, which binds it to just that; `None` where there is none.

    Raises:
        ModelVersionConflict: It is bound to another config or other data; names both.
        CorruptFileError: The provenance.json is not that of this version's metadata.json. It is
            left as found.
    """
    path = folder / PROVENANCE_NAME
    data = read(path)
    if data is not None:
        _check(parse_provenance(data, path), metadata, path, data_sha256)
    return data


def _check(
    provenance: Provenance, metadata: Mapping[str, Any], path: Path, data_sha256: str
) -> None:
    version = metadata["model_version"]
    if (found := provenance.parameters.get("model_version")) != version:
        raise CorruptFileError(
            f"{path}: model_version: expected {version!r}, found {shown(found)}. Left as found."
        )
    recorded = {
        "training_config": provenance.parameters.get("config"),
        "data_sha256": provenance.digest("dataset"),
    }
    new = {"training_config": metadata["training_config"], "data_sha256": data_sha256}
    if details := differences(recorded, new):
        raise ModelVersionConflict(version, path, details)
    expected = sha256(canonical_json(metadata))
    if provenance.subject_sha256 != expected:
        raise CorruptFileError(
            f"{path}: subject: expected sha256 {expected} of {provenance.subject}, found "
            f"{shown(provenance.subject_sha256)}. Left as found; restore it, or delete it to have "
            "it written again."
        )


# --- An evaluation -------------------------------------------------------------------------------


def vouch_for_evaluation(
    evaluation: bytes,
    folder: Path,
    materials: Sequence[Material],
    invocation: Invocation,
    *,
    model_version: str,
    root: Path,
) -> None:
    """Write an evaluation's provenance.json, unless there is one of the same evaluation.

    Args:
        evaluation: The bytes of evaluation.json, which is on the disk.
        folder: The folder that it lies in.
        materials: What it was made of, less the core.
        invocation: The run; told of only by the first one that gave this evaluation.
        model_version: The model that was evaluated.
        root: The folder that no write may leave.

    Raises:
        CorruptFileError: There is one that cannot be read. It is left as found.
        OSError: The disk refused; the old one, if any, is still there.
    """
    path, digest = folder / PROVENANCE_NAME, sha256(evaluation)

    def new() -> bytes:
        statement = Provenance(
            subject="evaluation.json",
            subject_sha256=digest,
            build_type=EVALUATION,
            parameters={"model_version": model_version},
            materials=(*materials, _core()),
            **_run_details(invocation),
        )
        return canonical_json(statement.to_dict())

    found = read(path)
    data = new() if found is None else found
    written = create(path, data, root=root)
    ours = found is None and written == data
    if not ours and parse_provenance(written, path).subject_sha256 != digest:
        replace(path, new(), root=root)


# --- The run -------------------------------------------------------------------------------------


def _run_details(invocation: Invocation) -> dict[str, Any]:
    return {
        "builder": invocation.builder,
        "builder_version": {PROJECT: __version__},
        "invocation_id": invocation.id,
        "url": invocation.url,
        "started_on": invocation.started_on,
        "finished_on": invocation.clock(),
    }


def _core() -> Material:
    return Material(name="core", digest={"sha256": source_digest(CORE)})


@cache
def _environment() -> tuple[Material, ...]:
    """Give the code and what it runs on, as this process found them."""
    version = {"version": sys.version.split()[0], "implementation": sys.implementation.name}
    return (
        *_checkout(CORE),
        _core(),
        Material(name="python", annotations=version),
        Material(name="packages", annotations=dict(sorted(_packages(sys.path).items()))),
    )


def _checkout(folder: Path) -> list[Material]:
    """Give the commit that `folder` was checked out from, if git knows."""
    import subprocess

    # Without optional locks git writes nothing; files that it does not track are not of the code.
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch"]
    try:
        status = subprocess.run(  # noqa: S603  # no part of it comes from outside
            [*command, "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="replace",
            timeout=GIT_TIMEOUT_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    commit = re.search(r"^# branch\.oid ([0-9a-f]{40,64})$", status, re.MULTILINE)
    dirty = re.search("^[^#]", status, re.MULTILINE) is not None
    if commit is None:
        return []
    return [Material(name="code", digest={"gitCommit": commit[1]}, annotations={"dirty": dirty})]


def _packages(folders: Sequence[str]) -> dict[str, str]:
    """Give the installed packages and their versions, by the names of their folders alone.

    `importlib.metadata` would take longer to import than this takes to run. This project itself is
    left out: installed or not it is the same code, which is told of by digest and commit.
    """
    found: dict[str, str] = {}
    for folder in folders:
        with suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in entries:
                if entry.name.endswith(".dist-info"):
                    name, _, version = entry.name.removesuffix(".dist-info").rpartition("-")
                    found.setdefault(re.sub("[-_.]+", "-", name).lower(), version)
    found.pop(PROJECT, None)
    return found
