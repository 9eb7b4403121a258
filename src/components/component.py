"""A component: the trainer or the evaluator that a config names.

A component has two parts. Its identity (what it is, its options, seed and code) enters the name of
a derived model version and the record. Its execution (interpreter, time limit, devices) is for one
run and enters neither.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "COMMAND",
    "SIMULATED",
    "Component",
    "ComponentNotRunError",
    "Execution",
    "check_may_run",
    "components_not_run",
    "may_run",
]

COMMAND = "command"
SIMULATED = "simulated"

_MAY_RUN: ContextVar[bool] = ContextVar("may_run", default=True)


class ComponentNotRunError(Exception):
    """Raised in place of running a component, in `components_not_run`."""


@contextmanager
def components_not_run() -> Iterator[None]:
    """Run no component in the block: raise `ComponentNotRunError` instead."""
    token = _MAY_RUN.set(False)
    try:
        yield
    finally:
        _MAY_RUN.reset(token)


def may_run() -> bool:
    """Return whether components may run now; see `components_not_run`."""
    return _MAY_RUN.get()


def check_may_run(what: str) -> None:
    """Check that a component may run now.

    Raises:
        ComponentNotRunError: The caller is in `components_not_run`; says `what` would run.
    """
    if not _MAY_RUN.get():
        raise ComponentNotRunError(what)


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """How a component is run. Not a part of its identity.

    Attributes:
        python: The interpreter of its environment; that of this process if `None`. A relative path
            starts at the working directory.
        timeout_seconds: The longest time that it may take; not limited if `None`.
        settings: Further values for the component, e.g. a device or a number of processes.
    """

    python: str | None = None
    timeout_seconds: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A trainer or an evaluator, as a config names it.

    Attributes:
        use: The name of an installed component, `module:attribute`, or `command`.
        options: Values for the component, which checks them.
        seed: Seed of its random numbers.
        argv: Program and arguments of a command.
        code: Patterns of further files of its code, relative to the working directory. The files
            that `argv` names, or the file of the module, always belong to its code.
        base_model: Patterns of the files of the base model; their digests are recorded.
        dataset_version: The dataset version that an evaluator measures on; that of the model if
            `None`.
        measured: Metrics of a command that are measured on the clock, such as a latency.
        better: For metrics of a command, whether `higher` or `lower` is better.
        execution: How it is run.
        lines: The lines of its keys and options in the config, for errors.
    """

    use: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    argv: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    base_model: tuple[str, ...] = ()
    dataset_version: str | None = None
    measured: tuple[str, ...] = ()
    better: Mapping[str, str] = field(default_factory=dict)
    execution: Execution = field(default_factory=Execution)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def names_code(self) -> bool:
        """Whether the config itself says which code to run, rather than an installed name."""
        return self.use == COMMAND or ":" in self.use or self.execution.python is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the identity of the component as JSON, without its code."""
        identity = {
            "argv": list(self.argv),
            "dataset_version": self.dataset_version,
            "options": dict(self.options),
        }
        return {"use": self.use, "seed": self.seed} | {
            key: value for key, value in identity.items() if value
        }
