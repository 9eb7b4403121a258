"""The entry point of `llm-train`, which imports the commands."""

import sys

from ops.stdio import open_standard_files

__all__ = ["main"]


def main() -> None:
    """Run `cli.main`. Ctrl-C ends the process silently while its modules are imported."""
    open_standard_files()
    try:
        from cli.main import main
    except KeyboardInterrupt:
        sys.exit(130)
    main()
