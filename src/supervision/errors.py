"""Errors of commands. Apart from `command`, which takes longer to import."""

__all__ = ["CommandError", "CommandStartError", "CommandTimeoutError"]


class CommandError(OSError):
    """Raised when a command failed; another try may succeed, as after an I/O error."""

    def __repr__(self) -> str:
        """Return the first line alone: logs of retries have it in one line."""
        return f"{type(self).__name__}({str(self).partition(chr(10))[0]!r})"


class CommandStartError(CommandError):
    """Raised when a command cannot be started; another try fails, too."""


class CommandTimeoutError(CommandError):
    """Raised when a command ran for too long; another try would, too."""
