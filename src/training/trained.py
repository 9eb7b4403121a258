"""The result of a training as a value, and its form in the statement of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from src.components.code import code_dependency
from src.digest import Digest, digests_from_json, digests_to_json
from src.errors import CorruptFileError
from src.records.canonical import canonical_json, sha256
from src.records.statement import ResolvedDependency, Statement, weights_of

if TYPE_CHECKING:
    from src.components.description import Description

__all__ = ["Training", "recorded_training", "training_dependencies"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """The result of a training, by digest, and what it was made with.

    Attributes:
        trainer: The identity of the trainer; see `Description.identity`.
        version: The version that the trainer declares; `None` if its files identify its code.
        code: SHA-256 by path of the files of the trainer's code.
        base_model: Size and SHA-256 by path of the files of the base model.
        environment: Processor, libraries and variables of the process that trained.
        files: Size and SHA-256 of the weights and the history, by path in the model's folder.
    """

    trainer: Mapping[str, Any]
    version: str | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    base_model: Mapping[str, Digest] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Digest] = field(default_factory=dict)

    @classmethod
    def of(cls, trainer: "Description") -> "Training":
        """Return a training by this trainer, without a result."""
        return cls(
            trainer=trainer.identity(),
            version=trainer.version,
            code=trainer.code,
            base_model=trainer.base_model,
        )

    @property
    def weights(self) -> dict[str, Digest]:
        """Size and SHA-256 of the weights, by path in the folder of the weights."""
        return weights_of(self.files)

    @property
    def options(self) -> dict[str, Any]:
        """The options of the trainer by name; empty if the record has no object of options."""
        options = self.trainer.get("options")
        return options if isinstance(options, dict) else {}

    def inputs(self) -> dict[str, Any]:
        """Return the inputs of the training to which its version is bound."""
        base_model = {name: each.sha256 for name, each in self.base_model.items()}
        return {"trainer": dict(self.trainer), "base_model": base_model}


def recorded_training(statement: Statement, source: object) -> Training | None:
    """Return the training that a statement records; `None` if nothing was trained.

    Args:
        statement: The statement of a model.
        source: Its file; used in errors.

    Raises:
        CorruptFileError: A field of the statement has the wrong type.
    """
    trainer = statement.parameters.get("trainer")
    if trainer is None:
        return None
    if not isinstance(trainer, dict):
        reason = "externalParameters.trainer: expected an object."
        raise CorruptFileError(f"{source}: {reason} Left as found.")
    try:
        base_model = digests_from_json(statement.annotations("base model").get("files", {}))
    except ValueError as error:
        raise CorruptFileError(f"{source}: {error} Left as found.") from error
    code = statement.annotations("trainer").get("files", {})
    return Training(
        trainer={**trainer, "code": statement.digest("trainer")},
        version=statement.annotations("trainer").get("version"),
        code=code if isinstance(code, dict) else {},
        base_model=base_model,
        environment=statement.annotations("training environment"),
        files=statement.files,
    )


def training_dependencies(training: Training) -> list[ResolvedDependency]:
    """Return the trainer, the base model and the environment as resolved dependencies."""
    dependencies = [code_dependency("trainer", training.version, training.code)]
    if training.base_model:
        files = digests_to_json(training.base_model)
        dependencies.append(
            ResolvedDependency(
                name="base model",
                digest={"sha256": sha256(canonical_json(files))},
                annotations={"files": files},
            )
        )
    environment = ResolvedDependency(name="training environment", annotations=training.environment)
    return [*dependencies, environment]
