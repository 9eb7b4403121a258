"""Errors of commands. Apart from `command`, which takes longer to import."""

__all__ = ["CommandError", "CommandStartError", "CommandTimeoutError"]


class CommandError(OSError):
    """Raised when a command failed; another try may succeed, as after an I/O error."""


class CommandStartError(CommandError):
    """Raised when a command cannot be started; another try fails, too."""


class CommandTimeoutError(CommandError):
    """Raised when a command ran for too long; another try would, too."""
