"""Kedro: many configs in one process, one session per config."""

import sys
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project


def main() -> None:
    """Run the pipeline of the project in this folder for every config given as an argument."""
    bootstrap_project(Path.cwd())
    for path in sys.argv[1:]:
        with KedroSession.create(runtime_params={"version": Path(path).stem}) as session:
            session.run()
