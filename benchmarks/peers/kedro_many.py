"""Kedro: many configs in one process, a session each."""

import sys
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project


def main() -> None:
    """Take every config that is named through the pipeline of the project in this folder."""
    bootstrap_project(Path.cwd())
    for path in sys.argv[1:]:
        with KedroSession.create(runtime_params={"version": Path(path).stem}) as session:
            session.run()
