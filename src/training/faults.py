"""Faults of a config: the error that lists them, and YAML's form of a value for its message."""

from pathlib import Path

from src.errors import truncated_repr

__all__ = ["ConfigError", "Faults", "yaml_repr"]


class ConfigError(ValueError):
    """Raised when a config is not valid; the message lists every fault with its line."""


class Faults(list[tuple[int, str]]):
    """The faults of a file: line numbers, from 1, and messages."""

    def check(self, source: str | Path, *more: str) -> None:
        """Raise if there are faults.

        Args:
            source: The file.
            more: Faults without a line.

        Raises:
            ConfigError: There are faults; lists all of them, in the order of their lines.
        """
        lines = [f"{source}:{line}: {fault}" for line, fault in sorted(self)]
        if lines or more:
            raise ConfigError("\n".join([*lines, *(f"{source}: {fault}" for fault in more)]))


def yaml_repr(value: object) -> str:
    """Return a value as YAML writes it, truncated; used in errors."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return truncated_repr(value)
